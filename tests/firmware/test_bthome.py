"""board/bthome.py against the examples of bthome.io, and against the parser Home Assistant has."""

import json
import struct
from decimal import Decimal
from typing import Any

import pytest
from bthome_ble import BTHomeBluetoothDeviceData
from bthome_ble.const import MEAS_TYPES
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from habluetooth import BluetoothServiceInfoBleak
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.firmware.hosts import Host
from tests.firmware.under_test import load

bthome = load("board.bthome")
objects = load("board.bthome_objects")

ADDRESS = "54:48:E6:8F:80:A5"
KEY = "231d39c1d7cc1ab1aee224cd096db932"

# Source: https://bthome.io/format, table "Sensor data", columns Example, Result, Unit; as a board's
# channel would say it: format, integer, exponent, unit, device class.
EXAMPLES = [
    ("0161", "B", 97, 0, "%", "battery"),
    ("12E204", "H", 1250, 0, "ppm", "carbon_dioxide"),
    ("56E803", "H", 1000, 0, "µS/cm", "conductivity"),
    ("0960", "H", 96, 0, "", "count"),
    ("3D0960", "H", 24585, 0, "", "count"),
    ("3E2A2C0960", "I", 1611213866, 0, "", "count"),
    ("5BEA0234EA", "i", -365690134, 0, "", "count"),
    ("434E34", "H", 1339, -2, "A", "current"),
    ("5D02EA", "h", -563, -2, "A", "current"),
    ("400C00", "H", 12, 0, "mm", "distance"),
    ("424E3400", "I", 13390, -3, "s", "duration"),
    ("4D12138A14", "I", 344593170, -3, "kWh", "energy"),
    ("0A138A14", "I", 1346067, -3, "kWh", "energy"),
    ("4B138A14", "I", 1346067, -3, "m³", "gas"),
    ("4C41018A01", "I", 25821505, -3, "m³", "gas"),
    ("03BF13", "H", 5055, -2, "%", "humidity"),
    ("05138A14", "I", 1346067, -2, "lx", "illuminance"),
    ("065E1F", "H", 803, -1, "kg", "weight"),
    ("14020C", "H", 3074, -2, "%", "moisture"),
    ("0D120C", "H", 3090, 0, "µg/m³", "pm25"),
    ("0E021C", "H", 7170, 0, "µg/m³", "pm10"),
    ("0B021B00", "i", 6914, -2, "W", "power"),
    ("04138A01", "i", 100883, -2, "hPa", "pressure"),
    ("444E34", "H", 13390, -2, "m/s", "speed"),
    ("02CA09", "h", 2506, -2, "°C", "temperature"),
    ("133301", "H", 307, 0, "µg/m³", "volatile_organic_compounds"),
    ("0C020C", "H", 3074, -3, "V", "voltage"),
    ("4A020C", "I", 3074, -1, "V", "voltage"),
    ("4E87562A01", "I", 19551879, -3, "L", "volume"),
    ("478756", "H", 22151, -1, "L", "volume"),
    ("48DC87", "H", 34780, 0, "mL", "volume"),
    ("5587562A01", "I", 19551879, -3, "L", "volume_storage"),
    ("49DC87", "H", 34780, -3, "m³/h", "volume_flow_rate"),
    ("4F87562A01", "I", 19551879, -3, "L", "water"),
    ("5E9F8C", "H", 35999, -2, "°", "wind_direction"),
]

# Source: https://bthome.io/encryption, and test_bindkey_correct in tests/test_parser_v2.py of
# https://github.com/Bluetooth-Devices/bthome-ble.
ENCRYPTED = [
    (0x00112233, "D2FC41E445F3C9962B332211006C7C4519"),
    (0x33221100, "D2FC41A47266C95F730011223378237214"),
]


def channel(unit: str, device_class: str, exponent: int) -> list[Any]:
    if device_class == "count":
        return ["count", unit, exponent, ""]
    return [device_class, unit, exponent, device_class]


def decode(
    element: bytes, key: str | None = None, device: BTHomeBluetoothDeviceData | None = None
) -> dict[str, Any]:
    """Return what Home Assistant's parser makes of the element of an advert."""
    length, kind, service_data = element[0], element[1], element[4:]
    assert (length, kind, element[2:4]) == (len(element) - 1, 0x16, b"\xd2\xfc")
    if device is None:
        device = BTHomeBluetoothDeviceData(bytes.fromhex(key) if key else None)
    heard = BluetoothServiceInfoBleak(
        name="greenhouse",
        address=ADDRESS,
        rssi=-60,
        manufacturer_data={},
        service_data={"0000fcd2-0000-1000-8000-00805f9b34fb": service_data},
        service_uuids=[],
        source="",
        device=None,  # type: ignore[arg-type]  # the parser does not look at it
        advertisement=None,
        connectable=False,
        time=0,
        tx_power=None,
    )
    update = device.update(heard)
    values = {each.key: value.native_value for each, value in update.entity_values.items()}
    del values["signal_strength"]
    return values


