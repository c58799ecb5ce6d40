"""How what is said to one board, and what it answers, is secured: sealed, plain, or not at all."""

import hmac
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.protocol.frames import Frame, encode_frame
from gateway.protocol.message_values import U32, Hello, MessageType
from gateway.protocol.sealed import OVERHEAD, SEALED, Direction, SealFault, open_sealed, seal

SECURED: Final = frozenset(
    {
        MessageType.COMMAND,
        MessageType.RESPONSE,
        MessageType.OTA_BEGIN,
        MessageType.OTA_NEED,
        MessageType.OTA_DATA,
        MessageType.OTA_DATA_ACK,
        MessageType.OTA_END,
        MessageType.OTA_ABORT,
        MessageType.OTA_STATE,
    }
)
"""Types that a board with a key takes and sends only sealed."""

PROVEN: Final = frozenset({MessageType.WELCOME, MessageType.PONG, MessageType.ACK})
"""Types that are sealed for a board that wants that proof: it drops records and sets its clock.

All others are always plain.
"""

ASKED_SEALED: Final = frozenset(
    {
        MessageType.COMMAND,
        MessageType.OTA_BEGIN,
        MessageType.OTA_DATA,
        MessageType.OTA_END,
        *PROVEN,
    }
)
"""Those of both that only the gateway says."""


class Keys(Protocol):
    """Who knows the keys of boards: `store.keys.KeyStore`."""

    def find(self, device: str, key_id: str, /) -> bytes | None:
        """Return the device's key of that id."""

    def ids(self, device: str, /) -> tuple[str, ...]:
        """Return the ids of all keys of a device; empty if none is known."""


class NoKeys:
    """Knows none."""

    def find(self, _device: str, _key_id: str) -> None:
        """Return None."""

    def ids(self, _device: str) -> tuple[str, ...]:
        """Return nothing."""
        return ()


@dataclass(slots=True)
class Counters:
    """The highest ones of a session."""

    session: bytes
    sent: int = 0
    heard: int = 0


class Guard:
    """Both counters of one board, from a HELLO until it draws another session or has another key.

    The gateway's goes on from what the board says it accepted last, so that a gateway that was
    started again remembers nothing; the board's answers must rise for as long as this lives.
    """

    def __init__(
        self, hello: Hello, key: bytes | None, refusal: str = "", before: "Guard | None" = None
    ) -> None:
        """`refusal` says why the board cannot be commanded, if it cannot; `key` is None then.

        `before` is that of its last HELLO; within a session its counters go on.
        """
        self.refusal = refusal
        self.overhead = 0 if key is None else OVERHEAD
        """Bytes by which it makes a frame longer."""
        self._key = key
        session = bytes.fromhex(hello.key_session)
        self.counters = Counters(session)
        self._wants_proof = hello.wants_proof
        if before is not None and before.counters.session == session:
            self.counters = before.counters
            self._wants_proof |= before.proves
        if self.counters.sent >= U32:  # HELLO is not sealed: somebody drove the counter up
            self.counters.sent = hello.key_counter
        self.counters.sent = max(self.counters.sent, hello.key_counter)

    def line(self, frame: Frame) -> bytes:
        """Return the line to the board; nothing where it may not be sent."""
        if not self._is_secured(frame.type):
            return encode_frame(frame)
        counters = self.counters
        if self._key is None or counters.sent >= U32:
            return b""
        counters.sent += 1
        sealed = seal(frame, self._key, counters.session, Direction.TO_BOARD, counters.sent)
        return encode_frame(sealed)

    @property
    def proves(self) -> bool:
        """Whether the gateway proves who it is in all that has the board drop records."""
        return self._wants_proof and self._key is not None

    def _is_secured(self, kind: int) -> bool:
        if kind in PROVEN:
            return self.proves
        return kind in SECURED and (self._key is not None or self.refusal != "")

    def mac(self, covered: bytes) -> bytes:
        """Return the 32 bytes that prove that the gateway has the key; zeros without one."""
        return bytes(32) if self._key is None else hmac.digest(self._key, covered, "sha256")

    def open(self, frame: Frame) -> Frame | str:
        """Return what the board said, or why it is not believed."""
        if not frame.type & SEALED:
            is_believed = frame.type not in SECURED or (self._key is None and not self.refusal)
            return frame if is_believed else f"type {frame.type:#04x} without its seal"
        if self._key is None:
            return f"type {frame.type:#04x}: no key to open it"
        counters = self.counters
        opened = open_sealed(
            frame, self._key, counters.session, Direction.TO_GATEWAY, counters.heard
        )
        if isinstance(opened, SealFault):
            return f"type {frame.type:#04x}: {opened.value}"
        counters.heard = opened.counter
        return opened.frame


def guard_of(hello: Hello, device: str, keys: Keys, before: Guard | None = None) -> Guard:
    """Return the guard of a board that said `hello`; `before` is the one there was."""
    key = keys.find(device, hello.key_id) if hello.key_id else None
    refusal = _refusal(hello, device, keys.ids(device), has_key=key is not None)
    return Guard(hello, None if refusal else key, refusal, before)


def _refusal(hello: Hello, device: str, known: tuple[str, ...], *, has_key: bool) -> str:
    """Return why a board cannot be commanded; nothing if it can."""
    ids = " or ".join(known)
    if not hello.key_id:
        if not known:
            return ""
        return (
            f"this gateway keeps a key for it ({ids}), and the board has none: if it was flashed "
            f"anew on purpose, `edge-gateway keys remove {device}` lets it be commanded without"
        )
    if not known:
        return (
            f"it takes only commands that are sealed with its key ({hello.key_id}), and this "
            f"gateway has none for it{_kept(hello)}"
        )
    if not has_key:
        return (
            f"it takes only commands that are sealed with its key ({hello.key_id}), and this "
            f"gateway has another one for it ({ids}){_kept(hello)}"
        )
    if hello.key_counter >= U32:
        return "its counter of sealed commands is used up: it begins anew with the next restart"
    return ""


def _kept(hello: Hello) -> str:
    if not hello.wants_proof:
        return ""
    return "; it is read, and keeps what it measured for a gateway that has the key"
