"""What a frame can say: one value for each message of the protocol (README.md has the table)."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple, TypeAlias

from gateway.protocol.fields import Json
from gateway.protocol.frames import MAX_FRAME_ON_256
from gateway.protocol.update_values import (
    UpdateAbort,
    UpdateBegin,
    UpdateData,
    UpdateDataAck,
    UpdateEnd,
    UpdateNeed,
    UpdateState,
)

PROTOCOL = 1
"""Version of the protocol spoken here; the gateway speaks every version up to its own."""

ALL_STREAMS = 255
"""Stream number that asks a board to describe everything it has."""

U16 = 0xFFFF
U32 = 0xFFFFFFFF


class MessageType(IntEnum):
    """First byte of a frame; with bit 7 set it is authenticated."""

    HELLO = 0x01
    WELCOME = 0x02
    PING = 0x03
    PONG = 0x04
    STREAM = 0x05
    STREAM_REQUEST = 0x06
    ACTUATOR = 0x07
    HELLO_REQUEST = 0x08
    READ = 0x10
    ACK = 0x11
    COMMAND = 0x20
    RESPONSE = 0x21
    LOG = 0x30
    OTA_BEGIN = 0x40
    OTA_NEED = 0x41
    OTA_DATA = 0x42
    OTA_DATA_ACK = 0x43
    OTA_END = 0x44
    OTA_ABORT = 0x45
    OTA_STATE = 0x46
    BYE = 0x50


class ReadFlag(IntFlag):
    """Bits of a READ."""

    RESENT = 1
    OLDEST = 2
    """The first record is the oldest the board has: what the gateway misses before it is lost."""
    MORE = 4


class AckFlag(IntFlag):
    """Bits of an ACK."""

    REWIND = 1
    """A hole was seen: send from `got_seq` at once."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A board presents itself, once a second until it is welcomed."""

    protocol: int
    id: str
    epoch: int
    """Changes whenever seq would restart or the board's clock went backwards."""
    next_seq: int
    """Seq of the next record it will take."""
    unacked: int
    """Records it still keeps; the oldest has seq `next_seq - unacked`."""
    acked: int = 0
    """The highest next_seq a WELCOME or an ACK of this epoch ever told it."""
    name: str = ""
    firmware: str = ""
    manifest_hash: str = ""
    runtime: str = ""
    platform: str = ""
    largest_frame: int = MAX_FRAME_ON_256
    """Largest frame the board takes, in bytes with its checksum."""
    streams: int = 0
    actuators: int = 0
    reset_cause: str = ""
    crash: str = ""
    """Traceback that ended its last run."""
    slot: str = ""
    trial: bool = False
    capabilities: tuple[str, ...] = ()
    nonce: int = 0
    """Drawn anew whenever the board's RAM was lost; 0 from a board that draws none."""
    is_closed: bool = False
    """The epoch is over: what the board kept of it is delivered, and nothing is added."""
    previous_epoch: int | None = None
    """The epoch before this one, of which the board still knows how far it went; None: unknown."""
    previous_next: int = 0
    """The first seq that `previous_epoch` did not use."""
    previous_acked: int | None = None
    """What `acked` was in `previous_epoch`; None: unknown."""
    config_hash: str = ""
    """First 8 hex digits of the SHA-256 of the settings in force."""
    rollback: str = ""
    """Why the last trial of an update was taken back, until the gateway has heard of it."""
    bytecode: int = 0
    """Version of .mpy files the board runs; 0 from a board that does not say."""
    key_id: str = ""
    """First 8 hex digits of the SHA-256 of its key; empty from a board without one."""
    key_session: str = ""
    """16 hex digits, drawn anew when its RAM was lost: counters of frames begin anew with it."""
    key_counter: int = 0
    """The highest counter of a frame it has taken from the gateway in this `key_session`."""
    wants_proof: bool = False
    """On this link it drops no record for a WELCOME or an ACK that is not sealed."""

    @property
    def life(self) -> str:
        """What names this life of the board's memory; empty if it says nothing that would."""
        return f"{self.epoch:x}.{self.nonce:x}" if self.nonce else ""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The gateway takes a board in."""

    session: str
    unix_s: int
    unix_ms: int
    """0..999, on top of `unix_s`."""
    epoch: int
    next_seq: int
    """All before it is safe: drop it, and send from your oldest record."""
    credit: int
    heartbeat_s: float
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class HelloRequest:
    """The gateway does not know who speaks: back to HELLO."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A board had nothing else to say for a heartbeat."""

    mono_ms: int
    next_seq: int | None = None
    """Seq of the next record it will take; None from a board that does not say."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a Ping."""

    echo_ms: int
    unix_s: int
    unix_ms: int