EVERY_EXAMPLE = """
from binascii import hexlify
import struct
from board import bthome

def told(row):
    wanted, letter, value, channel = row
    prepared = bthome.prepare(letter, [channel])
    raw = struct.pack("<" + letter, value)
    return hexlify(bthome.collect([(letter, prepared, raw)], 15)).decode().upper()

say([told(row) for row in json.loads(ROWS)])
"""


def test_every_example_of_the_format_is_told_as_it_says(host: Host) -> None:
    rows = [
        (wanted, letter, value, channel(unit, device_class, exponent))
        for wanted, letter, value, exponent, unit, device_class in EXAMPLES
    ]

    told = host.said(f"ROWS = {json.dumps(rows)!r}\n" + EVERY_EXAMPLE)

    assert told == [example[0] for example in EXAMPLES]


def test_the_examples_of_the_encryption_are_told_as_they_say(host: Host) -> None:
    script = f"""
from binascii import hexlify, unhexlify
from board import bthome

def told(counter):
    objects = unhexlify("02ca0903bf13")
    key, address = unhexlify({KEY!r}), unhexlify({ADDRESS.replace(":", "")!r})
    return hexlify(bthome.encrypted(objects, counter, key, address, False)).decode().upper()

say([told(counter) for counter in {[counter for counter, _ in ENCRYPTED]}])
"""

    assert host.said(script) == [f"1216{wanted}" for _, wanted in ENCRYPTED]


def test_a_message_of_any_length_is_encrypted_as_others_do(host: Host) -> None:
    nonce, message = bytes(range(13)), bytes(range(100, 133))
    script = f"""
from binascii import hexlify
from board import ccm
told = []
for size in range(1, 34):
    sealed, check = ccm.encrypt(bytes(range(50, 66)), {nonce!r}, {message!r}[:size])
    told.append(hexlify(sealed + check).decode())
say(told)
"""
    told = host.said(script)

    reference = AESCCM(bytes(range(50, 66)), tag_length=4)
    assert [reference.decrypt(nonce, bytes.fromhex(each), None) for each in told] == [
        message[:size] for size in range(1, 34)
    ]


def test_every_object_is_one_the_parser_knows_and_of_its_size_and_factor() -> None:
    sizes = {"b": (1, True), "h": (2, True), "i": (4, True)}
    sizes |= {"B": (1, False), "H": (2, False), "T": (3, False), "I": (4, False)}
    canonical = {
        "mbar": 0, "kPa": 1, "Pa": -2, "g": -3, "Wh": -3, "kW": 3, "mV": -3, "mA": -3, "ms": -3,
        "cm": 1,
    }  # fmt: skip  # what a unit is, in powers of ten of the one the format has

    for line in objects._TABLE.splitlines():  # noqa: SLF001 - a table is data
        device_class, unit, *rows = line.split()
        for row in rows:
            number, form, exponent = int(row[:2], 16), row[2], int(row[3:])
            known = MEAS_TYPES[number]
            assert (known.data_length, known.data_format == "signed_integer") == sizes[form], line
            shift = canonical.get(unit, 0)
            if (device_class, unit, number) == ("distance", "cm", 0x41):
                shift = -2
            elif (device_class, unit, number) == ("distance", "m", 0x40):
                shift = 3
            elif (device_class, unit, number) == ("volume", "mL", 0x4E):
                shift = -3
            elif (device_class, unit) == ("water", "m³"):
                shift = 3
            factor = Decimal(1).scaleb(exponent + shift)
            assert Decimal(str(known.factor)) == factor, line


CLIMATE = [["temperature", "°C", -2, "temperature"], ["humidity", "%", -2, "humidity"]]
CLIMATE += [["pressure", "hPa", -2, "pressure"]]


def collected(records: list[tuple[str, list[Any], tuple[Any, ...]]], room: int = 15) -> bytes:
    prepared = [
        (form, bthome.prepare(form, channels), struct.pack("<" + form, *values))
        for form, channels, values in records
    ]
    told: bytes = bthome.collect(prepared, room)
    return told


def test_what_a_board_tells_is_what_home_assistant_reads() -> None:
    told = collected([("hhi", CLIMATE, (2153, 4521, 101325))])

    values = decode(bthome.plain(told, 9, False))

    assert values == {
        "packet_id": 9,
        "temperature": 21.53,
        "humidity": 45.21,
        "pressure": 1013.25,
    }


