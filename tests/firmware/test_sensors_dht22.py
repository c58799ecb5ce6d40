"""DHT22: the AM2302 datasheet's examples, checksum, clones, failures."""

import pytest

from tests.firmware.hosts import Host


def line(**settings: object) -> dict[str, object]:
    return {"dht": {"15": settings}}


READ = "say(read(sensor('dht22', {'pin': 15})))"


def frame(humidity: int, temperature: int) -> str:
    """Return the chip's five bytes as hex: two words and the sum of their bytes."""
    data = humidity.to_bytes(2, "big") + temperature.to_bytes(2, "big")
    return (data + bytes((sum(data) & 0xFF,))).hex()


def test_reading_gives_the_datasheet_s_example(host: Host) -> None:
    # AM2302: 0000 0010 1000 1100, 0000 0001 0101 1111, 1110 1110: 65.2 %RH, 35.1 °C.
    assert frame(0x028C, 0x015F)[-2:] == "ee"
    host.fakes(line(raw=frame(0x028C, 0x015F)))

    assert host.said(READ) == [351, 652]


def test_temperatures_below_zero_carry_a_sign_bit(host: Host) -> None:
    # AM2302: 1000 0000 0110 0101: minus 10.1 °C.
    host.fakes(line(raw=frame(0x028C, 0x8065)))

    assert host.said(READ) == [-101, 652]


def test_clones_that_use_two_s_complement_are_understood(host: Host) -> None:
    host.fakes(line(raw=frame(0x028C, 0xFF9B)))

    assert host.said(READ) == [-101, 652]


def test_fault_is_an_error_that_says_what_is_wrong(host: Host) -> None:
    lines = [
        ({"faults": ["checksum"]}, "ValueError: dht22 on pin 0: checksum error"),
        ({"faults": ["silent"]}, "dht22 on pin 1 does not answer"),
        ({"faults": ["low"]}, "ValueError: dht22 on pin 2: all bits are zero"),
        ({"raw": frame(1001, 351)}, "ValueError: dht22: 1001/10 % and 351/10 °C is out of range"),
        ({"raw": frame(0x028C, 0x7F72)}, "is out of range"),
    ]
    host.fakes({"dht": {str(pin): settings for pin, (settings, _) in enumerate(lines)}})

    answers = host.said("say([read(sensor('dht22', {'pin': pin})) for pin in range(5)])")

    for answer, (_, text) in zip(answers, lines, strict=True):
        assert answer.endswith(text)


def test_second_reading_waits_until_the_chip_can_have_measured_anew(host: Host) -> None:
    host.fakes(line(temperature={"steps": [[0, 20.0], [1, 25.0]]}, humidity=50))
    script = """
s = sensor('dht22', {'pin': 15})
start = time.ticks_ms()
values = [read(s), read(s)]
say([values, time.ticks_diff(time.ticks_ms(), start)])
"""

    (first, second), took_ms = host.said(script)

    assert first == [200, 500]
    assert second == [250, 500]
    assert 2000 <= took_ms < 3500


def test_frozen_driver_s_own_numbers_agree(host: Host) -> None:
    # The fake line under the driver that boards have built in.
    host.fakes(line(temperature=-10.1, humidity=65.2))
    script = """
import dht, machine
d = dht.DHT22(machine.Pin(15))
d.measure()
say([d.temperature(), d.humidity()])
"""

    temperature, humidity = host.said(script)

    assert temperature == pytest.approx(-10.1)
    assert humidity == pytest.approx(65.2)
