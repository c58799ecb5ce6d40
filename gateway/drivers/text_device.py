"""What JSON, CSV and key=value sources share: a name, a numbering, a growing set of sensors."""

from binascii import crc32
from collections.abc import Iterable
from typing import Final

from gateway.model import Description, Event, Fault, Seen, Sensor
from gateway.protocol.delivery import DeliveryBook

MAX_SENSORS: Final = 64
"""Sensors of one text device; a board that invents keys cannot grow memory beyond it."""

MAX_TEXT: Final = 256
"""Longest text value, in characters."""

INT_LIMIT: Final = 2**63
"""Integers from -INT_LIMIT to INT_LIMIT - 1 are taken; few consumers hold greater ones."""

_EXCERPT = 60
"""Characters of a bad line shown in a fault."""

_CRC_TAIL = 9
"""A tab and eight hex digits."""
_HEX = frozenset(b"0123456789abcdefABCDEF")


class TextDevice:
    """One device that speaks in text lines; it describes itself by what it sends."""

    __slots__ = ("address", "boot", "device", "driver", "has_claim", "name", "next_seq", "sensors")

    def __init__(self, device: str, name: str, driver: str, address: str, boot: int) -> None:
        """`device` is a slug, `name` is for people; `boot` is the one the gateway numbers under."""
        self.device = device
        self.name = name
        self.driver = driver
        self.address = address
        self.boot = boot
        self.next_seq = 0
        self.sensors: dict[str, Sensor] = {}
        self.has_claim = False
        """Whether this port is the one that speaks for the device."""

    def claim(self, book: DeliveryBook, out: list[Event]) -> bool:
        """Return whether this port speaks for the device from now on; a Fault if another does."""
        self.has_claim = book.claim(self.device, self)
        if not self.has_claim:
            out.append(Fault("duplicate_id", f"{self.device} speaks on another port"))
        return self.has_claim

    def release(self, book: DeliveryBook) -> None:
        """Let another port speak for the device."""
        if self.has_claim:
            self.has_claim = False
            book.release(self)

    def admit(self, sensors: Iterable[Sensor]) -> Fault | None:
        """Add those that are new; what finds no room is left out, which is a fault."""
        fault = None
        for sensor in sensors:
            if sensor.key in self.sensors:
                continue
            if len(self.sensors) < MAX_SENSORS:
                self.sensors[sensor.key] = sensor
            else:
                fault = Fault("too_many_sensors", f"{self.device}: more than {MAX_SENSORS}")
        return fault

    def seen(self, boot: int) -> Seen:
        """Return the event that announces the device with the sensors it has by now."""
        return Seen(
            Description(
                device=self.device,
                name=self.name,
                driver=self.driver,
                address=self.address,
                sensors=tuple(self.sensors.values()),
                boot=boot,
            )
        )


def without_crc(line: bytes) -> bytes | None:
    """Return what precedes a CRC tail, or the line itself if it has none; None for a wrong CRC."""
    line = line.rstrip(b" \r")
    tail = line[-_CRC_TAIL:]
    if tail[:1] != b"\t" or len(tail) != _CRC_TAIL or not _HEX.issuperset(tail[1:]):
        return line
    body = line[:-_CRC_TAIL]
    return body if crc32(body) == int(tail[1:], 16) else None


def excerpt(line: bytes) -> str:
    """Return the start of a bad line for people, with everything unprintable escaped."""
    return line[:_EXCERPT].decode("latin-1").encode("unicode_escape").decode()


def printable(text: str) -> str:
    """Return `text` without control characters and lone surrogates, at most 64 characters."""
    return "".join(filter(str.isprintable, text))[:64].strip()


def is_good_text(text: str) -> bool:
    """Whether a text value can be published: not too long, and valid Unicode."""
    if len(text) > MAX_TEXT:
        return False
    if text.isascii():
        return True
    return not any("\ud800" <= char <= "\udfff" for char in text)  # JSON lets lone surrogates in
