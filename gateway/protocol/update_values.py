"""What frames say of updates: one value for each message (README.md has the table)."""

from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from typing import Final

MANIFEST_FILE: Final = 0xFFFF
"""The number under which the manifest travels; other files are numbered as it lists them."""

SIGNATURE_FILE: Final = 0xFFFE
"""The number under which the signature of the manifest travels."""

MAX_FILES: Final = SIGNATURE_FILE
"""Files of an update at most."""


class UpdateKind(IntEnum):
    """What an update replaces."""

    FIRMWARE = 0
    SETTINGS = 1


class UpdateFlag(IntFlag):
    """Bits of an UpdateBegin."""

    DOWNGRADE = 1
    """An older version is wanted."""
    SIGNED = 2
    """A signature follows the manifest."""


class Want(IntEnum):
    """What a board needs next."""

    FILES = 0
    MANIFEST = 1
    SIGNATURE = 2
    NOTHING_YET = 3
    """It copies and hashes, says so each second, and then what it needs."""


class DataStatus(IntEnum):
    """What became of an UpdateData."""

    OK = 0
    NOT_WRITTEN = 1
    HASH_WRONG = 2
    """The file is to be sent from its start."""
    NOT_BEGUN = 3
    """The board knows of no update: begin again."""


class BoardUpdateState(Enum):
    """How an update stands that a board has all of."""

    TRIAL = "trial"
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class UpdateBegin:
    """The gateway announces an update, or asks how it stands."""

    kind: UpdateKind
    flags: int
    manifest_size: int
    manifest_hash: bytes
    """SHA-256, 32 bytes."""
    mac: bytes
    """HMAC-SHA256 with the board's key, 32 bytes; all 0 for a board without one."""


@dataclass(frozen=True, slots=True)
class UpdateNeed:
    """The board says what is still to come."""

    want: Want
    files: tuple[int, ...] = ()
    """Numbers of the files it needs, rising; empty and FILES: it has all."""
    count: int = 0
    """Files of the manifest."""


@dataclass(frozen=True, slots=True)
class UpdateData:
    """A piece of a file."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class UpdateDataAck:
    """What became of a piece."""

    file: int
    next_offset: int
    """Where the board goes on in that file; its size when it is whole, and its hash right."""
    status: DataStatus


@dataclass(frozen=True, slots=True)
class UpdateEnd:
    """The gateway has sent all: the board is to check it, and to try it."""


@dataclass(frozen=True, slots=True)
class UpdateAbort:
    """Either side ends an update; nothing has changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class UpdateState:
    """The board says what became of an update."""

    state: BoardUpdateState
    manifest_hash: str = ""
    """The first 16 hex digits."""
    reason: str = ""
    """Why it was taken back."""