class Channel(NamedTuple):
    """One quantity of a stream."""

    key: str
    unit: str
    exponent: int | None
    """Integers on the wire times 10**exponent are the value; None counts as 0."""
    device_class: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What the records of one stream mean."""

    number: int
    name: str
    format: str
    """Letters of `struct`, one for each channel, little endian, unpadded."""
    channels: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The gateway asks what a stream means."""

    stream: int = ALL_STREAMS


@dataclass(frozen=True, slots=True)
class ActuatorReport:
    """What a board can be told to do, and how it stands."""

    key: str
    name: str
    kind: str
    """switch, number, button, select or text."""
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[str, ...] = ()
    state: float | int | str | bool | None = None
    unit: str = ""
    step: float | None = None
    device_class: str = ""
    is_light: bool = False
    """Whether a number is the brightness of a lamp, in percent."""


class Read(NamedTuple):
    """Records on their way up; a NamedTuple because everything measured passes through one."""

    flags: int
    epoch: int
    first_seq: int
    now_ms: int
    """The board's clock when it sent this."""
    lost: int
    """Records its ring dropped in this epoch; stays at 65,535."""
    record_count: int
    records: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """What of an epoch is safe, what has arrived, and how much may follow."""

    epoch: int
    next_seq: int
    """All before it is safe."""
    credit: int
    """Batches that may be in flight beyond `got_seq`; 0 = pause."""
    flags: int = 0
    got_seq: int | None = None
    """All before it has arrived: keep it, do not send it again. None = `next_seq`."""


@dataclass(frozen=True, slots=True)
class Command:
    """Something to do, at most once."""

    name: str
    arguments: Json
    ttl_ms: int
    """Not to be started later than this after it came."""
    command_id: str


@dataclass(frozen=True, slots=True)
class Response:
    """What became of a command."""

    command_id: str
    result: Json = None
    error: str | None = None
    """None when it was done."""


@dataclass(frozen=True, slots=True)
class Log:
    """A line a board logs."""

    level: int
    """1 debug, 2 info, 3 warning, 4 error."""
    text: str


@dataclass(frozen=True, slots=True)
class Bye:
    """A board goes to sleep."""

    wake_in_ms: int


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A frame of a type this gateway does not speak."""

    type: int
    size: int
    """Of its payload, in bytes."""


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A frame whose payload does not say what its type must."""

    type: int
    reason: str
    """For people: the field and what is wrong with it."""


AboutUpdate: TypeAlias = UpdateNeed | UpdateDataAck | UpdateAbort | UpdateState
"""From a board."""
FromBoard: TypeAlias = (
    Hello | Ping | Stream | ActuatorReport | Read | Response | Log | Bye | AboutUpdate
)
FromGateway: TypeAlias = (
    Welcome
    | HelloRequest
    | Pong
    | StreamRequest
    | Ack
    | Command
    | UpdateBegin
    | UpdateData
    | UpdateEnd
)
"""What only the gateway says; UpdateAbort may come from both."""
Message: TypeAlias = FromBoard | FromGateway
