"""A board that was welcomed: what it has, what it measures, what it answers."""

from gateway.model import device_slug
from gateway.protocol.board_description import BoardDescription
from gateway.protocol.frames import FRAME_OVERHEAD, Frame
from gateway.protocol.guard import Guard
from gateway.protocol.message_values import (
    ALL_STREAMS,
    U32,
    AboutUpdate,
    ActuatorReport,
    Bye,
    Hello,
    Log,
    Ping,
    Pong,
    Read,
    Response,
    Stream,
)
from gateway.protocol.reception import Reception
from gateway.protocol.requests import Requests
from gateway.protocol.session_events import (
    ActuatorStated,
    BoardTime,
    Logged,
    Refused,
    SessionEvent,
    SessionFault,
)
from gateway.protocol.update import Update, UpdateEnded, UpdateEvent, UpdateOutcome
from gateway.protocol.update_values import UpdateAbort, UpdateDataAck, UpdateNeed, UpdateState
from gateway.protocol.updating import Updating


class JoinedBoard:
    """Takes every message of one board from its WELCOME until it leaves."""

    def __init__(  # noqa: PLR0913  # what the session has of it
        self,
        hello: Hello,
        description: BoardDescription,
        reception: Reception,
        requests: Requests,
        *,
        largest_frame: int,
        guard: Guard,
        now_s: float,
    ) -> None:
        """`largest_frame` is what can be said to it at once, in bytes with the checksum."""
        self.hello = hello
        self.device = device_slug(hello.id)
        self.guard = guard
        """Seals what it takes only sealed; another one when its key changes."""
        self._largest_frame = largest_frame
        self.description = description
        self.reception = reception
        self.heard_s = now_s
        """When the board's last valid frame came."""
        self.pong: tuple[Pong, int] | None = None
        """The answer due to its PING, with its mid."""
        self._requests = requests
        requests.restart(now_s)
        if description.is_complete:
            requests.described(ALL_STREAMS)
        else:
            requests.want(ALL_STREAMS)

    def receive(
        self,
        message: Ping | Stream | ActuatorReport | Read | Response | Log | Bye | AboutUpdate,
        mid: int,
        now_s: float,
        unix_s: float,
    ) -> list[SessionEvent]:
        """Return what a message means, in order; a BYE means nothing here."""
        self.heard_s = now_s
        events: list[SessionEvent] = []
        match message:
            case Read():
                self._on_read(message, now_s, events)
            case Ping():
                self.pong = (Pong(message.mono_ms, *moment(unix_s)), mid)
                if message.next_seq is not None:
                    self.reception.watermark.claim(message.next_seq)
                self.reception.ack_due = True  # in case the last ACK was lost
                events.append(BoardTime(message.mono_ms))
            case Stream() | ActuatorReport():
                self._on_description(message, events)
            case Response():
                events += self._requests.answered(message, mid)
            case Log():
                events.append(Logged(message.level, message.text))
            case UpdateNeed() | UpdateDataAck() | UpdateAbort() | UpdateState():
                events += self._requests.about_update(message, mid, now_s)
                if isinstance(message, UpdateState):
                    events.append(message)
        return events

    def update(self, update: Update, now_s: float) -> list[UpdateEvent]:
        """Begin an update; returns its end at once if it cannot be for this board."""
        refusal = self.guard.refusal or update.refusal(self.hello)
        if self._requests.updating is not None:
            refusal = "another update of it is under way"
        if refusal:
            return [UpdateEnded(self.device, UpdateOutcome.REFUSED, refusal)]
        if update.is_in_force(self.hello):
            outcome = UpdateOutcome.ON_TRIAL if self.hello.trial else UpdateOutcome.UNCHANGED
            return [UpdateEnded(self.device, outcome)]
        updating = self._requests.updating = Updating(
            self.device,
            update,
            room=self._room,
            mac=self._mac,
            next_mid=self._requests.next_mid,
            now_s=now_s,
        )
        return [updating.progress]

    def update_rejoined(self, now_s: float, *, same: bool) -> list[UpdateEvent]:
        """Return what it means for the update under way that the board said HELLO again.

        `same`: it still knows what it did.
        """
        return self._requests.change_update(
            lambda updating: updating.rejoined(self.hello, self._room, self._mac, now_s, same=same)
        )

    @property
    def largest_frame(self) -> int:
        """Bytes, with the checksum, of a frame to it before that is sealed."""
        return self._largest_frame - self.guard.overhead

    @property
    def _room(self) -> int:
        """Bytes that one frame to it can carry as its payload."""
        return self.largest_frame - FRAME_OVERHEAD

    def _mac(self, covered: bytes) -> bytes:
        return self.guard.mac(covered)

    def next_question(self, now_s: float, events: list[SessionEvent]) -> Frame | None:
        """Return what is to be asked now, if anything."""
        question = self._requests.next_question(now_s)
        stream = self._requests.take_given_up()
        if stream is not None:
            what = "everything" if stream == ALL_STREAMS else f"stream {stream}"
            events.append(Refused(SessionFault.UNDESCRIBED, f"{self.hello.id}: {what}"))
            if not self.description.is_complete:
                self.description.take_as_it_is()
                events.append(self.description.described())
            self.reception.rewind()
        return question

    def _on_read(self, read: Read, now_s: float, events: list[SessionEvent]) -> None:
        if not self.description.is_complete:
            self.reception.refuse()
            return
        layouts, given_up = self.description.layouts, self._requests.unanswered
        unknown_stream = self.reception.take(read, layouts, given_up, now_s, events)
        if unknown_stream is not None:
            self._requests.want(unknown_stream)

    def _on_description(self, message: Stream | ActuatorReport, events: list[SessionEvent]) -> None:
        change: ActuatorStated | bool
        if isinstance(message, Stream):
            change = self.description.add_stream(message)
            if message.number in self.description.layouts:
                self._requests.described(message.number)
        else:
            change = self.description.add_actuator(message)
        if not self.description.is_complete:
            return
        self._requests.described(ALL_STREAMS)
        self.reception.rewind()
        if isinstance(change, ActuatorStated):
            events.append(change)
        elif change:
            events.append(self.description.described())


def moment(unix_s: float) -> tuple[int, int]:
    """Return whole seconds since 1970 that fit u32, and milliseconds."""
    seconds, millis = divmod(round(unix_s * 1000), 1000)
    return min(max(seconds, 0), U32), millis
