"""Sensors that need no chip: ADC, pulse counter, the chip's temperature, heap and uptime."""

import pytest

from tests.firmware.hosts import Host

NO_RATE = -(2**31)


def test_adc_reads_millivolts_where_the_port_knows_microvolts(host: Host) -> None:
    host.fakes({"adc": {"34": 1234000}})

    fmt, channels, values = host.said(
        "s = sensor('adc', {'pin': 34})\nsay([s.fmt, s.channels, read(s)])"
    )

    assert fmt == "i"
    assert channels == [["voltage", "V", -3, "voltage"]]
    assert values == [1234]


def test_adc_scales_sixteen_bits_where_it_does_not(host: Host) -> None:
    microvolts = [0, 50000, 1650000, 3299500]
    host.fakes({"family": "rp2", "adc": dict(enumerate(microvolts))})

    readings = host.said("say([read(sensor('adc', {'pin': n}))[0] for n in range(4)])")

    for reading, volts in zip(readings, microvolts, strict=True):
        assert abs(reading - volts / 1000) <= 0.9  # 12 bits of 3.3 V


def test_adc_divider_and_scale_make_a_quantity_of_the_voltage(host: Host) -> None:
    # 100 kohm over 22 kohm: 12.2 V make 2.2 V. 0 to 10 bar as 0.5 to 4.5 V: 2.5 bar a volt.
    host.fakes({"adc": {"34": 2200000, "35": 1300000}})
    script = """
battery = sensor('adc', {'pin': 34, 'divider': [100000, 22000], 'key': 'battery'})
tank = sensor('adc', {'pin': 35, 'scale': 2.5, 'offset': -1.25, 'key': 'tank', 'unit': 'bar',
                      'device_class': 'pressure', 'exponent': -2})
say([battery.channels, read(battery), tank.channels, read(tank)])
"""

    battery, volts, tank, bars = host.said(script)

    assert battery == [["battery", "V", -3, "voltage"]]
    assert volts == [12200]
    assert tank == [["tank", "bar", -2, "pressure"]]
    assert bars == [200]


def test_adc_with_an_impossible_divider_is_refused(host: Host) -> None:
    script = """
try:
    sensor('adc', {'pin': 34, 'divider': [100, 0]})
except ValueError as e:
    say(str(e))
"""

    assert host.said(script) == "adc on pin 34: samples and divider must be positive"


@pytest.mark.parametrize("family", ["esp32", "rp2"])
def test_pulses_are_counted_by_hardware_or_by_interrupt(host: Host, family: str) -> None:
    host.fakes({"family": family})
    script = """
from fakes import pins
start = time.ticks_ms()
s = sensor('pulse', {'pin': 5})
begin = time.ticks_ms()
def pulses(n):
    for _ in range(n):
        pins.drive(5, 0)
        pins.drive(5, 1)
pulses(7)
time.sleep_ms(300)
shortest = time.ticks_diff(time.ticks_ms(), begin)
first = read(s)
longest = time.ticks_diff(time.ticks_ms(), start)
pulses(3)
second = read(s)
pins.drive(5, 0)
say([s._counter is None, first, shortest, longest, second[0], read(s)[0]])
"""

    by_interrupt, (count, millihertz), shortest, longest, later, falling = host.said(script)

    assert by_interrupt == (family == "rp2")
    assert count == 7
    assert 7e6 / longest - 1 <= millihertz <= 7e6 / shortest
    assert later == 10
    assert falling == 11


def test_rising_edges_can_be_counted_instead(host: Host) -> None:
    script = """
from fakes import pins
s = sensor('pulse', {'pin': 5, 'edge': 'rising', 'pull': 'down'})
pins.drive(5, 1)
one = read(s)[0]
pins.drive(5, 0)
say([one, read(s)[0]])
"""

    assert host.said(script) == [1, 1]


@pytest.mark.parametrize("bits", [30, 32])
def test_count_goes_on_when_the_hardware_counter_wraps(host: Host, bits: int) -> None:
    script = f"""
import machine
from fakes import pins
machine.Counter.wrap = 1 << {bits}
machine.Counter.start = (1 << {bits}) - 3
s = sensor('pulse', {{'pin': 5}})
counts = []
for _ in range(3):
    for _ in range(2):
        pins.drive(5, 0)
        pins.drive(5, 1)
    counts.append(read(s)[0])
say(counts)
"""

    assert host.said(script) == [2, 4, 6]


