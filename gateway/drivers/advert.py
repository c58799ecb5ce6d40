"""What a radio heard of one Bluetooth LE advertiser: scanners make it, drivers read it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advert:
    """One advertisement, with what the scan response added where there was one."""

    address: str
    """Such as `A4:C1:38:12:34:56`, upper case, as the radio shows it; may be random."""
    name: str
    """The local name; empty when there is none."""
    rssi: int
    """Signal strength in dBm; -127 when the radio does not tell."""
    manufacturer_data: Mapping[int, bytes]
    """By company identifier."""
    service_data: Mapping[str, bytes]
    """By UUID: 128 bits, lower case."""
    service_uuids: tuple[str, ...]
    """128 bits, lower case."""
    heard_s: float
    """When, on the gateway's monotonic clock."""
    raw: bytes = b""
    """The AD structures, if the radio's driver has them."""
