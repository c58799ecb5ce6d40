"""Simulated commercial sensors: they advertise what they measure, and take no connection.

radio.advertise(Advertiser("A4:C1:38:00:00:01", Bthome("A4:C1:38:00:00:01", weather)))
radio.advertise(Advertiser("C4:7C:8D:00:00:02", Captured(bytes.fromhex("020106..."))))
"""

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from bumble import hci
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gateway.simulate.radio.air import Air, Transmission
from gateway.simulate.radio.chip import MOST_ADVERT_BYTES

FLAGS = b"\x02\x01\x06"
"""AD structure: generally discoverable, no classic Bluetooth."""

_COMPLETE_NAME = 0x09
_SERVICE_DATA_16 = 0x16
_MANUFACTURER_DATA = 0xFF
_BTHOME_UUID = 0xFCD2
_BTHOME_PLAIN = 0x40
_BTHOME_ENCRYPTED = 0x41
_PACKET_ID = 0x00
_MIC_BYTES = 4

_MOST_DELAY_S = 0.01
"""advDelay (Core 5.4, Vol 6 Part B 4.4.2.2)."""

Readings = Callable[[float], Mapping["Quantity", float]]
"""What a sensor measures at a time in seconds."""


class Packet(NamedTuple):
    """What a sensor advertises until it has something new."""

    number: int
    structures: bytes
    """AD structures."""


class Content(Protocol):
    """Says what a sensor advertises."""

    def at(self, now_s: float) -> Packet:
        """Return what it advertises at a time."""


def structure(kind: int, value: bytes) -> bytes:
    """Return one AD structure (Core 5.4, Vol 3 Part C 11)."""
    return bytes((len(value) + 1, kind)) + value


def service_data(uuid: int, value: bytes) -> bytes:
    """Return the AD structure of service data under a 16-bit UUID."""
    return structure(_SERVICE_DATA_16, uuid.to_bytes(2, "little") + value)


def manufacturer_data(company: int, value: bytes) -> bytes:
    """Return the AD structure of a manufacturer's data."""
    return structure(_MANUFACTURER_DATA, company.to_bytes(2, "little") + value)


@dataclass(frozen=True, slots=True)
class Captured:
    """The same for ever: AD structures as they were captured."""

    structures: bytes

    def at(self, now_s: float) -> Packet:  # noqa: ARG002 nothing changes
        """Return them."""
        return Packet(0, self.structures)


class Quantity(Enum):
    """What BTHome v2 tells, for some; its object id, bytes, whether signed, and factor.

    Source: https://bthome.io/format/, "Sensor data".
    """

    BATTERY = (0x01, 1, False, 1.0)
    """%"""
    TEMPERATURE = (0x02, 2, True, 0.01)
    """°C"""
    HUMIDITY = (0x03, 2, False, 0.01)
    """%"""
    PRESSURE = (0x04, 3, False, 0.01)
    """hPa"""
    ILLUMINANCE = (0x05, 3, False, 0.01)
    """lx"""
    VOLTAGE = (0x0C, 2, False, 0.001)
    """V"""

    def encode(self, value: float) -> bytes:
        """Return the object: its id and the value."""
        number, size, is_signed, factor = self.value
        return bytes((number,)) + round(value / factor).to_bytes(size, "little", signed=is_signed)


