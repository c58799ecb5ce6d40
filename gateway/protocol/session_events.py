"""What a session makes of frames: values for the driver."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

from gateway.protocol.delivery import Watermark
from gateway.protocol.fields import Json
from gateway.protocol.message_values import ActuatorReport, Hello, Stream
from gateway.protocol.records import RawRecord
from gateway.protocol.update import UpdateEvent
from gateway.protocol.update_values import UpdateState


class SessionFault(Enum):
    """Frames a session could not use."""

    BAD_MESSAGE = "bad_message"
    """The payload does not say what its type must."""
    UNKNOWN_TYPE = "unknown_type"
    BAD_RECORD = "bad_record"
    """Records that nobody can ever read, for their length or because the board never said what
    their stream means; they are published as lost."""
    UNDESCRIBED = "undescribed"
    """The board did not say what it has, or what a stream means, however often it was asked."""
    WRONG_EPOCH = "wrong_epoch"
    UNSUPPORTED_PROTOCOL = "unsupported_protocol"
    DUPLICATE_ID = "duplicate_id"
    """Another link speaks with a board of that id."""
    EPOCH_REUSED = "epoch_reused"
    """A board counts again from a lower seq without a new epoch: it is told to take another."""
    UNAUTHENTICATED = "unauthenticated"
    """What only the board with our key can say, and perhaps another said, or somebody again."""
    ECHO = "echo"
    """Our own frames came back."""


class LeaveReason(Enum):
    """Why a board is no longer there."""

    SILENT = "silent"
    """Nothing was heard for three heartbeats: the link is to be reopened."""
    BYE = "bye"
    REPLACED = "replaced"
    """Another board presented itself on the same link."""
    CLOSED = "closed"


class Outcome(Enum):
    """What became of a command."""

    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    """It was never sent in time, so it was not done."""
    UNKNOWN = "unknown"
    """It was sent and never answered: done or not."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A board was welcomed, for the first time or again."""

    device: str
    hello: Hello


@dataclass(frozen=True, slots=True)
class Described:
    """All that a board has; again when any of it changes."""

    streams: tuple[Stream, ...]
    """By number."""
    actuators: tuple[ActuatorReport, ...]
    """In the order they were reported."""


class Received(NamedTuple):
    """Records, in order and never twice; a NamedTuple because all that is measured passes here."""

    watermark: Watermark
    """Wants `mark_safe` of each of these seqs."""
    first_seq: int
    now_ms: int
    """The board's clock when it sent them."""
    records: list[RawRecord | None]
    """Consecutive seqs; None stands for a record that nobody can read."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Records the board had to drop."""

    watermark: Watermark
    """Wants `mark_safe` of the range once the loss is published."""
    first_seq: int
    last_seq: int
    """Inclusive."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Records of an epoch that was over before they came: the board lost its memory."""

    watermark: Watermark
    """Of that epoch. Wants `mark_safe` of the range once the loss is published."""
    first_seq: int
    last_seq: int
    """Inclusive."""


@dataclass(frozen=True, slots=True)
class BoardTime:
    """What the board's clock says now."""

    mono_ms: int


@dataclass(frozen=True, slots=True)
class ActuatorStated:
    """An actuator's state changed."""

    actuator: ActuatorReport


@dataclass(frozen=True, slots=True)
class Logged:
    """A line the board logs."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """The end of a command; there is exactly one for each that was not given back."""

    command_id: str
    outcome: Outcome
    result: Json = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class CommandReturned:
    """A command is given back, for its board left before the end: whoever gave it may try again."""

    command_id: str
    was_sent: bool
    """Whether the board may have done it: then it is tried again only while that remembers."""


@dataclass(frozen=True, slots=True)
class Left:
    """The board is gone from this link."""

    device: str
    reason: LeaveReason
    back_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that could not be used."""

    fault: SessionFault
    detail: str


SessionEvent: TypeAlias = (
    Joined
    | Described
    | Received
    | Missed
    | Forgotten
    | BoardTime
    | ActuatorStated
    | Logged
    | CommandEnded
    | CommandReturned
    | UpdateEvent
    | UpdateState
    | Left
    | Refused
)