def test_what_is_encrypted_is_read_with_the_key_and_by_nobody_else(host: Host) -> None:
    script = f"""
from binascii import hexlify, unhexlify
from board import bthome
key, address = unhexlify({KEY!r}), unhexlify({ADDRESS.replace(":", "")!r})
objects = unhexlify("026908034511")
told = [bthome.encrypted(objects, n, key, address, True) for n in (5, 6, 4294967295)]
say([hexlify(element).decode() for element in told])
"""
    elements = [bytes.fromhex(each) for each in host.said(script)]

    device = BTHomeBluetoothDeviceData(bytes.fromhex(KEY))
    for element in elements:
        assert decode(element, device=device) == {"temperature": 21.53, "humidity": 44.21}
    assert device.sleepy_device
    assert decode(elements[0], "00" * 16) == {}


def test_objects_stand_in_ascending_order_and_equal_ones_in_that_of_the_sensors() -> None:
    told = collected(
        [
            ("H", [channel("V", "voltage", -3)], (3074,)),
            ("hhh", [["a", "°C", -2, "temperature"]] * 3, (100, 200, 300)),
            ("B", [channel("%", "battery", 0)], (97,)),
        ],
        room=22,
    )

    assert told.hex() == "0161" + "026400" + "02c800" + "022c01" + "0c020c"


def test_what_does_not_fit_is_left_out_and_the_rest_is_told() -> None:
    told = collected(
        [("hhi", CLIMATE, (2153, 4521, 101325)), ("B", [["b", "%", 0, "battery"]], (9,))], 9
    )

    assert told.hex() == "0109" + "026908" + "03a911"


@pytest.mark.parametrize(
    ("form", "given_channel", "value"),
    [
        ("h", channel("°C", "temperature", -2), -32768),  # not measured
        ("i", channel("hPa", "pressure", -2), -(2**31)),
        ("q", channel("s", "duration", -3), -(2**63)),
        ("f", channel("°C", "temperature", -2), float("nan")),
        ("d", channel("°C", "temperature", -2), float("-inf")),
        ("h", channel("%", "humidity", -2), -100),  # the format has no sign for it
        ("i", channel("°C", "temperature", -2), 4_000_000),  # 40,000 °C
        ("i", ["free_heap", "B", 0, "data_size"], 1000),  # no object
        ("h", ["temperature", "°F", -2, "temperature"], 1000),
        ("h", ["rate", "Hz", -3, "frequency"], 1000),
    ],
)
def test_what_cannot_be_told_is_left_out(form: str, given_channel: list[Any], value: Any) -> None:  # noqa: ANN401
    assert collected([(form, [given_channel], (value,))]) == b""


@pytest.mark.parametrize(
    ("form", "exponent", "value", "wanted"),
    [
        ("i", -4, 215349, 21.53),  # a DS18B20 has four digits
        ("i", -4, 215351, 21.54),
        ("i", -4, -215351, -21.54),
        ("h", -1, 215, 21.5),
        ("h", 0, -40, -40.0),
        ("f", -2, 21.534, 21.53),
        ("i", -2, 300000, 3000.0),  # beyond the range of hundredths
    ],
)
def test_a_value_is_rounded_to_the_digits_the_format_has(
    form: str, exponent: int, value: float, wanted: float
) -> None:
    told = collected([(form, [channel("°C", "temperature", exponent)], (value,))])

    assert decode(bthome.plain(told, 0, False))["temperature"] == wanted


UNITS = sorted({(each[5], each[4]) for each in EXAMPLES} | {("data_size", "B"), ("", "")})
RANGES = {"b": 7, "B": 8, "h": 15, "H": 16, "i": 31, "I": 32}


@settings(max_examples=40)  # each loads the table of objects anew
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(RANGES)),
            st.sampled_from(UNITS),
            st.integers(-6, 3),
            st.integers(-(2**31), 2**32 - 1),
        ),
        max_size=20,
    ),
    st.sampled_from([9, 15]),
)
def test_whatever_is_measured_fits_an_advert_and_can_be_read(
    drawn: list[tuple[str, tuple[str, str], int, int]], room: int
) -> None:
    form, channels, values = "", [], []
    for letter, (device_class, unit), exponent, number in drawn:
        size = RANGES[letter]
        low = -(2**size) if letter.islower() else 0
        form += letter
        channels.append(channel(unit, device_class, exponent))
        values.append(low + number % (2**size - low))

    told = collected([(form, channels, tuple(values))], room)

    assert len(told) <= room
    ids = []
    at = 0
    while at < len(told):
        ids.append(told[at])
        at += 1 + MEAS_TYPES[told[at]].data_length
    assert at == len(told)
    assert ids == sorted(ids)
    assert len(bthome.plain(told, 255, True)) <= 22
    if told:
        assert len(decode(bthome.plain(told, 255, True))) == len(ids) + 1
