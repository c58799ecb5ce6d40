"""How many devices may be new; pure."""

from typing import Final

NEW_AT_ONCE: Final = 2_000
NEW_PAUSE_S: Final = 10.0
"""So many new devices may come at once, and one more in each such time: a link that invents names
must not wear out the disk. Samples of further ones are published, but nothing of them is kept."""


class Newcomers:
    """A credit that grows by one in each NEW_PAUSE_S."""

    def __init__(self, now_s: float) -> None:
        self._credit = float(NEW_AT_ONCE)
        self._counted_s = now_s

    def admit(self, now_s: float) -> bool:
        """Tell whether there may be a new device, and count it."""
        gained = (now_s - self._counted_s) / NEW_PAUSE_S
        self._credit = min(self._credit + gained, float(NEW_AT_ONCE))
        self._counted_s = now_s
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
