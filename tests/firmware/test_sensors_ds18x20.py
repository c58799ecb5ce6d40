"""DS18x20: Maxim's tables and CRC example, several probes on one wire, power-on value, failures."""

from tests.firmware.hosts import Host

NO_VALUE = -(2**31)


def crc8(data: bytes) -> int:
    """Maxim application note 27: x^8 + x^5 + x^4 + 1, least significant bit first."""
    register = 0
    for byte in data:
        for bit in range(8):
            feedback = (register ^ byte >> bit) & 1
            register >>= 1
            if feedback:
                register ^= 0b1000_1100
    return register


def rom(family: int, serial: int) -> str:
    data = bytes((family,)) + serial.to_bytes(6, "little")
    return (data + bytes((crc8(data),))).hex()


FIRST, SECOND, THIRD = rom(0x28, 0x0316_8B1E_64FF), rom(0x28, 0x0316_8B1E_64FE), rom(0x28, 0xAB01)
EVERY_THIRD_CRC = {"fault": "crc", "every": 3}
EVERY_SECOND_DEAF = {"fault": "deaf", "every": 2}
HALF_DEGREES = rom(0x10, 0x0802_0000_1234)


def wire(*probes: dict[str, object], faults: tuple[str, ...] = ()) -> dict[str, object]:
    return {"onewire": {"4": {"faults": list(faults), "probes": list(probes)}}}


def test_crc_gives_application_note_27_s_example(host: Host) -> None:
    # ROM A2 00 00 00 01 B8 1C 02, printed from the CRC down to the family code.
    script = "from _onewire import crc8\nsay([crc8(bytes(b)) for b in (%r, %r)])"
    sent = list(bytes.fromhex("021CB801000000"))

    assert host.said(script % (sent, [*sent, 0xA2])) == [0xA2, 0]
    assert crc8(bytes(sent)) == 0xA2


def test_temperatures_are_the_datasheet_s_table(host: Host) -> None:
    # DS18B20 datasheet, table 1, and one probe on the wire for each of its rows.
    table = {
        0x07D0: 1250000,
        0x0191: 250625,
        0x00A2: 101250,
        0x0008: 5000,
        0x0000: 0,
        0xFFF8: -5000,
        0xFF5E: -101250,
        0xFE6F: -250625,
        0xFC90: -550000,
    }
    host.fakes(wire(*({"rom": rom(0x28, raw), "raw": raw} for raw in table)))
    script = """
s = sensor('ds18x20', {'pin': 4})
say([[channel[0], value] for channel, value in zip(s.channels, read(s))])
"""

    values = host.said(script)

    expected = {f"temperature_{raw & 0xFF:02x}{raw >> 8:02x}": row for raw, row in table.items()}
    assert len(values) == len(expected)
    assert dict(values) == expected


def test_ds18s20_adds_what_its_counter_says(host: Host) -> None:
    # DS18S20 datasheet: TEMP_READ - 0.25 + (COUNT_PER_C - COUNT_REMAIN) / COUNT_PER_C, TEMP_READ
    # being the whole degrees; after power-on COUNT_REMAIN is 12 and COUNT_PER_C 16.
    script = """
from sensors import ds18x20
say([ds18x20.ten_thousandths(0x10, bytes(pad)) for pad in (
    (0x32, 0x00, 0x4B, 0x46, 0xFF, 0xFF, 0x0C, 0x10),
    (0x32, 0x00, 0x4B, 0x46, 0xFF, 0xFF, 0x04, 0x10),
    (0xCE, 0xFF, 0x4B, 0x46, 0xFF, 0xFF, 0x0C, 0x10),
)])
"""

    assert host.said(script) == [250000, 255000, -250000]


def test_bits_that_a_coarser_resolution_leaves_open_are_dropped(host: Host) -> None:
    # Configuration register R1 R0 = 00: 9 bits, bits 2 to 0 undefined (datasheet, figure 4).
    script = """
from sensors import ds18x20
say([ds18x20.ten_thousandths(0x28, bytes((0x97, 0x01, 0, 0, config, 0xFF, 0, 0x10)))
     for config in (0x1F, 0x3F, 0x5F, 0x7F)])
"""

    assert host.said(script) == [250000, 252500, 253750, 254375]


def test_each_probe_of_a_wire_has_its_own_channel(host: Host) -> None:
    # The first two ROM codes differ in one bit, so the search meets collisions; the last is a
    # DS18S20, which counts half degrees.
    host.fakes(
        wire(
            {"rom": FIRST, "temperature": 20.0},
            {"rom": SECOND, "temperature": -7.25},
            {"rom": THIRD, "temperature": 85.5},
            {"rom": HALF_DEGREES, "raw": 0x0032},
        )
    )
    script = """
s = sensor('ds18x20', {'pin': 4})
values = read(s)
say([s.fmt, dict((channel[0], value) for channel, value in zip(s.channels, values))])
"""

    fmt, values = host.said(script)

    assert fmt == "iiii"
    assert values == {
        "temperature_ff64": 200000,
        "temperature_fe64": -72500,
        "temperature_01ab": 855000,
        "temperature_3412": 250000,
    }


