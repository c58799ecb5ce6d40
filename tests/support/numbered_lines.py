"""A board that prints numbered JSON lines (T1), many on their way at once, and keeps each until it
is acknowledged."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING = 60
"""The gateway tells repeats among the 64 newest lines of a board."""

REPEAT_S = 1.0


class NumberedLines:
    """A sketch for a `TextBoard`; its samples have the value `number`, which is unlike others'."""

    def __init__(self, name: str, interval_s: float, first_number: int, boot: int = 7) -> None:
        self.name = name
        self.boot = boot
        self.due_s = 0.0
        self.taken = 0
        """Samples taken: their seqs are below."""
        self.waiting: dict[int, float] = {}
        """Seqs without an acknowledgement, and when each was printed last."""
        self.is_producing = True
        self.on_acked: Callable[[int], None] = lambda _seq: None
        """Called the first time that a seq is acknowledged, in the turn in which that is read."""
        self._first_number = first_number
        self._interval_s = interval_s
        self._next_s = 0.0

    def number_of(self, seq: int) -> int:
        """Return the value of a sample."""
        return self._first_number + seq

    def setup(self, now_s: float) -> bytes:
        """Begin."""
        self.due_s = self._next_s = now_s + self._interval_s
        return b"\n"

    def loop(self, now_s: float) -> bytes:
        """Take a sample when it is time and there is room; print what is due."""
        if now_s >= self._next_s:
            self._next_s = max(self._next_s + self._interval_s, now_s)
            if self.is_producing and len(self.waiting) < MOST_WAITING:
                self.waiting[self.taken] = float("-inf")
                self.taken += 1
        self.due_s = self._next_s
        due = [seq for seq, printed_s in self.waiting.items() if printed_s <= now_s - REPEAT_S]
        self.waiting |= dict.fromkeys(due, now_s)
        return b"".join(map(self._line, due))

    def on_line(self, line: bytes, now_s: float) -> bytes:  # noqa: ARG002 - it answers nothing
        """Take an acknowledgement."""
        if line.startswith(b'{"ack":'):
            seq = json.loads(line)["ack"]
            if self.waiting.pop(seq, None) is not None:
                self.on_acked(seq)
        return b""

    def _line(self, seq: int) -> bytes:
        head = {"id": self.name, "ep": self.boot, "seq": seq}
        return json.dumps({**head, "number": self.number_of(seq), "z": 0}).encode() + b"\n"
