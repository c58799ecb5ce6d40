"""What goes wrong between a board and the gateway, on purpose and repeatably.

    parse("drop=0.1,corrupt=0.05,unplug_every_s=30,unplug_s=2,seed=7")

`LineFaults` damages the lines of one wire, `link_events` says when the wire itself fails. Both are
pure: time comes in as an argument and chance from a seed, so the same plan damages the same lines.
"""

import heapq
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import Enum
from math import isfinite
from typing import NamedTuple

from gateway.errors import ConfigError

_SEED = 1
"""The seed when none is given: the same faults each time."""

_MAX_GARBAGE = 40
"""Most random bytes put in front of one line."""

_MAX_PARTIAL = 8192
"""Bytes without a newline that are held back to see a whole line; then they pass as one."""

_MAX_DELAYED = 65_536
"""Bytes held back by delays in one direction; more are dropped, as by a full UART."""


@dataclass(frozen=True, slots=True)
class LineRates:
    """How often each damage is done to a line, as a share from 0 to 1."""

    drop: float = 0.0
    """The line is lost."""
    corrupt: float = 0.0
    """One bit of it is flipped, perhaps in the newline."""
    duplicate: float = 0.0
    """It is sent once more."""
    delay: float = 0.0
    """It comes up to `delay_s` late; what follows waits behind it, for a wire keeps the order."""
    truncate: float = 0.0
    """Its end is lost with the newline, so that the next line is glued to it."""
    garbage: float = 0.0
    """Random bytes come in front of it."""
    delay_s: float = 0.2
    """The longest delay in seconds."""


@dataclass(frozen=True, slots=True)
class LinkRates:
    """How often the wire itself fails; 0 for never.

    The time from the end of one failure to the next is random, half to one and a half times the
    mean that is given.
    """

    unplug_every_s: float = 0.0
    unplug_s: float = 1.0
    """How long the port is gone."""
    stall_every_s: float = 0.0
    stall_s: float = 1.0
    """How long nothing passes in either direction, while the port stays there."""
    restart_every_s: float = 0.0
    """The board loses its power for a moment."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All that goes wrong, by the part that fails."""

    seed: int = _SEED
    lines: LineRates = field(default_factory=LineRates)
    link: LinkRates = field(default_factory=LinkRates)


_LINE_KEYS = tuple(f.name for f in fields(LineRates))
_LINK_KEYS = tuple(f.name for f in fields(LinkRates))
_KEYS = ("seed", *_LINE_KEYS, *_LINK_KEYS)
_TIMES = tuple(key for key in _KEYS if key.endswith("_s"))
_SHARES = tuple(key for key in _LINE_KEYS if key not in _TIMES)


def parse(text: str) -> FaultPlan:
    """Read a plan as users write it: `drop=0.1,corrupt=0.05,seed=7`; an empty text is no faults.

    Raises:
        ConfigError: a key is unknown or given twice, or its value is no number or out of range.
    """
    given: dict[str, float] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key in given:
            raise ConfigError(f"fault {key!r} is given twice")
        given[key] = _number(key, value)
    return FaultPlan(
        seed=int(given.get("seed", _SEED)),
        lines=LineRates(**{key: given[key] for key in _LINE_KEYS if key in given}),
        link=LinkRates(**{key: given[key] for key in _LINK_KEYS if key in given}),
    )


def _number(key: str, value: str) -> float:
    if key not in _KEYS:
        near = get_close_matches(key, _KEYS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}"
        raise ConfigError(f"unknown fault {key!r}: {hint}")
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"fault {key!r} needs a number, as in {key}=0.1, not {value!r}") from None
    if key == "seed":
        if not number.is_integer():
            raise ConfigError(f"the seed of faults is a whole number, not {value}")
    elif key in _TIMES:
        if not isfinite(number) or number < 0:
            raise ConfigError(f"fault {key!r} is a number of seconds, 0 or more, not {value}")
    elif not 0 <= number <= 1:
        raise ConfigError(f"fault {key!r} is a share of the lines, from 0 to 1, not {value}")
    return number


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
        self._harmless = not any(getattr(rates, key) for key in _SHARES)
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
        self.from_board = WireFaults(plan.lines, random.Random(f"{plan.seed} {name} from"))  # noqa: S311 repeatable, no secret
        self.to_board = WireFaults(plan.lines, random.Random(f"{plan.seed} {name} to"))  # noqa: S311 as above


class LinkAction(Enum):
    """What happens to the wire."""

    UNPLUG = "unplug"
    PLUG = "plug"
    STALL = "stall"
    RESUME = "resume"
    RESTART = "restart"


class LinkEvent(NamedTuple):
    """Something that happens to the wire at a moment."""

    at_s: float
    """Seconds since the start."""
    action: LinkAction


def link_events(plan: FaultPlan, name: str = "") -> Iterator[LinkEvent]:
    """Yield what happens to the wire, in order, without end; nothing when the wire never fails."""
    rates = plan.link
    streams = [
        _failures(random.Random(f"{plan.seed} {name} {begin.value}"), every_s, last_s, begin, end)  # noqa: S311 repeatable, no secret
        for every_s, last_s, begin, end in (
            (rates.unplug_every_s, rates.unplug_s, LinkAction.UNPLUG, LinkAction.PLUG),
            (rates.stall_every_s, rates.stall_s, LinkAction.STALL, LinkAction.RESUME),
            (rates.restart_every_s, 0.0, LinkAction.RESTART, None),
        )
        if every_s > 0
    ]
    return heapq.merge(*streams, key=lambda event: event.at_s)


def _failures(
    rng: random.Random, every_s: float, last_s: float, begin: LinkAction, end: LinkAction | None
) -> Iterator[LinkEvent]:
    at_s = 0.0
    while True:
        at_s += rng.uniform(0.5, 1.5) * every_s
        yield LinkEvent(at_s, begin)
        at_s += last_s
        if end is not None:
            yield LinkEvent(at_s, end)
