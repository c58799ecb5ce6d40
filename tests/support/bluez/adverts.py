"""Advertising data as it is on the air, and what BlueZ makes properties of."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dbus_fast import Variant

FLAGS, NAME, TX_POWER, MANUFACTURER = 0x01, 0x09, 0x0A, 0xFF
SHORT_NAME, SERVICE_16, SERVICE_128 = 0x08, 0x16, 0x21
"""Types of AD structures. Assigned Numbers, 2.3."""

UUID_BYTES = {0x02: 2, 0x03: 2, 0x06: 16, 0x07: 16}
"""Of the lists of service UUIDs, whole or not: the type, and the size of one."""

BASE_UUID = "0000{:04x}-0000-1000-8000-00805f9b34fb"
"""The long form of a 16-bit UUID. Core Specification, Vol 3, Part B, 2.5.1."""


def structure(kind: int, payload: bytes) -> bytes:
    """Return one AD structure: length, type, payload."""
    return bytes([len(payload) + 1, kind]) + payload


def structures(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take advertising data apart; a structure that is cut off ends it."""
    while data and data[0] and len(data) > data[0]:
        yield data[1], data[2 : data[0] + 1]
        data = data[data[0] + 1 :]


def long_uuid(little_endian: bytes) -> str:
    """Return the text of a UUID of 16 or 128 bits as it is on the air."""
    if len(little_endian) == struct.calcsize("<H"):
        return BASE_UUID.format(int.from_bytes(little_endian, "little"))
    digits = little_endian[::-1].hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def on_air(uuid: str) -> bytes:
    """Return the 16 bytes of a UUID as they are on the air."""
    return bytes.fromhex(uuid.replace("-", ""))[::-1]


@dataclass(frozen=True, slots=True)
class Heard:
    """One advertisement that reached the adapter, its scan response included."""

    address: str
    rssi: int
    data: bytes
    """AD structures."""
    address_type: str = "random"

    def properties(self) -> dict[str, Variant]:
        """Return the properties of org.bluez.Device1 that come from the air."""
        found: dict[str, Variant] = {"RSSI": Variant("n", self.rssi)}
        for kind, payload in structures(self.data):
            if kind == FLAGS:
                found["AdvertisingFlags"] = Variant("ay", payload)
            elif kind in {NAME, SHORT_NAME}:
                name = payload.decode(errors="replace")
                found |= {"Name": Variant("s", name), "Alias": Variant("s", name)}
            elif kind == TX_POWER:
                found["TxPower"] = Variant("n", int.from_bytes(payload, signed=True))
        if uuids := list(self._uuids()):
            found["UUIDs"] = Variant("as", uuids)
        if companies := dict(self._manufacturer_data()):
            found["ManufacturerData"] = Variant("a{qv}", companies)
        if services := dict(self._service_data()):
            found["ServiceData"] = Variant("a{sv}", services)
        return found

    def matches(self, pattern: tuple[int, int, bytes]) -> bool:
        """Whether a pattern of an advertisement monitor fits: start, type of AD data, content."""
        start, kind, content = pattern
        return any(
            each == kind and payload[start : start + len(content)] == content
            for each, payload in structures(self.data)
        )

    def _uuids(self) -> Iterator[str]:
        for kind, payload in structures(self.data):
            size = UUID_BYTES.get(kind)
            if size is not None:
                yield from (
                    long_uuid(payload[at : at + size]) for at in range(0, len(payload), size)
                )

    def _manufacturer_data(self) -> Iterator[tuple[int, Variant]]:
        for kind, payload in structures(self.data):
            if kind == MANUFACTURER:
                yield int.from_bytes(payload[:2], "little"), Variant("ay", payload[2:])

    def _service_data(self) -> Iterator[tuple[str, Variant]]:
        for kind, payload in structures(self.data):
            size = {SERVICE_16: 2, SERVICE_128: 16}.get(kind)
            if size is not None:
                yield long_uuid(payload[:size]), Variant("ay", payload[size:])
