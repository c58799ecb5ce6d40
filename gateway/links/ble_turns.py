"""Turns: an adapter bears a few connections at a time, so boards share them.

Boards keep their samples while they are not connected; a turn is long enough to take them.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Turn:
    """A slot that somebody has."""

    since_s: float = math.inf
    """When it began to be of use; infinite until then."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the slot should be given back, because others have waited long enough."""
    on_over: Callable[[], None] = lambda: None
    """Called then, too."""


class Turns:
    """A number of slots, handed out in the order of asking.

    Nobody has to give back a slot before `turn_s` have passed since `begin`, nor while nobody
    waits; then the one who has had it longest is asked first. One who does not give it back costs
    that slot, and no other.
    """

    def __init__(self, slots: int, turn_s: float, now_s: Callable[[], float]) -> None:
        self._free = slots
        self._turn_s = turn_s
        self._now_s = now_s
        self._held: list[Turn] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """How many have one."""
        return len(self._held)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Turn]:
        """Have a slot for as long as the context lasts; wait until there is one."""
        await self._wait()
        turn = Turn()
        self._held.append(turn)
        try:
            yield turn
        finally:
            self._held.remove(turn)
            self._give_back()

    def begin(self, turn: Turn, for_s: float | None = None) -> None:
        """Let its time run, anew if it ran already: `for_s`, or a whole turn."""
        turn.since_s = self._now_s() + (0.0 if for_s is None else for_s - self._turn_s)
        self._look()

    async def _wait(self) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(called)
        self._look()
        try:
            await called
        except asyncio.CancelledError:
            if not called.cancelled():
                self._give_back()  # it was called in the moment it left
            elif called in self._waiting:
                self._waiting.remove(called)
                self._look()
            raise

    def _give_back(self) -> None:
        while self._waiting:
            called = self._waiting.popleft()
            if not called.done():
                called.set_result(None)
                break
        else:
            self._free += 1
        self._look()

    def _look(self) -> None:
        """Ask for as many slots as are waited for and are not asked for yet, in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked = sum(turn.over.is_set() for turn in self._held)
        for turn in sorted(self._held, key=lambda turn: turn.since_s):
            if asked >= len(self._waiting):
                return
            if turn.over.is_set():
                continue
            left_s = turn.since_s + self._turn_s - self._now_s()
            if math.isinf(left_s):
                return
            if left_s > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(left_s, self._look)
                return
            turn.over.set()
            asked += 1
            turn.on_over()
