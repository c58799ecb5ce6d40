"""What is heard of sensors while the library that reads them is imported; pure."""

from collections import deque
from typing import Final

from gateway.drivers.advert import Advert

MAX_SENSORS: Final = 256
"""Further ones are read once the library is there."""
MAX_PACKETS: Final = 8
"""Of each sensor, the newest: an import takes a second, on the smallest machines several, and few
sensors have something new to say more often than that."""


class Unread:
    """Packets that wait, in the order in which they were heard; a repetition waits once."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Advert]] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """Whose packets wait."""
        return tuple(self._waiting)

    def add(self, advert: Advert) -> None:
        """Keep a packet, unless it is what this sensor said last, or there is no room for it."""
        packets = self._waiting.get(advert.address)
        if packets is None:
            if len(self._waiting) >= MAX_SENSORS:
                return
            packets = self._waiting[advert.address] = deque(maxlen=MAX_PACKETS)
        if not (packets and _says_the_same(packets[-1], advert)):
            packets.append(advert)

    def pop(self, address: str) -> tuple[Advert, ...]:
        """Return what waits of a sensor, the oldest first, and keep none of it."""
        return tuple(self._waiting.pop(address, ()))


def _says_the_same(one: Advert, other: Advert) -> bool:
    return (one.manufacturer_data, one.service_data) == (
        other.manufacturer_data,
        other.service_data,
    )
