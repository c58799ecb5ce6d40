"""Boards with our firmware: what their session says, as events of the gateway."""

from dataclasses import replace
from functools import partial
from typing import Final

from gateway.clock import Clock
from gateway.drivers.base import OnCommandEnd, OnUpdateEvent
from gateway.drivers.board_clock import OLDEST_MS, WRAP_MS, BoardClock
from gateway.drivers.board_sensors import (
    actuator_names,
    actuator_of,
    actuators_of,
    sensor_keys,
    sensors_of,
)
from gateway.drivers.log_budget import LogBudget
from gateway.model import (
    ActuatorChanged,
    Description,
    DeviceLog,
    Event,
    Fault,
    Gap,
    GapCause,
    Gone,
    LogLevel,
    Readings,
    Record,
    Sample,
    Seen,
    TakesCommands,
    UpdateStated,
)
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.frames import MAX_FRAME_ON_256, Frame
from gateway.protocol.guard import Keys
from gateway.protocol.messages import Hello
from gateway.protocol.records import MONO_FIELD, STREAM_FIELD, Scaling
from gateway.protocol.requests import Order
from gateway.protocol.session import HEARTBEAT_S, Session
from gateway.protocol.session_events import (
    ActuatorStated,
    BoardTime,
    CommandEnded,
    CommandReturned,
    Described,
    Forgotten,
    Joined,
    Left,
    Logged,
    Missed,
    Received,
    Refused,
    SessionEvent,
)
from gateway.protocol.update import Update, UpdateEnded, UpdateEvent, UpdateProgress
from gateway.protocol.update_values import BoardUpdateState, UpdateState

DRIVER: Final = "board"
"""What `Description.driver` says of boards with our firmware."""

MAX_LOG = 512
"""Longest log line taken from a board, in characters."""

MAX_DETAIL = 120
"""Longest detail of a fault, in characters."""

MAX_REASON = 300
"""Longest reason for which an update ended, in characters; the gateway has some, too."""


