"""What happens to the lines between a board and the gateway.

Pure: time comes in as an argument and chance from a seed, so the same plan damages the same lines.
"""

import random
from collections import deque
from dataclasses import dataclass

from gateway.simulate.faults.plan import FaultPlan, LineRates
from gateway.simulate.faults.schedule import chance

_MAX_GARBAGE = 40
"""Most random bytes put in front of one line."""

_MAX_PARTIAL = 8192
"""Bytes without a newline that are held back to see a whole line; then they pass as one."""

_MAX_DELAYED = 65_536
"""Bytes held back by delays in one direction; more are dropped, as by a full UART."""


@dataclass(slots=True)
class WireCounts:
    """What was done to the lines of one direction."""

    lines: int = 0
    dropped: int = 0
    corrupted: int = 0
    duplicated: int = 0
    delayed: int = 0
    truncated: int = 0
    garbage: int = 0
    overflowed: int = 0
    """Lines dropped because too much was waiting behind a delay."""


class WireFaults:
    """Damages the lines of one direction of a wire.

    Bytes are held until their line is complete; without any fault they pass at once.
    """

    def __init__(self, rates: LineRates, rng: random.Random) -> None:
        self.counts = WireCounts()
        self._rates = rates
        self._rng = rng
        self._harmless = rates == LineRates(delay_s=rates.delay_s)
        self._partial = b""
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._waiting_bytes = 0

    @property
    def deadline_s(self) -> float | None:
        """When `take` will have something to give; None when nothing waits."""
        return self._waiting[0][0] if self._waiting else None

    def feed(self, data: bytes, now_s: float) -> bytes:
        """Take what the sender wrote; return what arrives now."""
        if self._harmless:
            self.counts.lines += data.count(b"\n")
            return data
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _MAX_PARTIAL:
            self._enqueue(self._partial, now_s)
            self._partial = b""
        for line in lines:
            self._enqueue(line + b"\n", now_s)
        return self.take(now_s)

    def take(self, now_s: float) -> bytes:
        """Return what has been held back long enough."""
        arrived = []
        while self._waiting and self._waiting[0][0] <= now_s:
            arrived.append(self._waiting.popleft()[1])
        out = b"".join(arrived)
        self._waiting_bytes -= len(out)
        return out

    def _enqueue(self, line: bytes, now_s: float) -> None:
        self.counts.lines += 1
        due_s = self._waiting[-1][0] if self._waiting else now_s
        if self._hits(self._rates.delay):
            self.counts.delayed += 1
            due_s = max(due_s, now_s + self._rng.uniform(0, self._rates.delay_s))
        line = self._damaged(line)
        if self._waiting_bytes + len(line) > _MAX_DELAYED:
            self.counts.overflowed += 1
        elif line:
            self._waiting.append((due_s, line))
            self._waiting_bytes += len(line)

    def _damaged(self, line: bytes) -> bytes:
        rates, counts, rng = self._rates, self.counts, self._rng
        if self._hits(rates.drop):
            counts.dropped += 1
            return b""
        out = line
        if self._hits(rates.corrupt):
            counts.corrupted += 1
            flipped = bytearray(out)
            flipped[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
            out = bytes(flipped)
        if self._hits(rates.truncate):
            counts.truncated += 1
            out = out[: rng.randrange(len(out))]
        if self._hits(rates.duplicate):
            counts.duplicated += 1
            out += line
        if self._hits(rates.garbage):
            counts.garbage += 1
            out = rng.randbytes(rng.randint(1, _MAX_GARBAGE)) + out
        return out

    def _hits(self, share: float) -> bool:
        return share > 0 and self._rng.random() < share


class LineFaults:
    """Both directions of one board's wire, each with chance of its own."""

    def __init__(self, plan: FaultPlan, name: str = "") -> None:
        """`name` tells the wires of one plan apart: each is damaged at other lines."""
        self.from_board = WireFaults(plan.lines, chance(f"{plan.seed} {name} from"))
        self.to_board = WireFaults(plan.lines, chance(f"{plan.seed} {name} to"))
