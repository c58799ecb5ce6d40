"""What can be told of an advert without decoding it: is it sealed, and is it numbered."""

from typing import Final, Literal, NamedTuple

from gateway.drivers.advert import Advert

BTHOME_V2: Final = "0000fcd2-0000-1000-8000-00805f9b34fb"
BTHOME_V1: Final = "0000181c-0000-1000-8000-00805f9b34fb"
BTHOME_V1_SEALED: Final = "0000181e-0000-1000-8000-00805f9b34fb"
MIBEACON: Final = "0000fe95-0000-1000-8000-00805f9b34fb"

_BTHOME_TRAILER = 8
"""Counter and integrity check, four bytes each, end a sealed BTHome advert."""
_RESTART = 1000
"""More than a sensor sends in the minute that it has to be silent for before it may begin anew."""
_MIBEACON_HEADER = 5
_MIBEACON_HAS_MAC = 0x10
_MIBEACON_HAS_OBJECT = 0x40
_MIBEACON_SEALED = 0x08


class Cover(NamedTuple):
    """The outside of an advert."""

    kind: Literal["plain", "sealed", "empty"]
    """empty: it says who is there and nothing else."""
    counter: int | None = None
    """Number of a sealed advert, which only grows; None where it is plain, or too short for one."""
    is_numbered: bool = False
    """Whether equal adverts are one packet, however long apart."""
    restart: int = 0
    """A counter below it may mean that the sensor counts anew, after a change of batteries."""


PLAIN = Cover("plain")
NUMBERED = Cover("plain", is_numbered=True)
EMPTY = Cover("empty")


def plain(_advert: Advert) -> Cover:
    """Tell what holds for families that neither seal nor number."""
    return PLAIN


def bthome(advert: Advert) -> Cover:
    """Tell it of BTHome, version 1 or 2.

    Source: https://bthome.io/format, /encryption and /v1.
    """
    payload = advert.service_data.get(BTHOME_V2)
    if payload is not None:
        if not payload:
            return EMPTY
        has_mac = payload[0] & 2
        if payload[0] & 1:
            return _bthome_sealed(payload, head=7 if has_mac else 1)
        first = payload[7:8] if has_mac else payload[1:2]
        return NUMBERED if first == b"\0" else PLAIN
    payload = advert.service_data.get(BTHOME_V1_SEALED)
    if payload is not None:
        return _bthome_sealed(payload, head=0)
    payload = advert.service_data.get(BTHOME_V1, b"")
    return NUMBERED if payload[1:2] == b"\0" else PLAIN


def xiaomi(advert: Advert) -> Cover:
    """Tell it of MiBeacon, version 2 to 5; other services of the family are plain.

    A sealed frame ends in three bytes that extend its frame counter, and the integrity check: four
    bytes, or one before version 4.
    """
    frame = advert.service_data.get(MIBEACON)
    if frame is None:
        return PLAIN
    if len(frame) < _MIBEACON_HEADER or not frame[0] & _MIBEACON_HAS_OBJECT:
        return EMPTY
    if not frame[0] & _MIBEACON_SEALED:
        return NUMBERED
    check = 4 if frame[1] >> 4 >= 4 else 1  # noqa: PLR2004  # versions of the protocol
    head = _MIBEACON_HEADER + (6 if frame[0] & _MIBEACON_HAS_MAC else 0)
    if len(frame) < head + 3 + check:
        return Cover("sealed")
    extension = int.from_bytes(frame[-3 - check : -check], "little")
    return Cover("sealed", extension << 8 | frame[4], is_numbered=True, restart=_RESTART)


def _bthome_sealed(payload: bytes, head: int) -> Cover:
    if len(payload) <= head + _BTHOME_TRAILER:
        return Cover("sealed")
    counter = int.from_bytes(payload[-8:-4], "little")
    return Cover("sealed", counter, is_numbered=True, restart=_RESTART)