class Bthome:
    """A BTHome v2 sensor that measures now and then, and repeats its last packet in between.

    With a key it is encrypted, and its counter says which packet it is; else its packet id does.
    """

    def __init__(
        self,
        address: str,
        readings: Readings,
        *,
        key: bytes = b"",
        period_s: float = 5.0,
        first: int = 1,
    ) -> None:
        """Describe a sensor.

        Args:
            address: of its radio, which is part of the encryption.
            readings: what it measures.
            key: its bind key, 16 bytes; empty: it does not encrypt.
            period_s: how often it measures.
            first: number of its first packet; the counter of one with a key.
        """
        self._address = bytes.fromhex(address.replace(":", ""))
        self._readings = readings
        self._cipher = AESCCM(key, tag_length=_MIC_BYTES) if key else None
        self._period_s = period_s
        self._number = first - 1
        self._due_s = -math.inf
        self._packet = Packet(first, b"")

    def at(self, now_s: float) -> Packet:
        """Return the packet of the last time it measured."""
        if now_s >= self._due_s:
            self._due_s = now_s + self._period_s
            self._number += 1
            self._packet = Packet(self._number, self._make(now_s))
        return self._packet

    def _make(self, now_s: float) -> bytes:
        values = sorted(self._readings(now_s).items(), key=lambda pair: pair[0].value)
        objects = b"".join(quantity.encode(value) for quantity, value in values)
        if self._cipher is None:
            told = bytes((_BTHOME_PLAIN, _PACKET_ID, self._number & 0xFF)) + objects
            return FLAGS + service_data(_BTHOME_UUID, told)
        uuid = _BTHOME_UUID.to_bytes(2, "little")
        kind = bytes((_BTHOME_ENCRYPTED,))
        counter = (self._number & 0xFFFFFFFF).to_bytes(4, "little")
        sealed = self._cipher.encrypt(self._address + uuid + kind + counter, objects, None)
        sealed, mic = sealed[:-_MIC_BYTES], sealed[-_MIC_BYTES:]
        return FLAGS + service_data(_BTHOME_UUID, kind + sealed + counter + mic)


def weather(seed: int = 0) -> Readings:
    """Return the readings of a thermometer that slowly go up and down, differently for each."""
    chance = random.Random(seed)  # noqa: S311 spreads values, guards no secret
    mean, turn_s = chance.uniform(15, 25), chance.uniform(60, 600)

    def readings(now_s: float) -> Mapping[Quantity, float]:
        wave = math.sin(2 * math.pi * now_s / turn_s)
        return {
            Quantity.BATTERY: 90,
            Quantity.TEMPERATURE: mean + 3 * wave,
            Quantity.HUMIDITY: 50 - 10 * wave,
        }

    return readings


class Advertiser:
    """A sensor on the air, from `start` to `stop`; `VirtualRadio.advertise` starts it."""

    def __init__(  # noqa: PLR0913 each says something about the sensor
        self,
        address: str,
        content: Content,
        *,
        name: str = "",
        interval_s: float = 1.0,
        rssi_dbm: int = -70,
        is_public: bool = True,
    ) -> None:
        """Describe a sensor.

        Args:
            address: of its radio.
            content: what it advertises.
            name: what it answers an active scan; empty: it does not answer.
            interval_s: from one advert to the next; up to 10 ms more, as radios have it.
            rssi_dbm: how strong it is heard.
            is_public: whether its address is a public one, not a random one.
        """
        self.address = address
        self.sent = 0
        """Adverts."""
        self.heard = 0
        """Adverts that one or more receivers heard."""
        self.packets_heard = 0
        """Different packets that were heard; BTHome's, not those of radio."""
        kind = hci.Address.PUBLIC_DEVICE_ADDRESS if is_public else hci.Address.RANDOM_DEVICE_ADDRESS
        self._air_address = hci.Address(address, kind)
        self._content = content
        self._scan_response = structure(_COMPLETE_NAME, name.encode()) if name else b""
        self._interval_s = interval_s
        self._rssi_dbm = rssi_dbm
        self._chance = random.Random(address)  # noqa: S311 spreads adverts, guards no secret
        self._last_heard = -1
        self._timer: asyncio.TimerHandle | None = None
        if len(self._scan_response) > MOST_ADVERT_BYTES:
            raise ValueError(f"the name {name!r} does not fit into a scan response")

    def start(self, air: Air) -> None:
        """Advertise; the first time at any moment of the interval, so that many do not meet."""
        self.stop()
        wait_s = self._chance.uniform(0, self._interval_s)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._advertise, air)

    def stop(self) -> None:
        """Fall silent, until it is started again; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _advertise(self, air: Air) -> None:
        loop = asyncio.get_running_loop()
        wait_s = self._interval_s + self._chance.uniform(0, _MOST_DELAY_S)
        self._timer = loop.call_later(wait_s, self._advertise, air)
        packet = self._content.at(loop.time())
        self.sent += 1
        transmission = Transmission(
            self._air_address,
            packet.structures[:MOST_ADVERT_BYTES],
            self._scan_response,
            self._rssi_dbm,
        )
        if air.advertise(transmission):
            self.heard += 1
            self.packets_heard += packet.number != self._last_heard
            self._last_heard = packet.number
