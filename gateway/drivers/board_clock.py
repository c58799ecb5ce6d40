"""Maps a board's millisecond counter to the gateway's monotonic clock."""

DRIFT = 100e-6
"""How much a board's crystal may run slow: the offset may grow so fast, in seconds a second."""

WRAP_MS = 2**32
"""A board's counter starts over after 49.7 days."""

OLDEST_MS = WRAP_MS - 60_000
"""A record older than this was stamped up to a minute after its batch was sent: it is new."""


MAX_DELAY_S = 60.0
"""No line is longer than this behind its board, but for one burst after the gateway was stopped."""

LATE_S = 10.0
"""Batches that are later than MAX_DELAY_S for so long show that the least delay was an error."""


class BoardClock:
    """The offset of one boot of a board: the least delay seen, which can only be too long.

    The counter is u32 and wraps after 49.7 days; between two calls of `note` it may move by half of
    that in either direction. If a board's clock jumps forward and back, the offset starts anew once
    everything was late for LATE_S.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._noted_s = 0.0
        self._late_since_s: float | None = None
        self._mono_ms = 0
        self._total_ms = 0

    def note(self, mono_ms: int, now_s: float) -> None:
        """Take in that the board's counter read `mono_ms` some moment before `now_s`."""
        if self._offset_s is None:
            self._mono_ms = self._total_ms = mono_ms
            self._offset_s = now_s - mono_ms / 1000
        else:
            moved_ms = (mono_ms - self._mono_ms) % WRAP_MS
            self._total_ms += moved_ms if moved_ms < WRAP_MS // 2 else moved_ms - WRAP_MS
            self._mono_ms = mono_ms
            allowed_s = self._offset_s + DRIFT * (now_s - self._noted_s)
            offset_s = now_s - self._total_ms / 1000
            is_error = self._was_late_long(offset_s - allowed_s, now_s)
            self._offset_s = offset_s if is_error else min(offset_s, allowed_s)
        self._noted_s = now_s

    def _was_late_long(self, delay_s: float, now_s: float) -> bool:
        if delay_s <= MAX_DELAY_S:
            self._late_since_s = None
            return False
        if self._late_since_s is None:
            self._late_since_s = now_s
        if now_s - self._late_since_s < LATE_S:
            return False
        self._late_since_s = None
        return True

    def sent_s(self) -> float:
        """Return when the counter read what was noted last, in seconds of the gateway's clock."""
        return (self._offset_s or 0.0) + self._total_ms / 1000
