"""Turns: an adapter bears a few connections at a time, so boards share them.

Boards keep their samples while they are not connected; a turn is long enough to take them.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

LEAST_S: Final = 2.0
CONNECTING_S: Final = 5.0
"""So much of its turn is anybody's, also when one waits who is there for moments only; and so much
time to connect."""

REST: Final = 3
"""Strangers who had a slot wait so many times as long before they ask for one again."""


class Guest(Enum):
    """Who wants a slot."""

    BRIEF = "brief"
    """One of ours that sleeps: it is there for seconds, and gone before the queue has moved."""
    SETTLED = "settled"
    """One of ours that is always there."""
    STRANGER = "stranger"
    """Somebody who says that it is one of ours."""


@dataclass(slots=True, eq=False)
class Turn:
    """A slot that somebody has."""

    guest: Guest
    taken_s: float
    owed_s: float = 0.0
    """So long it is not asked for by those who are there for moments only."""
    since_s: float = math.inf
    """When it began to be of use; infinite until then."""
    spared_s: float = math.inf
    """Until when it is not asked for by those who are there for moments only."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the slot should be given back, because others have waited long enough."""
    on_over: Callable[[], None] = lambda: None
    """Called then, too."""


class Turns:
    """A number of slots, handed out in the order of asking, for each kind of guest.

    Nobody has to give back a slot before `turn_s` have passed since `begin`, nor while nobody
    waits; then the one who has had it longest is asked first. One who does not give it back costs
    that slot, and no other. But:

    - Boards that sleep come first, and ask for a slot in use after `LEAST_S`. So that they do not
      have them all, at least every second slot that becomes free goes to a board that does not
      sleep, if one waits, which then is left alone for as long as the others had it.
    - Strangers have what is left over. While boards of ours want a slot, or hold all, one stranger
      at a time has one, and after it none for `REST` times as long.
    """

    def __init__(self, slots: int, turn_s: float, now_s: Callable[[], float]) -> None:
        self._free = slots
        self._turn_s = turn_s
        self._now_s = now_s
        self._held: list[Turn] = []
        self._queues: dict[Guest, deque[asyncio.Future[None]]] = {each: deque() for each in Guest}
        self._was_brief = False
        """Whether the last slot went to one who is there for moments only."""
        self._owed_s = 0.0
        """How long those and strangers had slots, since one who is always there got one."""
        self._strangers_rest_s = -math.inf
        """Until when strangers do not ask for a slot."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def held(self) -> int:
        """How many have one."""
        return len(self._held)

    @asynccontextmanager
    async def take(self, guest: Guest = Guest.SETTLED) -> AsyncIterator[Turn]:
        """Have a slot for as long as the context lasts; wait until there is one."""
        await self._wait(guest)
        turn = Turn(guest, self._now_s())
        if guest is Guest.SETTLED:
            turn.owed_s, self._owed_s = self._owed_s, 0.0
        self._held.append(turn)
        try:
            yield turn
        finally:
            self._held.remove(turn)
            self._note_end(turn)
            self._give_back()

    def begin(self, turn: Turn, for_s: float | None = None) -> None:
        """Let its time run, anew if it ran already: `for_s`, or a whole turn."""
        now_s = self._now_s()
        turn.since_s = now_s + (0.0 if for_s is None else for_s - self._turn_s)
        if turn.guest is Guest.BRIEF:
            turn.spared_s = self._end_s(turn)
        elif turn.guest is Guest.STRANGER:
            turn.spared_s = turn.taken_s + LEAST_S
        else:
            least_s = LEAST_S if for_s is None else CONNECTING_S
            turn.spared_s = min(now_s + max(least_s, turn.owed_s), self._end_s(turn))
        self._look()

    def welcome(self, turn: Turn, guest: Guest) -> None:
        """Note that who has the slot is a stranger no longer; a whole turn begins."""
        turn.guest = guest
        self.begin(turn)

    async def _wait(self, guest: Guest) -> None:
        if self._free and not self.waiting:
            self._free -= 1
            return
        queue = self._queues[guest]
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(called)
        self._look()
        try:
            await called
        except asyncio.CancelledError:
            if not called.cancelled():
                self._give_back()  # it was called in the moment it left
            elif called in queue:
                queue.remove(called)
                self._look()
            raise

    def _note_end(self, turn: Turn) -> None:
        now_s = self._now_s()
        if turn.guest is not Guest.SETTLED and self._queues[Guest.SETTLED]:
            self._owed_s = min(self._owed_s + now_s - turn.taken_s, self._turn_s)
        if turn.guest is Guest.STRANGER:
            self._strangers_rest_s = now_s + REST * (now_s - turn.taken_s)

    def _give_back(self) -> None:
        while queue := self._next_queue():
            called = queue.popleft()
            if not called.done():
                self._was_brief = queue is self._queues[Guest.BRIEF]
                called.set_result(None)
                break
        else:
            self._free += 1
        self._look()

    def _next_queue(self) -> deque[asyncio.Future[None]]:
        brief, settled, strangers = (self._queues[each] for each in Guest)
        if brief and not (self._was_brief and settled):
            return brief
        is_their_turn = not self._strangers_held() and self._now_s() >= self._strangers_rest_s
        if strangers and (is_their_turn or not settled):
            return strangers
        return settled

    def _strangers_held(self) -> list[Turn]:
        return [turn for turn in self._held if turn.guest is Guest.STRANGER]

    def _look(self) -> None:
        """Ask for as many slots as are waited for and are not asked for yet, in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        brief, settled, strangers = (len(self._queues[each]) for each in Guest)
        held = self._strangers_held()
        if brief or settled:
            for turn in held[1:]:
                _ask(turn)
        rest_s = self._strangers_rest_s
        due_s = min(
            self._ask_for(brief, self._held, lambda turn: turn.spared_s),
            self._ask_for(brief + settled, self._held, self._end_s),
            self._ask_for(strangers, held, self._end_s)
            if held
            else self._ask_for(
                brief + settled + min(strangers, 1),
                self._held,
                lambda turn: max(self._end_s(turn), rest_s),
            ),
        )
        if not math.isinf(due_s):
            delay_s = max(due_s - self._now_s(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _end_s(self, turn: Turn) -> float:
        return turn.since_s + self._turn_s

    def _ask_for(self, wanted: int, of: list[Turn], due_s: Callable[[Turn], float]) -> float:
        """Ask for slots that are due until so many are asked for; return when the next is due."""
        asked = sum(turn.over.is_set() for turn in of)
        for turn in sorted(of, key=due_s):
            if asked >= wanted:
                break
            if turn.over.is_set():
                continue
            if due_s(turn) > self._now_s():
                return due_s(turn)
            _ask(turn)
            asked += 1
        return math.inf


def _ask(turn: Turn) -> None:
    if not turn.over.is_set():
        turn.over.set()
        turn.on_over()