def test_probes_can_be_named_and_need_not_be_there(host: Host) -> None:
    host.fakes(
        wire({"rom": FIRST, "temperature": 20.0}, {"rom": THIRD, "faults": ["absent"]}),
    )
    script = f"""
s = sensor('ds18x20', {{'pin': 4, 'probes': {{'{FIRST}': 'inlet', '{THIRD}': 'outlet'}}}})
values = read(s)
say(dict((channel[0], value) for channel, value in zip(s.channels, values)))
"""

    assert host.said(script) == {"inlet": 200000, "outlet": NO_VALUE}


def test_probe_plugged_in_later_is_found(host: Host) -> None:
    host.fakes(wire())
    script = f"""
import os
s = sensor('ds18x20', {{'pin': 4}})
answers = [read(s)]
with open("draft.json", "w") as f:
    json.dump({wire({"rom": FIRST, "temperature": 20.0})}, f)
os.rename("draft.json", "fakes.json")
answers.append(read(s))
say([s.channels, answers])
"""

    channels, (before, after) = host.said(script)

    assert channels == [["temperature", "°C", -4, "temperature"]]
    assert "no probe found" in before
    assert after == [200000]


def test_fault_is_an_error_that_says_what_is_wrong(host: Host) -> None:
    host.fakes(
        {
            "onewire": {
                "4": {"probes": [{"rom": FIRST, "temperature": 20.0, "faults": ["crc"]}]},
                "5": {"probes": [{"rom": FIRST, "temperature": 20.0, "faults": ["power_on"]}]},
                "6": {"probes": [{"rom": FIRST, "temperature": 20.0}], "faults": ["short"]},
            }
        }
    )
    script = f"""
async def attempt(pin):
    try:
        return await sensor('ds18x20', {{'pin': pin, 'probes': {{'{FIRST}': 'tank'}}}}).read()
    except OSError as e:
        return str(e)
async def main():
    return await asyncio.gather(attempt(4), attempt(5), attempt(6))
say(asyncio.run(main()))
"""

    damaged, unpowered, shorted = host.said(script)

    assert damaged.endswith("ds18x20 on pin 4: CRC error")
    assert unpowered.endswith("ds18x20 on pin 5: power-on value, the probe loses its supply")
    assert shorted.endswith("ds18x20 on pin 6: line shorted")


def test_empty_wire_is_an_error(host: Host) -> None:
    host.fakes(wire())

    found, named = host.said(
        f"say([read(sensor('ds18x20', c)) for c in "
        f"({{'pin': 4}}, {{'pin': 4, 'probes': {{'{FIRST}': 'tank'}}}})])"
    )

    assert found.endswith("ds18x20 on pin 4: no probe found")
    assert named.endswith("ds18x20 on pin 4: no probe answers")


def test_fault_that_passes_is_overcome_within_the_reading(host: Host) -> None:
    # "every": the resets are counted. A named probe's reading is a conversion, then two resets a
    # scratchpad. On pin 5 the second transaction is the conversion, after the scan's one.
    # On pin 6 the tank is at 85 degrees: the power-on value, but its reserved byte 6 is not 0x0C.
    host.fakes(
        {
            "onewire": {
                "4": {"probes": [{"rom": FIRST, "temperature": 20.0, "faults": [EVERY_THIRD_CRC]}]},
                "5": {
                    "probes": [{"rom": FIRST, "temperature": 21.0, "faults": [EVERY_SECOND_DEAF]}]
                },
                "6": {"probes": [{"rom": FIRST, "temperature": 85.0}]},
            }
        }
    )
    script = f"""
damaged = sensor('ds18x20', {{'pin': 4, 'probes': {{'{FIRST}': 'tank'}}}})
deaf = sensor('ds18x20', {{'pin': 5}})
hot = sensor('ds18x20', {{'pin': 6}})
async def main():
    return await asyncio.gather(damaged.read(), deaf.read(), hot.read())
say(asyncio.run(main()))
"""

    assert host.said(script) == [[200000], [210000], [850000]]


def test_two_sensors_of_one_wire_take_turns_and_let_others_run(host: Host) -> None:
    host.fakes(wire({"rom": FIRST, "temperature": 20.0}, {"rom": THIRD, "temperature": 30.0}))
    script = f"""
a = sensor('ds18x20', {{'pin': 4, 'probes': {{'{FIRST}': 'a'}}}})
b = sensor('ds18x20', {{'pin': 4, 'probes': {{'{THIRD}': 'b'}}}})
turns = 0
async def count():
    global turns
    while True:
        turns += 1
        await asyncio.sleep_ms(10)
async def both():
    task = asyncio.create_task(count())
    start = time.ticks_ms()
    values = await asyncio.gather(a.read(), b.read())
    took = time.ticks_diff(time.ticks_ms(), start)
    task.cancel()
    say([values, took, turns])
asyncio.run(both())
"""

    (first, second), took_ms, turns = host.said(script)

    assert first == [200000]
    assert second == [300000]
    assert took_ms >= 1500  # a conversion takes up to 750 ms
    assert turns > 40


def test_rom_code_that_is_none_is_refused(host: Host) -> None:
    script = """
try:
    sensor('ds18x20', {'pin': 4, 'probes': {'28ff': 'short'}})
except ValueError as e:
    say(str(e))
"""

    assert host.said(script) == "ds18x20: 28ff is no ROM code of 16 hex digits"
