"""A board that was welcomed: what it has, what it measures, what it answers."""

from gateway.protocol.board_description import BoardDescription
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


class JoinedBoard:
    """Takes every message of one board from its WELCOME until it leaves."""

    def __init__(
        self,
        hello: Hello,
        description: BoardDescription,
        reception: Reception,
        requests: Requests,
        now_s: float,
    ) -> None:
        self.hello = hello
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
        return events

    def next_question(self, now_s: float, events: list[SessionEvent]) -> bytes | None:
        """Return the line that asks what is to be asked now, if anything."""
        question = self._requests.next_line(now_s)
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
