"""Tells a line that was sent again from a new one, for boards that number their lines (T1)."""

from typing import Final

WINDOW: Final = 64
"""Lines remembered of one device; a board may have as many unacknowledged."""

REPEATABLE: Final = 3
"""Without an epoch, a safe line may be repeated only while it is among so many newest numbers.

A board that waits for each acknowledgement repeats its newest line, and no other. One that restarts
before it had more lines than these, and says the same, sends what such boards send: it is not told.
"""

MAX_EPOCH: Final = 2**32
"""Boot epochs run from 0 to MAX_EPOCH - 1."""


class ReceivedLine:
    """A numbered line that was received."""

    __slots__ = ("boot", "digest", "is_safe", "seq")

    def __init__(self, boot: int, seq: int, digest: int) -> None:
        """`digest` stands for the line's text."""
        self.boot = boot
        self.seq = seq
        self.digest = digest
        self.is_safe = False


class Numbering:
    """The lines one device numbered in its present boot."""

    __slots__ = ("boot", "lines", "newest")

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.newest = -1
        self.lines: dict[int, ReceivedLine] = {}
        """By seq, at most WINDOW."""

    def find(self, seq: int, epoch: int | None, digest: int) -> ReceivedLine | None:
        """Return the line if it came before; None if it is new, with `boot` moved on if needed.

        With an epoch the number alone says it. Without one, a number that came before is a resend
        if the text is the same; with another text, or from before the window, it means that the
        board counts anew. So does the same text if that line is safe and no longer REPEATABLE: a
        board that restarts often measures what it did, and a sample that comes twice does less
        harm than one that is lost. A number that was skipped so far was lost on its first way.
        """
        if epoch is not None:
            if epoch != self.boot:
                self._begin(epoch)
            return self.lines.get(seq)
        if seq > self.newest:
            return None
        line = self.lines.get(seq)
        if (
            line is not None
            and line.digest == digest
            and (not line.is_safe or seq > self.newest - REPEATABLE)
        ):
            return line
        if line is not None or seq < min(self.lines):
            self._begin((self.boot + 1) % MAX_EPOCH)
        return None

    def add(self, seq: int, digest: int) -> ReceivedLine:
        """Remember a new line; the one remembered longest makes room."""
        if len(self.lines) >= WINDOW:
            del self.lines[next(iter(self.lines))]
        line = self.lines[seq] = ReceivedLine(self.boot, seq, digest)
        self.newest = max(self.newest, seq)
        return line

    def _begin(self, boot: int) -> None:
        self.boot = boot
        self.newest = -1
        self.lines = {}
