"""The gateway's questions to one board: at most one on its way at a time (P3)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.protocol.fields import Json
from gateway.protocol.frames import FRAME_OVERHEAD, Frame
from gateway.protocol.message_values import ALL_STREAMS, Command, Response, StreamRequest
from gateway.protocol.messages import encode
from gateway.protocol.session_events import CommandEnded, CommandReturned, Outcome
from gateway.protocol.update import UpdateEvent
from gateway.protocol.updating import FromUpdated, Updating

ANSWER_TIMEOUT_S = 1.0
"""An unanswered question is repeated after this; a board answers within some 50 ms."""

MAX_ASKS = 10
"""How often a board is asked for the same description before it is taken as it is."""

MAX_COMMANDS = 2
"""Commands that a session may have at once; more are refused.

While one is sent the next waits, so that the line is never idle. It is no more, because a board is
asked again (after a second, on another link, by another run of the gateway) only for these, in
their order: so it must remember only the last two, and those are the ones whose answers it keeps
whole. See P15.
"""

MAX_TTL_MS = 86_400_000
"""Longest life of a command: a day."""

_NEVER = float("inf")

_ASK: Final = 0
_UPDATE: Final = 2
"""Whose turn it was, in the order in which they come."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command for one board, to be done at most once."""

    command_id: str
    """Differs from all others that the board may have heard."""
    name: str
    arguments: Json
    expires_s: float
    """Monotonic time at which it ends, done or not."""
    device: str
    life: str
    """The life of the board's memory for which it is meant (`Hello.life`)."""
    was_sent: bool = False
    """Whether the board may have got it already, in this life: from an earlier run of the gateway,
    or through another link."""


@dataclass(slots=True)
class _Waiting:
    order: Order
    mid: int
    was_sent: bool

    def frame(self, now_s: float) -> Frame:
        """Return the command with what is left of its time."""
        order = self.order
        ttl_ms = min(max(1, round((order.expires_s - now_s) * 1000)), MAX_TTL_MS)
        command = Command(order.name, order.arguments, ttl_ms, order.command_id)
        return encode(command, self.mid)

    def is_answered_by(self, response: Response, mid: int) -> bool:
        return (self.order.command_id, self.mid) == (response.command_id, mid)

    def ended_unheard(self) -> CommandEnded:
        outcome = Outcome.UNKNOWN if self.was_sent else Outcome.EXPIRED
        return CommandEnded(self.order.command_id, outcome)

    def returned(self) -> CommandReturned:
        return CommandReturned(self.order.command_id, self.was_sent)


