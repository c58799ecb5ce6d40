"""SHT3x: Sensirion's CRC example and conversion formula, commands, failures."""

from fractions import Fraction

from tests.firmware.hosts import Host


def chip(**settings: object) -> dict[str, object]:
    return {"i2c": {"0": {"devices": [{"kind": "sht3x", "address": 0x44, **settings}]}}}


def test_crc_gives_the_datasheet_s_example(host: Host) -> None:
    # SHT3x-DIS datasheet, table 20: CRC (0xBEEF) = 0x92.
    assert host.said("from sensors import sht3x\nsay(sht3x.crc8(0xBE, 0xEF))") == 0x92


def test_conversion_is_the_datasheet_s_formula_rounded_to_hundredths(host: Host) -> None:
    # 4.13: T = -45 + 175 * S / (2**16 - 1), RH = 100 * S / (2**16 - 1).
    raws = [*range(0, 65536, 97), 65535]
    script = f"""
from sensors import sht3x
say([[sht3x.centidegrees(raw), sht3x.centipercent(raw)] for raw in {raws}])
"""

    computed = host.said(script)

    half = Fraction(1, 2)
    for raw, (centidegrees, centipercent) in zip(raws, computed, strict=True):
        part = Fraction(raw, 65535)
        assert abs(centidegrees - (17500 * part - 4500)) <= half
        assert abs(centipercent - 10000 * part) <= half


def test_readings_at_known_points(host: Host) -> None:
    points = {0: [-4500, 0], 65535: [13000, 10000], 26214: [2500, 4000]}  # 0.4 of full scale
    device = {"kind": "sht3x", "address": 0x44}
    buses = {str(n): {"devices": [{**device, "raw": [raw, raw]}]} for n, raw in enumerate(points)}
    host.fakes({"i2c": buses})

    readings = host.said("say([read(sensor('sht3x', {'bus': {'i2c': n}})) for n in range(3)])")

    assert readings == list(points.values())


def test_sensor_reads_back_what_the_fake_chip_measures(host: Host) -> None:
    host.fakes(chip(temperature=-12.34, humidity=87.65))

    temperature, humidity = host.said("say(read(sensor('sht3x', {})))")

    assert abs(temperature + 1234) <= 1
    assert abs(humidity - 8765) <= 1


def test_fault_is_an_error_that_says_what_is_wrong(host: Host) -> None:
    texts = {
        "crc": "ValueError: sht3x at 0x44: wrong CRC",
        "crc_humidity": "ValueError: sht3x at 0x44: wrong CRC",
        "nack": "sht3x at 0x44 does not answer",
        "busy": "sht3x at 0x44 does not answer",
    }
    device = {"kind": "sht3x", "address": 0x44}
    buses = {
        str(number): {"devices": [{**device, "faults": [fault]}]}
        for number, fault in enumerate(texts)
    }
    host.fakes({"i2c": buses})

    answers = host.said("say([read(sensor('sht3x', {'bus': {'i2c': n}})) for n in range(4)])")

    for answer, text in zip(answers, texts.values(), strict=True):
        assert answer.endswith(text)


def test_reading_succeeds_again_after_a_fault(host: Host) -> None:
    # Each reading is two transactions, so the fourth is the end of the second reading.
    host.fakes(chip(raw=[26214, 26214], faults=[{"fault": "crc", "every": 4}]))

    answers = host.said("s = sensor('sht3x', {})\nsay([read(s), read(s), read(s)])")

    assert answers == [[2500, 4000], "ValueError: sht3x at 0x44: wrong CRC", [2500, 4000]]


def test_second_address_is_another_chip(host: Host) -> None:
    host.fakes(
        {
            "i2c": {
                "0": {
                    "devices": [
                        {"kind": "sht3x", "address": 0x44, "raw": [0, 0]},
                        {"kind": "sht3x", "address": 0x45, "raw": [65535, 65535]},
                    ]
                }
            }
        }
    )

    first, second = host.said(
        "say([read(sensor('sht3x', {})), read(sensor('sht3x', {'address': 0x45}))])"
    )

    assert first == [-4500, 0]
    assert second == [13000, 10000]


def test_two_sensors_share_a_bus_while_both_measure(host: Host) -> None:
    script = """
bme, sht = sensor('bme280', {'bus': {'i2c': 0}}), sensor('sht3x', {'bus': {'i2c': 0}})
async def several(made):
    sizes = []
    for _ in range(5):
        sizes.append(len(await made.read()))
    return sizes
async def both():
    return await asyncio.gather(several(bme), several(sht))
say(asyncio.run(both()))
"""

    assert host.said(script) == [[3] * 5, [2] * 5]


def test_description_fits_the_values(host: Host) -> None:
    fmt, channels = host.said("s = sensor('sht3x', {})\nsay([s.fmt, s.channels])")

    assert fmt == "hh"
    assert channels == [
        ["temperature", "°C", -2, "temperature"],
        ["humidity", "%", -2, "humidity"],
    ]
