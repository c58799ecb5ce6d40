"""Which UTC the gateway believes in: the offset of this boot of the machine; pure."""

from typing import Literal, TypeAlias

from gateway.clock import Clock, TimeBase

OffsetSource: TypeAlias = Literal["synced", "held", "wall"]
"""Where the offset comes from: the clock, which is synchronised; the same, when it last was; or the
clock as it stands, which never was."""

LONGEST_READING_S = 0.001
READINGS = 5
"""The two clocks cannot be read at once. A reading that took longer than the first (the process was
interrupted in between) is repeated, so often in all; the shortest counts."""


class TimeKeeper:
    """Keeps the best known offset of this boot: UTC minus monotonic seconds.

    While the clock is synchronised, that is what the clocks say. If it was synchronised before in
    this boot, what they said last is held: a machine that lost its time server counts on as well
    as it can, and a clock that somebody sets by hand re-dates nothing. If it never was, the wall
    clock is all there is; once it is synchronised, samples not yet published are dated anew.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.source: OffsetSource = "wall"
        """As of the last look."""
        self.synced_s: float | None = None
        """When the clock was last seen synchronised, monotonic; None: never in this boot."""
        self._held_s = 0.0

    def base(self) -> TimeBase:
        """Return how monotonic seconds become UTC, by the clocks as they stand now.

        Call it about once a second, too, so that what is held is never old.
        """
        was_synchronised = self.source == "synced" or self.clock.is_synchronised()
        offset_s = self._read_offset_s()
        # Asked after the reading, as setting the clock by hand ends the synchronisation; and, when
        # it is new, before it as well, as synchronising sets the clock.
        if was_synchronised and self.clock.is_synchronised():
            self.source, self.synced_s, self._held_s = "synced", self.clock.monotonic_s(), offset_s
            return TimeBase(offset_s, "synced")
        if self.synced_s is None:
            return TimeBase(offset_s, "unsynced")
        self.source = "held"
        return TimeBase(self._held_s, "unsynced")

    def unix_s(self) -> float:
        """Return the UTC of now, as the samples have it."""
        return self.base().offset_s + self.clock.monotonic_s()

    def _read_offset_s(self) -> float:
        best_s, offset_s = float("inf"), 0.0
        for _ in range(READINGS):
            before_s = self.clock.monotonic_s()
            unix_s = self.clock.unix_s()
            took_s = self.clock.monotonic_s() - before_s
            if took_s < best_s:
                best_s, offset_s = took_s, unix_s - before_s - took_s / 2
            if took_s <= LONGEST_READING_S:
                break
        return offset_s
