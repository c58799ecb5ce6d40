"""BME280: Bosch's worked example, a real chip's bytes, its two published formulas, failures."""

import struct
from itertools import product

from tests.firmware.hosts import Host

# BMP280 datasheet BST-BMP280-DS001, 3.12: the example that Bosch prints for both chips' formulas.
T1, T2, T3 = 27504, 26435, -1000
P = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
ADC_T, ADC_P = 519888, 415148

# A real chip, from community.bosch-sensortec.com, "BME280 Data to test Calculations", 2019: its
# bytes, and 24.44 °C and 54.17 % as its owner computed. (The owner's 1148 hPa, out of the chip's
# range, were an error in the owner's arithmetic, and why the question was asked.)
CAPTURED_0X88 = "6c6e77663200a89227d5d00b6f18cafff9ffac260ad8bd10004b"
CAPTURED_0XE1 = "650100140b001e"
CAPTURED_0XF7 = bytes.fromhex("55338081 7fb07913")


def chip(**settings: object) -> dict[str, object]:
    return {"i2c": {"0": {"devices": [{"kind": "bme280", "address": 0x76, **settings}]}}}


def pascal(words: tuple[int, ...], adc_t: int, adc_p: int) -> float:
    """BST-BME280-DS002 8.1: the floating-point formulas of temperature and pressure."""
    t1, p1 = words[0], words[3]
    signed = [word - 0x10000 if word & 0x8000 else word for word in words]
    t2, t3 = signed[1:3]
    p2, p3, p4, p5, p6, p7, p8, p9 = signed[4:]
    t_fine = int(
        (adc_t / 16384.0 - t1 / 1024.0) * t2 + (adc_t / 131072.0 - t1 / 8192.0) ** 2 * t3,
    )
    var1 = t_fine / 2.0 - 64000.0
    var2 = var1 * var1 * p6 / 32768.0 + var1 * p5 * 2.0
    var2 = var2 / 4.0 + p4 * 65536.0
    var1 = (p3 * var1 * var1 / 524288.0 + p2 * var1) / 524288.0
    var1 = (1.0 + var1 / 32768.0) * p1
    p = (1048576.0 - adc_p - var2 / 4096.0) * 6250.0 / var1
    return p + (p9 * p * p / 2147483648.0 + p * p8 / 32768.0 + p7) / 16.0


def raw_of(data: bytes) -> list[int]:
    """Return adc_T, adc_P, adc_H of the eight bytes from 0xF7."""
    pressure, temperature = (int.from_bytes(data[i : i + 3], "big") >> 4 for i in (0, 3))
    return [temperature, pressure, int.from_bytes(data[6:8], "big")]


def test_compensation_gives_the_datasheet_s_worked_example(host: Host) -> None:
    calibration = (T1, T2, T3, *P, 0, 0, 0, 0, 0, 0)
    script = f"""
from sensors import bme280
cal = {calibration}
t, t_fine = bme280.compensate_temperature(cal, {ADC_T})
say([t, t_fine, bme280.compensate_pressure(cal, {ADC_P}, t_fine)])
"""

    centidegrees, t_fine, pascal_256 = host.said(script)

    assert centidegrees == 2508
    assert t_fine == 128422
    # The figure shows 100653.27 Pa; its footnote grants the integers their rounding.
    assert abs(pascal_256 / 256 - 100653.27) < 0.02


def test_example_read_through_the_registers(host: Host) -> None:
    words = struct.pack("<HhhHhhhhhhhh", T1, T2, T3, *P)
    host.fakes(chip(registers={"0x88": words.hex()}, raw=[ADC_T, ADC_P, 0x8000]))

    values = host.said("say(read(sensor('bme280', {'bus': {'i2c': 0, 'sda': 21, 'scl': 22}})))")

    assert values == [2508, -32768, 100653]