class Requests:
    """Decides which question goes next: a missing description, the oldest command, an update's.

    They take turns, so that none waits for more than one of each of the others.
    """

    def __init__(self) -> None:
        self.unanswered: set[int] = set()
        """Streams (or ALL_STREAMS) the board never described, however often it was asked."""
        self._commands: deque[_Waiting] = deque()
        self._wanted: int | None = None
        self._given_up: int | None = None
        self._asks: dict[int, int] = {}
        self._asked_s = -_NEVER
        self.updating: Updating | None = None
        """The update that is under way; set to begin one while there is none."""
        self._on_its_way: _Waiting | StreamRequest | Updating | None = None
        self._last_turn = _UPDATE
        self._answer_due_s = 0.0
        self._mid = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to ask, nor an answer to wait for."""
        return (
            self._on_its_way is None
            and self._wanted is None
            and not self._commands
            and self.updating is None
        )

    def restart(self, now_s: float) -> None:
        """Begin anew with a board that was just welcomed: it now describes itself unasked."""
        self.unanswered.clear()
        self._asks.clear()
        self._wanted = None
        self._asked_s = now_s
        self._on_its_way = StreamRequest(ALL_STREAMS)  # WELCOME is that question, too
        self._last_turn = _ASK
        self._answer_due_s = now_s + ANSWER_TIMEOUT_S

    def want(self, stream: int) -> None:
        """Note that the board must be asked for this stream; ALL_STREAMS stays until it is met."""
        if self._wanted != ALL_STREAMS:
            self._wanted = stream

    def described(self, stream: int) -> None:
        """Note that a stream, or with ALL_STREAMS everything, is known now."""
        self.unanswered.discard(stream)
        if self._wanted == stream:
            self._wanted = None
        if self._on_its_way == StreamRequest(stream):
            self._on_its_way = None

    def take(self, order: Order, now_s: float, largest_frame: int) -> CommandEnded | None:
        """Queue a command; returns its end at once if it can never be sent.

        `largest_frame` is what can be said to the board in one frame, in bytes with the checksum.
        """
        waiting = _Waiting(order, self.next_mid(), order.was_sent)
        if len(self._commands) >= MAX_COMMANDS:
            return _refused(order, "too many commands waiting")
        if len(waiting.frame(now_s).payload) + FRAME_OVERHEAD > largest_frame:
            return _refused(order, "too long for the line")
        self._commands.append(waiting)
        return None

    def answered(self, response: Response, mid: int) -> list[CommandEnded]:
        """End the command that `response` answers; an answer that came twice ends nothing."""
        asked = self._on_its_way
        if isinstance(asked, _Waiting) and asked.is_answered_by(response, mid):
            self._on_its_way = None
        head = self._commands[0] if self._commands else None
        if head is None or not head.was_sent:
            return []
        if not head.is_answered_by(response, mid):
            return []
        command_id = head.order.command_id
        self._commands.popleft()
        if response.error is not None:
            return [CommandEnded(command_id, Outcome.FAILED, error=response.error)]
        return [CommandEnded(command_id, Outcome.DONE, response.result)]

    def change_update(self, change: Callable[[Updating], list[UpdateEvent]]) -> list[UpdateEvent]:
        """Have the update that is under way, if one is, take what happened; return what it says."""
        if self.updating is None:
            return []
        events = change(self.updating)
        self._drop_update_if_over()
        return events

    def about_update(self, answer: FromUpdated, mid: int, now_s: float) -> list[UpdateEvent]:
        """Return what an answer changes of the update that is under way."""
        updating = self.updating
        if updating is not None and self._on_its_way is updating and mid == updating.mid:
            self._on_its_way = None
        return self.change_update(lambda updating: updating.take(answer, mid, now_s))

    def next_mid(self) -> int:
        """Return the id of the next question."""
        self._mid = self._mid % 255 + 1
        return self._mid

    def forget(self) -> list[CommandEnded | CommandReturned]:
        """Let go of all commands: the board lost its memory.

        Whether it had done what was sent nobody will know; the others are meant for its past life.
        """
        return [
            waiting.ended_unheard() if waiting.was_sent else waiting.returned()
            for waiting in self._take_all()
        ]

    def refuse(self, error: str) -> list[CommandEnded]:
        """End all commands: the board cannot be commanded any more."""
        return [
            replace(waiting.ended_unheard(), error=error)
            if waiting.was_sent
            else _refused(waiting.order, error)
            for waiting in self._take_all()
        ]

    def give_back(self) -> list[CommandReturned]:
        """Let go of all commands: the board left."""
        return [waiting.returned() for waiting in self._take_all()]

    def expired(self, now_s: float) -> list[CommandEnded]:
        """End the commands whose time has passed."""
        late = [waiting for waiting in self._commands if waiting.order.expires_s <= now_s]
        for waiting in late:
            self._commands.remove(waiting)  # if it is on its way, the line is the board's (P3)
        return [waiting.ended_unheard() for waiting in late]

    def next_question(self, now_s: float) -> Frame | None:
        """Return what to ask now; None while another is on its way, or none is due."""
        if self._on_its_way is not None and now_s < self._answer_due_s:
            return None
        self._on_its_way = None
        turns = (self._ask, self._command, self._update)
        for step in range(1, len(turns) + 1):
            turn = (self._last_turn + step) % len(turns)
            frame = turns[turn](now_s)
            if frame is not None:
                self._last_turn = turn
                self._answer_due_s = now_s + ANSWER_TIMEOUT_S
                return frame
        return None

    def take_given_up(self) -> int | None:
        """Return the stream that was given up since the last call, if one was."""
        stream, self._given_up = self._given_up, None
        return stream

    def deadline_s(self) -> float:
        """Return when something here is due next; infinity for never."""
        due_s = min((waiting.order.expires_s for waiting in self._commands), default=_NEVER)
        if self.updating is not None:
            due_s = min(due_s, self.updating.expires_s)
        if self._on_its_way is not None:
            return min(due_s, self._answer_due_s)
        if self.updating is not None:
            due_s = min(due_s, self.updating.due_s)
        if self._wanted is not None:
            return min(due_s, self._asked_s + ANSWER_TIMEOUT_S)
        return due_s

    def _ask(self, now_s: float) -> Frame | None:
        ask = self._due_ask(now_s)
        if ask is None:
            return None
        self._asks[ask] = self._asks.get(ask, 0) + 1
        self._asked_s = now_s
        request = self._on_its_way = StreamRequest(ask)
        return encode(request)

    def _command(self, now_s: float) -> Frame | None:
        if not self._commands:
            return None
        head = self._on_its_way = self._commands[0]
        head.was_sent = True
        return head.frame(now_s)

    def _update(self, now_s: float) -> Frame | None:
        updating = self.updating
        frame = None if updating is None else updating.next_frame(now_s)
        if frame is not None:
            self._on_its_way = updating
            self._drop_update_if_over()
        return frame

    def _drop_update_if_over(self) -> None:
        if self.updating is not None and self.updating.is_over:
            if self._on_its_way is self.updating:
                self._on_its_way = None
            self.updating = None

    def _due_ask(self, now_s: float) -> int | None:
        wanted = self._wanted
        if wanted is None or now_s < self._asked_s + ANSWER_TIMEOUT_S:
            return None
        if self._asks.get(wanted, 0) >= MAX_ASKS:
            self.unanswered.add(wanted)
            self._given_up = wanted
            self._wanted = None
            return None
        return wanted

    def _take_all(self) -> list[_Waiting]:
        everything = list(self._commands)
        self._commands.clear()
        if isinstance(self._on_its_way, _Waiting):
            self._on_its_way = None
        return everything


def _refused(order: Order, error: str) -> CommandEnded:
    return CommandEnded(order.command_id, Outcome.FAILED, error=error)
