"""The gateway's end of the protocol on one link; sans-IO: frames and the time come in."""

from typing import TYPE_CHECKING

from gateway.model import device_slug
from gateway.protocol.board_description import BoardDescription
from gateway.protocol.delivery import DeliveryBook, Watermark
from gateway.protocol.frames import MAX_FRAME_ON_256, Frame
from gateway.protocol.guard import ASKED_SEALED, Guard, Keys, NoKeys, guard_of
from gateway.protocol.joined_board import JoinedBoard, moment
from gateway.protocol.messages import (
    PROTOCOL,
    U32,
    BadMessage,
    Bye,
    FromBoard,
    FromGateway,
    Hello,
    Log,
    MessageType,
    Read,
    UnknownMessage,
    Welcome,
    decode,
)
from gateway.protocol.outgoing import Outgoing
from gateway.protocol.reception import Reception, ReceptionCounts
from gateway.protocol.requests import Order, Requests
from gateway.protocol.sealed import SEALED
from gateway.protocol.session_events import (
    CommandEnded,
    CommandReturned,
    Forgotten,
    Joined,
    LeaveReason,
    Left,
    Logged,
    Outcome,
    Refused,
    SessionEvent,
    SessionFault,
)
from gateway.protocol.update import Update, UpdateEnded, UpdateEvent, UpdateOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT_S = 5.0
"""A board that has nothing to say sends a PING after this."""

SILENT_HEARTBEATS = 3
"""A link without a valid frame for so many heartbeats is down (P16)."""

CREDIT = 3
"""Batches a board may have in flight: one on the wire, one being answered, one to spare."""

HELLO_REQUEST_INTERVAL_S = 1.0

_NEVER = float("inf")