def test_real_chip_s_bytes_give_what_it_measured(host: Host) -> None:
    host.fakes(
        chip(
            registers={"0x88": CAPTURED_0X88, "0xE1": CAPTURED_0XE1},
            raw=raw_of(CAPTURED_0XF7),
        )
    )

    temperature, humidity, pressure = host.said("say(read(sensor('bme280', {})))")

    assert temperature == 2444
    assert abs(humidity - 5417) <= 1  # printed with two decimals, perhaps cut off
    calibration = struct.unpack("<12H", bytes.fromhex(CAPTURED_0X88)[:24])
    expected = pascal(calibration, *raw_of(CAPTURED_0XF7)[:2])
    assert 98000 < expected < 101000  # weather, near sea level
    assert abs(pressure - expected) < 1


def test_h4_and_h5_are_signed_twelve_bit_numbers_that_share_a_byte(host: Host) -> None:
    # Table 16: H4 = 0xE4 as bits 11..4, 0xE5 bits 3..0; H5 = 0xE6 as bits 11..4, 0xE5 bits 7..4.
    script = """
from sensors import bme280
say([bme280.unpack_calibration(bytes(26), bytes(high))[12:] for high in (
    (0x65, 0x01, 0x00, 0x14, 0x0B, 0x00, 0x1E),
    (0x00, 0x00, 0xFF, 0x80, 0x5A, 0x7F, 0x80),
    (0xFF, 0xFF, 0x00, 0x7F, 0xF0, 0x80, 0x7F),
)])
"""

    first, second, third = host.said(script)

    assert first == [0, 357, 0, 0x14B, 0x000, 30]
    assert second == [0, 0, 255, 0x80A - 0x1000, 0x7F5, -128]
    assert third == [0, -1, 0, 0x7F0, 0x80F - 0x1000, 127]


def percent(calibration: tuple[int, ...], adc: int, t_fine: int) -> float:
    """BST-BME280-DS002 8.1: the floating-point formula of the humidity."""
    h1, h2, h3, h4, h5, h6 = calibration
    h = t_fine - 76800.0
    h = (adc - (h4 * 64.0 + h5 / 16384.0 * h)) * (
        h2 / 65536.0 * (1.0 + h6 / 67108864.0 * h * (1.0 + h3 / 67108864.0 * h))
    )
    return min(max(h * (1.0 - h1 * h / 524288.0), 0.0), 100.0)


def test_integer_humidity_agrees_with_the_datasheet_s_floating_point_formula(host: Host) -> None:
    calibrations = [
        (75, 357, 0, 331, 0, 30),
        (75, 362, 0, 315, 50, 30),
        (75, 380, 5, 280, -40, -20),
    ]
    points = list(product(calibrations, range(18000, 42000, 1999), (40000, 76800, 128422, 200000)))
    script = f"""
from sensors import bme280
say([bme280.compensate_humidity((0,) * 12 + cal, adc, t) for cal, adc, t in {points}])
"""

    computed = host.said(script)

    expected = [percent(*point) for point in points]
    assert len({round(value) for value in expected}) > 30  # the points do cover the range
    # The datasheet gives the integers' output 22.10 format, and their error below 0.03 %.
    worst = max(abs(q10 / 1024 - value) for q10, value in zip(computed, expected, strict=True))
    assert worst < 0.05


def test_sensor_reads_back_what_the_fake_chip_measures(host: Host) -> None:
    weather = [
        (-39.5, 5.0, 310.0),
        (0.0, 99.0, 1013.25),
        (21.5, 45.25, 987.6),
        (84.0, 20.0, 1099.0),
    ]
    buses: dict[str, object] = {}
    for number, (temperature, humidity, pressure) in enumerate(weather):
        values = {"temperature": temperature, "humidity": humidity, "pressure": pressure}
        buses[str(number)] = {"devices": [{"kind": "bme280", "address": 0x76, **values}]}
    host.fakes({"i2c": buses})

    readings = host.said(
        "say([read(sensor('bme280', {'oversampling': 2, 'bus': {'i2c': n}})) for n in range(4)])"
    )

    for (temperature, humidity, pressure), values in zip(weather, readings, strict=True):
        assert abs(values[0] / 100 - temperature) <= 0.02
        assert abs(values[1] / 100 - humidity) <= 0.08
        assert abs(values[2] / 100 - pressure) <= 0.05