def test_count_goes_on_when_the_interrupt_s_counter_wraps(host: Host) -> None:
    host.fakes({"family": "rp2"})
    script = """
from fakes import pins
s = sensor('pulse', {'pin': 5})
s._edges = s._seen = 0x3FFFFFFE
counts = []
for _ in range(4):
    pins.drive(5, 0)
    pins.drive(5, 1)
    counts.append(read(s)[0])
say(counts)
"""

    assert host.said(script) == [1, 2, 3, 4]


def test_bouncing_contact_counts_once(host: Host) -> None:
    script = """
from fakes import pins
s = sensor('pulse', {'pin': 5, 'debounce_ms': 30})
time.sleep_ms(40)
for _ in range(5):
    pins.drive(5, 0)
    pins.drive(5, 1)
time.sleep_ms(40)
pins.drive(5, 0)
say(read(s)[0])
"""

    assert host.said(script) == 2


def test_rain_gauge_counts_in_millimetres(host: Host) -> None:
    script = """
from fakes import pins
s = sensor('pulse', {'pin': 5, 'per_pulse': 0.2794, 'key': 'rain', 'unit': 'mm',
                     'exponent': -4, 'device_class': 'precipitation'})
for _ in range(10):
    pins.drive(5, 0)
    pins.drive(5, 1)
say([s.fmt, s.channels[0], read(s)[0]])
"""

    fmt, channel, rain = host.said(script)

    assert fmt == "qi"
    assert channel == ["rain", "mm", -4, "precipitation"]
    assert rain == 27940


def test_rate_has_no_value_when_no_time_has_passed(host: Host) -> None:
    script = """
s = sensor('pulse', {'pin': 5})
s._read_ms = time.ticks_ms() + 60_000
say(read(s)[1])
"""

    assert host.said(script) == NO_RATE


def test_rp2040_temperature_is_the_datasheet_s_example(host: Host) -> None:
    # RP2040 datasheet 4.9.5: 27 - (V - 0.706) / 0.001721; at 3.3 V a reading of 891 is 20.1 °C.
    example, middle = host.said(
        "from sensors import chip_temperature as c\n"
        "say([c.centidegrees(891), c.centidegrees(round(0.706 / 3.3 * 4096))])"
    )

    assert abs(example - 2010) <= 5
    assert abs(middle - 2700) <= 25  # half of a step of the converter


def test_chip_temperature_comes_from_the_port_s_own_source(host: Host) -> None:
    host.fakes({"chip_temperature": 41})
    esp32 = host.said("say(read(sensor('chip_temperature', {})))")
    host.fakes({"chip_temperature": 41, "family": "rp2"})
    rp2 = host.said("say(read(sensor('chip_temperature', {})))")

    assert esp32 == [4100]
    assert abs(rp2[0] - 4100) <= 50  # 0.47 °C a step


def test_heap_reports_free_memory_and_uptime(host: Host) -> None:
    script = """
s = sensor('heap', {})
first = read(s)
time.sleep_ms(1100)
say([s.fmt, s.channels, first, read(s)])
"""

    fmt, channels, (free, started), (_, later) = host.said(script)

    assert fmt == "ii"
    assert channels == [["free_heap", "B", 0, "data_size"], ["uptime", "s", 0, "duration"]]
    assert 10000 < free < 2**31
    assert started == 0
    assert later == 1


def test_uptime_survives_the_wrap_of_the_ticks(host: Host) -> None:
    # ticks_ms wraps at 2**30: the reading before was made just before it.
    script = """
s = sensor('heap', {})
s._seen_ms = (time.ticks_ms() - 5000) % (1 << 30)
say(read(s)[1])
"""

    assert host.said(script) == 5


@pytest.mark.parametrize(("per_pulse", "exponent"), [(0.2794, 0), (2.5, 0), (0.2794, -1)])
def test_a_pulse_that_cannot_be_counted_exactly_is_refused(
    host: Host, per_pulse: float, exponent: int
) -> None:
    script = f"""
try:
    sensor('pulse', {{'pin': 5, 'per_pulse': {per_pulse}, 'exponent': {exponent}}})
    say('taken')
except ValueError as e:
    say(str(e))
"""

    refusal = host.said(script)

    assert f"per_pulse {per_pulse} " in refusal
    assert "exponent" in refusal