class Session:
    """Speaks with whatever board is on the link, one at a time.

    Call `receive` for every frame and `tick` once `deadline_s` has passed; write what
    `data_to_send` gives after each call, and whenever `on_output` was called.
    """

    def __init__(  # noqa: PLR0913  # the link, and what all links share
        self,
        book: DeliveryBook,
        session_id: str,
        heartbeat_s: float = HEARTBEAT_S,
        credit: int = CREDIT,
        *,
        largest_frame: int = MAX_FRAME_ON_256,
        keys: Keys | None = None,
    ) -> None:
        """`largest_frame`: the link carries no larger one to a board; on a serial line see P3.

        `keys` knows those of boards; None for nobody's.
        """
        self.counts = ReceptionCounts()
        self.on_output: Callable[[], None] | None = None
        """Called when there is something to send although nothing came in."""
        self._book = book
        self._session_id = session_id
        self._heartbeat_s = heartbeat_s
        self._credit = credit
        self._largest_frame = largest_frame
        self._keys = keys or NoKeys()
        self._guard: Guard | None = None
        """Of the board that said HELLO last; it may come back."""
        self._is_paused = False
        self._requests = Requests()
        self._board: JoinedBoard | None = None
        self._last_hello: Hello | None = None
        self._refused_id = ""
        self._hello_asked_s = -_NEVER
        self._outgoing = Outgoing()

    @property
    def deadline_s(self) -> float | None:
        """Monotonic time at which `tick` has something to do; None for never."""
        if self._board is None:
            return None
        return min(
            self._requests.deadline_s(),
            self._silent_s(self._board),
            self._board.reception.ack_due_s,
        )

    def receive(self, frame: Frame, now_s: float, unix_s: float) -> list[SessionEvent]:
        """Return what a frame means, in order; never raises, whatever it holds."""
        if frame.type < MessageType.COMMAND:  # never sealed, as nearly all frames are
            return self._take(frame, now_s, unix_s)
        opened = self._open(frame, now_s)
        return self._take(opened, now_s, unix_s) if isinstance(opened, Frame) else opened

    def tick(self, now_s: float) -> list[SessionEvent]:
        """Do what time makes due: notice silence, repeat a question, acknowledge what waits."""
        events: list[SessionEvent] = []
        if self._board is not None:
            self._board.reception.tick(now_s)
            if now_s >= self._silent_s(self._board):
                events += self._leave(LeaveReason.SILENT)
        self._ask_next(now_s, events)
        return events

    def data_to_send(self) -> bytes:
        """Return the lines due to the board and forget them."""
        return self._outgoing.take(self._board)

    def hold(self, *, paused: bool) -> None:
        """Give the board no credit for now, or go on."""
        if paused == self._is_paused:
            return
        self._is_paused = paused
        if self._board is not None:
            self._board.reception.hold(paused=paused)
            self._output()

    def command(self, order: Order, now_s: float) -> CommandEnded | CommandReturned | None:
        """Have the board do something at most once; returns what became of it if it cannot be sent.

        Otherwise its end comes as an event before `order.expires_s`, or it is given back because
        the board left. So is an order for a board that is not there, or in another of its lives.
        """
        board = self._board
        if board is None or (board.device, board.hello.life) != (order.device, order.life):
            return CommandReturned(order.command_id, order.was_sent)
        if order.was_sent and not order.life:
            return CommandEnded(order.command_id, Outcome.UNKNOWN)  # it may have been another life
        if refusal := self._reguarded(board).guard.refusal:
            outcome = Outcome.UNKNOWN if order.was_sent else Outcome.FAILED
            return CommandEnded(order.command_id, outcome, error=refusal)
        ended = self._requests.take(order, now_s, board.largest_frame)
        self._ask_now(now_s)
        return ended

    def update(self, device: str, update: Update, now_s: float) -> list[UpdateEvent]:
        """Update the board, which must be that device; returns what is to be told at once.

        Its end, exactly one `UpdateEnded`, is among that or comes as an event.
        """
        if self._board is None or self._board.device != device:
            return [UpdateEnded(device, UpdateOutcome.INTERRUPTED, "the board is not there")]
        events = self._reguarded(self._board).update(update, now_s)
        self._ask_now(now_s)
        return events

    def abort_update(self, device: str, why: str, now_s: float) -> list[UpdateEvent]:
        """End the update of that device, if one is under way here; returns its end."""
        updating = self._requests.updating
        if updating is None or updating.device != device:
            return []
        events = self._requests.change_update(lambda updating: updating.abort(why, now_s))
        self._ask_now(now_s)
        return events

    def close(self) -> list[SessionEvent]:
        """Let go of the board; the session is not used afterwards."""
        return self._leave(LeaveReason.CLOSED)

    def _take(self, frame: Frame, now_s: float, unix_s: float) -> list[SessionEvent]:
        message = decode(frame)
        board = self._board
        if type(message) is Read and board is not None and message.epoch == board.hello.epoch:
            events = board.receive(message, frame.mid, now_s, unix_s)  # nearly all frames are these
        elif isinstance(message, Hello):
            events = self._on_hello(message, now_s, unix_s)
        elif isinstance(message, FromGateway):
            events = [Refused(SessionFault.ECHO, type(message).__name__)]
        elif isinstance(message, BadMessage | UnknownMessage):
            events = [_unusable(message)]
            if board is not None:
                board.heard_s = now_s
        elif board is None:
            events = self._on_stranger(message, now_s)
        elif isinstance(message, Bye):
            events = self._leave(LeaveReason.BYE, message.wake_in_ms / 1000)
        elif isinstance(message, Read):
            detail = f"{message.epoch} instead of {board.hello.epoch}"
            events = [Refused(SessionFault.WRONG_EPOCH, detail)]
            events += self._on_stranger(message, now_s)
        else:
            events = board.receive(message, frame.mid, now_s, unix_s)
        self._ask_next(now_s, events)
        return events

    def _open(self, frame: Frame, now_s: float) -> Frame | list[SessionEvent]:
        """Return a frame without its seal, or what it means that it is not believed."""
        board, is_sealed = self._board, frame.type & SEALED
        if is_sealed and frame.type & ~SEALED in ASKED_SEALED:
            return [Refused(SessionFault.ECHO, f"type {frame.type:#04x}")]
        if board is None:
            if is_sealed:
                self._ask_who(now_s)
            return [] if is_sealed else frame
        opened = board.guard.open(frame)
        if isinstance(opened, Frame):
            return opened
        board.heard_s = now_s
        return [Refused(SessionFault.UNAUTHENTICATED, opened)]

    def _on_hello(self, hello: Hello, now_s: float, unix_s: float) -> list[SessionEvent]:
        if hello.protocol > PROTOCOL:
            detail = f"{hello.id} speaks version {hello.protocol}"
            return [Refused(SessionFault.UNSUPPORTED_PROTOCOL, detail)]
        events: list[SessionEvent] = []
        device = device_slug(hello.id)
        guard = guard_of(hello, device, self._keys, self._guard)
        if self._board is not None and self._board.device != device:
            events += self._leave(LeaveReason.REPLACED)
        if not self._book.claim(device, self):
            if hello.id != self._refused_id:
                self._refused_id = hello.id
                events.append(Refused(SessionFault.DUPLICATE_ID, hello.id))
            return events
        self._refused_id = ""
        mark = self._book.watermark(device, hello.epoch)
        if mark is not None and hello.next_seq < mark.claimed_next and not hello.is_closed:
            # Its flash was erased, or it is another board; nx beyond any sq tells it so.
            events += self._leave(LeaveReason.REPLACED)
            events.append(Refused(SessionFault.EPOCH_REUSED, f"{hello.id}: epoch {hello.epoch}"))
            self._put_welcome(guard, mark.epoch, U32, unix_s)
            return events
        if hello.previous_epoch is not None:
            self._book.end(device, hello.previous_epoch, hello.previous_next, hello.previous_acked)
        oldest_seq = hello.next_seq - hello.unacked
        if mark is None:
            mark = self._book.start(device, hello.epoch, min(hello.acked, oldest_seq))
        mark.skip_to(hello.acked)  # an earlier run of the gateway acknowledged it
        mark.claim(hello.next_seq)
        self._put_welcome(guard, mark.epoch, mark.safe_next, unix_s)
        self._board = self._join(hello, mark, guard, now_s, events)
        events.append(Joined(device, hello))
        events += self._past(device, hello.epoch)
        self._board.reception.expect(oldest_seq, events)
        if self._board.description.is_complete:
            events.append(self._board.description.described())
        return events

    def _past(self, device: str, epoch: int) -> list[SessionEvent]:
        """Give up what other epochs still owe: the board would have delivered it before."""
        lost = self._book.give_up(device, epoch)
        self.counts.forgotten += sum(last_seq - first_seq + 1 for _, first_seq, last_seq in lost)
        return [Forgotten(*loss) for loss in lost]

    def _join(
        self,
        hello: Hello,
        mark: Watermark,
        guard: Guard,
        now_s: float,
        events: list[SessionEvent],
    ) -> JoinedBoard:
        before, self._last_hello = self._last_hello, hello
        description = self._board.description if self._board is not None else None
        is_same_life = _is_same_life(before, hello)
        if not is_same_life:
            events += self._requests.forget()
            description = None
        reception = Reception(
            mark,
            self._credit,
            self.counts,
            self._output,
            self._book.pause_room,
            is_paused=self._is_paused,
        )
        if guard.refusal:
            events += self._requests.refuse(guard.refusal)
            events += self._requests.change_update(lambda updating: updating.leave(guard.refusal))
        board = JoinedBoard(
            hello,
            description or BoardDescription(hello),
            reception,
            self._requests,
            largest_frame=min(self._largest_frame, hello.largest_frame),
            guard=guard,
            now_s=now_s,
        )
        events += board.update_rejoined(now_s, same=is_same_life)
        return board

    def _put_welcome(self, guard: Guard, epoch: int, next_seq: int, unix_s: float) -> None:
        self._guard = guard
        credit = 0 if self._is_paused else self._credit
        welcome = Welcome(
            self._session_id, *moment(unix_s), epoch, next_seq, credit, self._heartbeat_s
        )
        self._outgoing.greet(welcome, guard)

    def _on_stranger(self, message: FromBoard, now_s: float) -> list[SessionEvent]:
        """Ask a board that this session does not know to say HELLO."""
        self._ask_who(now_s)
        return [Logged(message.level, message.text)] if isinstance(message, Log) else []

    def _ask_who(self, now_s: float) -> None:
        if now_s >= self._hello_asked_s + HELLO_REQUEST_INTERVAL_S:
            self._hello_asked_s = now_s
            self._outgoing.hello_request_is_due = True

    def _reguarded(self, board: JoinedBoard) -> JoinedBoard:
        """Return the board, guarded by what is known of its key now: one may have come or gone."""
        guard = guard_of(board.hello, board.device, self._keys, board.guard)
        if guard.proves and not board.guard.proves:  # its key has come: it may let go of records
            self._outgoing.hello_request_is_due = True
        board.guard = self._guard = guard
        return board

    def _leave(self, reason: LeaveReason, back_in_s: float | None = None) -> list[SessionEvent]:
        self._book.release(self)
        if self._board is None:
            return []
        device = self._board.device
        self._board.reception.detach()
        self._board = None
        self._outgoing.clear()
        updates = self._requests.change_update(lambda updating: updating.leave("the board left"))
        return [*updates, *self._requests.give_back(), Left(device, reason, back_in_s)]

    def _ask_next(self, now_s: float, events: list[SessionEvent]) -> None:
        if self._board is None or self._requests.is_idle:
            return
        events += self._requests.expired(now_s)
        events += self._requests.change_update(lambda updating: updating.tick(now_s))
        self._outgoing.ask(self._board.next_question(now_s, events))

    def _ask_now(self, now_s: float) -> None:
        """Ask what has come to be asked although nothing came in."""
        if not self._outgoing.has_question:
            self._outgoing.ask(self._requests.next_question(now_s))
            self._output()

    def _silent_s(self, board: JoinedBoard) -> float:
        return board.heard_s + SILENT_HEARTBEATS * self._heartbeat_s

    def _output(self) -> None:
        if self.on_output is not None:
            self.on_output()


def _is_same_life(before: Hello | None, hello: Hello) -> bool:
    """Whether the board still remembers what it did: its RAM was not lost in between."""
    return (
        before is not None
        and hello.life != ""
        and (before.id, before.life) == (hello.id, hello.life)
    )


def _unusable(message: BadMessage | UnknownMessage) -> Refused:
    if isinstance(message, BadMessage):
        return Refused(SessionFault.BAD_MESSAGE, f"type {message.type:#04x}: {message.reason}")
    detail = f"type {message.type:#04x}, {message.size} bytes"
    return Refused(SessionFault.UNKNOWN_TYPE, detail)
