"""An update as it is given to a board, and what is told of it."""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from hashlib import sha256
from typing import TypeAlias

from gateway.protocol.message_values import Hello
from gateway.protocol.update_values import UpdateKind


@dataclass(frozen=True)
class Update:
    """What a board is to get; whether it is sound was checked by whoever made it."""

    kind: UpdateKind
    manifest: bytes
    contents: tuple[bytes, ...]
    """Of the files, in the order of the manifest."""
    signature: bytes = b""
    """Of the manifest; empty where there is none."""
    allows_downgrade: bool = False
    bytecode: int = 0
    """Version of its .mpy files; 0 where there are none."""
    paths: tuple[str, ...] = ()
    """What people call the files."""

    @cached_property
    def manifest_hash(self) -> bytes:
        """The SHA-256 of the manifest: what names an update."""
        return sha256(self.manifest).digest()

    @property
    def short_hash(self) -> str:
        """What a board says of it in its HELLO and in its states."""
        return self.manifest_hash.hex()[:16]

    @cached_property
    def total_bytes(self) -> int:
        """The bytes of all files."""
        return sum(map(len, self.contents))

    def is_in_force(self, hello: Hello) -> bool:
        """Whether the board runs it, for good or on trial."""
        if self.kind is UpdateKind.FIRMWARE:
            return hello.manifest_hash == self.short_hash
        return hello.config_hash == sha256(b"".join(self.contents)).hexdigest()[:8]

    def refusal(self, hello: Hello) -> str:
        """Return why it cannot be for the board that said `hello`; empty if it can."""
        if not hello.slot:
            return (
                "the board has no slots, so an update could not be taken back: flash it once with "
                "`edge-gateway flash`"
            )
        if self.bytecode and hello.bytecode not in (0, self.bytecode):
            return (
                f"its files are for .mpy version {self.bytecode}, and the board's MicroPython "
                f"({hello.runtime or 'of unknown version'}) reads version {hello.bytecode}"
            )
        return ""


class UpdatePhase(Enum):
    """What an update is at."""

    ASKING = "asking"
    MANIFEST = "manifest"
    PREPARING = "preparing"
    """The board copies and hashes."""
    SENDING = "sending"
    CHECKING = "checking"
    """All is sent, and the board looks at it."""


class UpdateOutcome(Enum):
    """How the conversation ended."""

    ON_TRIAL = "on_trial"
    """The board has all of it and tries it; what comes of that it says later."""
    UNCHANGED = "unchanged"
    """It was in force already."""
    REFUSED = "refused"
    """It is not for that board, or the board will not have it; nothing has changed there."""
    FAILED = "failed"
    """The board does not answer, or does not get on; nothing has changed there."""
    INTERRUPTED = "interrupted"
    """The board left, or began anew: begun again, the same update goes on where it was."""
    ABORTED = "aborted"
    """Somebody wanted it so."""


@dataclass(frozen=True, slots=True)
class UpdateProgress:
    """An update got on."""

    device: str
    phase: UpdatePhase
    done_bytes: int
    """Of the files, with what the board had already."""
    total_bytes: int


@dataclass(frozen=True, slots=True)
class UpdateEnded:
    """An update's conversation is over; there is exactly one for each that was begun."""

    device: str
    outcome: UpdateOutcome
    detail: str = ""
    """Why, for people."""
    sent_bytes: int = 0
    """Bytes of files that went over the line, repetitions left out."""
    sent_files: int = 0
    """Files of which at least a part did."""


UpdateEvent: TypeAlias = UpdateProgress | UpdateEnded
