"""Maps a board's millisecond counter to the gateway's monotonic clock."""

DRIFT = 100e-6
"""How much a board's crystal may run slow: the offset may grow so fast, in seconds a second."""

LATE_STAMP_MS = 60_000
"""A record stamped up to so much after its batch was sent is taken as new, not 49.7 days old."""

_WRAP = 2**32
_HALF = 2**31


class BoardClock:
    """The offset of one boot of a board: the least delay seen, which can only be too long.

    The counter is u32 and wraps after 49.7 days; between two calls of `note` it may move by half of
    that in either direction.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._noted_s = 0.0
        self._mono_ms = 0
        self._total_ms = 0

    def note(self, mono_ms: int, now_s: float) -> None:
        """Take in that the board's counter read `mono_ms` some moment before `now_s`."""
        if self._offset_s is None:
            self._mono_ms = self._total_ms = mono_ms
            self._offset_s = now_s - mono_ms / 1000
        else:
            moved_ms = (mono_ms - self._mono_ms) % _WRAP
            self._total_ms += moved_ms if moved_ms < _HALF else moved_ms - _WRAP
            self._mono_ms = mono_ms
            allowed_s = self._offset_s + DRIFT * (now_s - self._noted_s)
            self._offset_s = min(now_s - self._total_ms / 1000, allowed_s)
        self._noted_s = now_s

    def sent_s(self) -> float:
        """Return when the counter read what was noted last, in seconds of the gateway's clock."""
        return (self._offset_s or 0.0) + self._total_ms / 1000


def age_ms(mono_ms: int, now_ms: int) -> int:
    """Return how long before `now_ms` a record was stamped; never negative, whatever wrapped."""
    age = (now_ms - mono_ms) % _WRAP
    return age if age < _WRAP - LATE_STAMP_MS else 0
