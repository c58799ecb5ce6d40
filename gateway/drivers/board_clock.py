"""Maps a board's millisecond counter to the gateway's monotonic clock."""

DRIFT = 600e-6
"""How much a board's counter may run slow, in seconds a second: the delay may seem to grow so fast.

Crystals are within 50 ppm; a board that counts with a bad one, or in software, with 500."""

USUAL_DRIFT = 50e-6
"""How fast the offset is taken to grow while nothing better is known than that all is late."""

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

    What arrives is held against the last arrival that was not late. It is late when no drift could
    explain its delay; then the offset is that of the other one. Otherwise it takes its place.

    The counter is u32 and wraps after 49.7 days; between two calls of `note` it may move by half of
    that in either direction. If a board's clock jumps forward and back, the offset starts anew once
    everything was late for LATE_S.
    """

    def __init__(self) -> None:
        self._prompt_offset_s: float | None = None
        self._prompt_s = 0.0
        """When what was not late arrived last, and its offset."""
        self._offset_s = 0.0
        self._late_since_s: float | None = None
        self._mono_ms = 0
        self._total_ms = 0

    def note(self, mono_ms: int, now_s: float) -> None:
        """Take in that the board's counter read `mono_ms` some moment before `now_s`."""
        if self._prompt_offset_s is None:
            self._mono_ms = self._total_ms = mono_ms
        moved_ms = (mono_ms - self._mono_ms) % WRAP_MS
        self._total_ms += moved_ms if moved_ms < WRAP_MS // 2 else moved_ms - WRAP_MS
        self._mono_ms = mono_ms
        self._offset_s = now_s - self._total_ms / 1000
        if self._prompt_offset_s is not None:
            since_s = now_s - self._prompt_s
            delay_s = self._offset_s - self._prompt_offset_s - DRIFT * since_s
            if delay_s > 0 and not self._was_late_long(delay_s, now_s):
                self._offset_s = self._prompt_offset_s + USUAL_DRIFT * since_s
                return
        self._prompt_offset_s, self._prompt_s = self._offset_s, now_s
        self._late_since_s = None

    def _was_late_long(self, delay_s: float, now_s: float) -> bool:
        if delay_s <= MAX_DELAY_S:
            self._late_since_s = None
            return False
        if self._late_since_s is None:
            self._late_since_s = now_s
        return now_s - self._late_since_s >= LATE_S

    def sent_s(self) -> float:
        """Return when the counter read what was noted last, in seconds of the gateway's clock."""
        return self._offset_s + self._total_ms / 1000