def test_description_fits_the_values(host: Host) -> None:
    fmt, channels = host.said("s = sensor('bme280', {})\nsay([s.fmt, s.channels])")

    assert fmt == "hhi"
    assert channels == [
        ["temperature", "°C", -2, "temperature"],
        ["humidity", "%", -2, "humidity"],
        ["pressure", "hPa", -2, "pressure"],
    ]


def test_skipped_quantities_have_no_value(host: Host) -> None:
    host.fakes(chip(raw=[ADC_T, 0x80000, 0x8000]))

    assert host.said("say(read(sensor('bme280', {})))") == [2508, -32768, -(2**31)]


def test_fault_is_an_error_that_says_what_is_wrong(host: Host) -> None:
    texts = {
        "skipped": "ValueError: bme280 at 0x76: no temperature was measured",
        "chip_id": (
            "ValueError: bme280 at 0x76: chip id is 0x58, a BMP280 without humidity, not 0x60"
        ),
        "busy": "ValueError: bme280 at 0x76: the measurement does not end",
        "blank": "ValueError: bme280 at 0x76: calibration is blank",
        "nack": "bme280 at 0x76 does not answer",
    }
    device = {"kind": "bme280", "address": 0x76}
    buses = {
        str(number): {"devices": [{**device, "faults": [fault]}]}
        for number, fault in enumerate(texts)
    }
    host.fakes({"i2c": buses})

    answers = host.said("say([read(sensor('bme280', {'bus': {'i2c': n}})) for n in range(5)])")

    for answer, text in zip(answers, texts.values(), strict=True):
        assert answer.endswith(text)
    assert answers[-1].startswith("OSError: [Errno 19]")


def test_all_ones_on_the_bus_are_no_measurement(host: Host) -> None:
    host.fakes(chip(raw=[0xFFFFF, 0xFFFFF, 0xFFFF]))

    assert "out of range" in host.said("say(read(sensor('bme280', {})))")


def test_chip_that_was_exchanged_is_set_up_anew(host: Host) -> None:
    words = struct.pack("<HhhHhhhhhhhh", T1, T2, T3, *P)
    host.fakes(chip(registers={"0x88": CAPTURED_0X88}, raw=[ADC_T, ADC_P, 0x8000]))
    gone: dict[str, object] = {"i2c": {"0": {"devices": []}}}
    second = chip(registers={"0x88": words.hex()}, raw=[ADC_T, ADC_P, 0x8000])
    script = f"""
import os
def tell(settings):
    with open("draft.json", "w") as f:
        json.dump(settings, f)
    os.rename("draft.json", "fakes.json")
s = sensor('bme280', {{}})
values = [read(s)]
tell({gone})
values.append(read(s))
tell({second})
values.append(read(s))
say(values)
"""

    before, meanwhile, after = host.said(script)

    assert before != after
    assert "does not answer" in meanwhile
    assert after == [2508, -32768, 100653]


def test_stuck_bus_is_clocked_free(host: Host) -> None:
    settings = chip(temperature=20.0)
    bus = settings["i2c"]
    assert isinstance(bus, dict)
    bus["0"]["faults"] = ["stuck"]
    host.fakes(settings)

    first, second = host.said(
        "s = sensor('bme280', {'bus': {'i2c': 0, 'sda': 21, 'scl': 22}})\nsay([read(s), read(s)])"
    )

    assert "does not answer" in first
    assert abs(second[0] - 2000) <= 1


def test_one_controller_cannot_be_on_two_pairs_of_pins(host: Host) -> None:
    script = """
sensor('bme280', {'bus': {'i2c': 0, 'sda': 21, 'scl': 22}})
try:
    sensor('sht3x', {'bus': {'i2c': 0, 'sda': 4, 'scl': 5}})
except ValueError as e:
    say(str(e))
"""

    assert host.said(script) == "i2c 0 is on sda=21 scl=22 already, not on sda=4 scl=5"


def test_oversampling_that_the_chip_has_not_is_refused(host: Host) -> None:
    script = """
try:
    sensor('bme280', {'oversampling': 3})
except ValueError as e:
    say(str(e))
"""

    assert host.said(script) == "bme280: oversampling must be 1, 2, 4, 8 or 16"