class BoardDriver:
    """Speaks with whatever board of ours is on one link; fed frames, not bytes."""

    def __init__(  # noqa: PLR0913  # a port, and what all ports share
        self,
        port_name: str,
        book: DeliveryBook,
        clock: Clock,
        session_id: str,
        heartbeat_s: float = HEARTBEAT_S,
        *,
        logs: LogBudget | None = None,
        largest_frame: int = MAX_FRAME_ON_256,
        keys: Keys | None = None,
    ) -> None:
        """`logs` is what the port may still publish; None for a budget of the board's own.

        `largest_frame` is what the link carries to a board, in bytes. `keys` knows boards' keys.
        """
        self.device = ""
        """The board that is there; empty when there is none."""
        self.has_joined = False
        """Whether a board of ours ever joined on this link."""
        self.session = Session(
            book, session_id, heartbeat_s, largest_frame=largest_frame, keys=keys
        )
        self._port_name = port_name
        self._clock = clock
        self._logs = LogBudget() if logs is None else logs
        self._hello: Hello | None = None
        self._board_clock = BoardClock()
        self._scalings: dict[int, Scaling] = {}
        self._actuator_names: dict[str, str] = {}
        self._seen: Description | None = None
        self._told_life: str | None = None
        self._on_command_end: dict[str, OnCommandEnd] = {}
        self._on_update_event: OnUpdateEvent | None = None
        """Of the update that is under way."""

    def receive(self, frame: Frame, now_s: float, out: list[Event]) -> None:
        """Append what a frame means."""
        for event in self.session.receive(frame, now_s, self._clock.unix_s()):
            self._take(event, now_s, out)

    def tick(self, now_s: float, out: list[Event]) -> None:
        """Append what time has made of things."""
        for event in self.session.tick(now_s):
            self._take(event, now_s, out)

    def close(self, now_s: float, out: list[Event]) -> None:
        """Append that the board went with the link, if there was one."""
        for event in self.session.close():
            self._take(event, now_s, out)

    def command(self, order: Order, now_s: float, on_end: OnCommandEnd) -> None:
        """Have the board do something at most once; `on_end` is called exactly once."""
        if order.name == "set" and isinstance(order.arguments, dict):
            names = self._actuator_names
            own = {names.get(key, key): value for key, value in order.arguments.items()}
            order = replace(order, arguments=own)
        ended = self.session.command(order, now_s)
        if ended is not None:
            on_end(ended)
        else:
            self._on_command_end[order.command_id] = on_end

    def update(self, device: str, update: Update, now_s: float, on_event: OnUpdateEvent) -> None:
        """Update the board, if it is that device; `on_event` is told its end exactly once."""
        events = self.session.update(device, update, now_s)
        if not any(isinstance(event, UpdateEnded) for event in events):
            self._on_update_event = on_event
        for event in events:
            on_event(event)

    def abort_update(self, device: str, why: str, now_s: float) -> None:
        """End the update of that device, if one is under way."""
        for event in self.session.abort_update(device, why, now_s):
            self._tell_of_update(event)

    def _tell_of_update(self, event: UpdateEvent) -> None:
        on_event = self._on_update_event
        if isinstance(event, UpdateEnded):
            self._on_update_event = None
            event = replace(event, detail=clean(event.detail, MAX_REASON))
        if on_event is not None:
            on_event(event)

    def _readings(self, received: Received, now_s: float) -> Readings:
        mark, seq, now_ms, raw_records = received
        self._board_clock.note(now_ms, now_s)
        sent_s = self._board_clock.sent_s()
        device, boot, scalings = self.device, mark.epoch, self._scalings
        records: list[Record] = []
        for at, raw in enumerate(raw_records, seq):
            if raw is None:
                records.append(Gap(device, boot, at, at, GapCause.UNREADABLE, now_s))
                continue
            age_ms = (now_ms - raw[MONO_FIELD]) % WRAP_MS
            if age_ms > OLDEST_MS:
                age_ms = 0
            values = scalings[raw[STREAM_FIELD]].values(raw)
            records.append(Sample(device, boot, at, sent_s - age_ms / 1000, values))
        last_seq = seq + len(raw_records) - 1
        return Readings(device, tuple(records), partial(mark.mark_safe, seq, last_seq))

    def _take(self, event: SessionEvent, now_s: float, out: list[Event]) -> None:
        match event:
            case Received():
                out.append(self._readings(event, now_s))
            case Missed() | Forgotten():
                out.append(self._gap(event, now_s))
            case BoardTime():
                self._board_clock.note(event.mono_ms, now_s)
            case Joined() | Described() | Left():
                self._meet(event, out)
            case ActuatorStated():
                out.append(ActuatorChanged(self.device, actuator_of(event.actuator)))
            case Logged():
                out.append(self._log(event, now_s))
            case CommandEnded() | CommandReturned():
                self._on_command_end.pop(event.command_id)(event)
            case UpdateProgress() | UpdateEnded() | UpdateState():
                self._on_update(event, out)
            case Refused():
                out.append(Fault(event.fault.value, clean(event.detail, MAX_DETAIL)))

    def _log(self, logged: Logged, now_s: float) -> Event:
        if not self._logs.take(now_s):
            return Fault("log_flood", clean(logged.text, MAX_DETAIL))
        level = LogLevel(min(max(logged.level, 1), 4))
        return DeviceLog(self.device, level, clean(logged.text, MAX_LOG))

    def _on_update(self, event: UpdateEvent | UpdateState, out: list[Event]) -> None:
        if isinstance(event, UpdateState):
            if event.state is BoardUpdateState.CONFIRMED:
                self._end_trial(out)
            manifest_hash, reason = clean(event.manifest_hash, 64), clean(event.reason, MAX_DETAIL)
            out.append(UpdateStated(self.device, event.state.value, manifest_hash, reason))
        else:
            self._tell_of_update(event)

    def _end_trial(self, out: list[Event]) -> None:
        """Have what HELLO said be over: the next one may be long in coming."""
        if self._hello is not None:
            self._hello = replace(self._hello, trial=False)
        if self._seen is not None and self._seen.is_on_trial:
            self._seen = replace(self._seen, is_on_trial=False)
            out.append(Seen(self._seen))

    def _gap(self, lost: Missed | Forgotten, now_s: float) -> Readings:
        is_dropped = isinstance(lost, Missed)
        cause = GapCause.RING_OVERFLOW if is_dropped else GapCause.POWER_LOSS
        mark, first_seq, last_seq = lost.watermark, lost.first_seq, lost.last_seq
        gap = Gap(self.device, mark.epoch, first_seq, last_seq, cause, now_s)
        return Readings(self.device, (gap,), partial(mark.mark_safe, first_seq, last_seq))

    def _meet(self, event: Joined | Described | Left, out: list[Event]) -> None:
        match event:
            case Joined():
                before, self._hello = self._hello, event.hello
                if before is None or (before.id, before.epoch) != (
                    event.hello.id,
                    event.hello.epoch,
                ):
                    self._board_clock = BoardClock()
                self.device, self.has_joined = event.device, True
            case Described():
                if self._hello is not None:
                    self._describe(event, self._hello, out)
            case Left():
                self.device, self._seen, self._told_life = "", None, None
                out.append(Gone(event.device, event.reason.value, event.back_in_s))

    def _describe(self, described: Described, hello: Hello, out: list[Event]) -> None:
        keys = sensor_keys(described.streams)
        self._scalings = {
            stream.number: Scaling(stream, keys[stream.number]) for stream in described.streams
        }
        description = Description(
            device=self.device,
            name=clean(hello.name or hello.id, 64),
            driver=DRIVER,
            model=clean(hello.platform, 64),
            firmware=clean(hello.firmware, 64),
            runtime=clean(hello.runtime, 64),
            address=self._port_name,
            sensors=sensors_of(described.streams, keys),
            actuators=actuators_of(described.actuators),
            boot=hello.epoch,
            reset_cause=clean(hello.reset_cause, 64),
            crash=hello.crash,
            manifest_hash=clean(hello.manifest_hash, 64),
            config_hash=hello.config_hash,
            slot=clean(hello.slot, 64),
            is_on_trial=hello.trial,
            rollback=clean(hello.rollback, MAX_DETAIL),
            bytecode=hello.bytecode,
            key_id=hello.key_id,
        )
        self._actuator_names = actuator_names(described.actuators)
        if description != self._seen:
            self._seen = description
            out.append(Seen(description))
        if hello.life != self._told_life:
            self._told_life = hello.life
            out.append(TakesCommands(self.device, hello.life))


def clean(text: str, longest: int) -> str:
    """Return the start of a text in one line, with what cannot be printed as blanks."""
    return "".join(c if c.isprintable() else " " for c in text[:longest]).strip()
