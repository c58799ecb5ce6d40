"""How many devices may be new, and who makes room for them; pure."""

from collections.abc import Iterable
from typing import Final

from gateway.devices.device import Device
from gateway.model import Description

NEW_AT_ONCE: Final = 2_000
NEW_PAUSE_S: Final = 10.0
"""So many new devices may come at once, and one more in each such time: a link that invents names
must not wear out the disk. Samples of further ones are published, but nothing of them is kept."""

MAX_STRANGERS: Final = 1_000
"""Descriptions kept of devices that were removed, or found no room, in case they speak on."""


class Newcomers:
    """A credit that grows by one in each NEW_PAUSE_S; and who is not, or no longer, a device."""

    def __init__(self, now_s: float) -> None:
        self._credit = float(NEW_AT_ONCE)
        self._counted_s = now_s
        self._strangers: dict[str, tuple[str, Description]] = {}

    def admit(self, now_s: float) -> bool:
        """Tell whether there may be a new device, and count it."""
        gained = (now_s - self._counted_s) / NEW_PAUSE_S
        self._credit = min(self._credit + gained, float(NEW_AT_ONCE))
        self._counted_s = now_s
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def note_stranger(self, link: str, description: Description) -> None:
        """Keep what somebody says of itself who is no device now."""
        if len(self._strangers) < MAX_STRANGERS:
            self._strangers[description.device] = (link, description)

    def pop_stranger(self, key: str) -> tuple[str, Description] | None:
        """Return the link and the description of a stranger, once."""
        return self._strangers.pop(key, None)


def dispensable(devices: Iterable[Device]) -> Device | None:
    """Return who makes room: without a sample first; then who came last, not old friends."""
    offline = [each for each in devices if not each.is_online]
    useless = next((each for each in offline if not each.is_proven), None)
    return useless or max(offline, key=lambda each: each.added_unix_s, default=None)
