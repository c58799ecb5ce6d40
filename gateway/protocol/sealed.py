"""Authenticated frames: behind the body a counter that only rises, and a tag under the board's key.

`type with bit 7 | mid | body | counter u32 | tag 8`; the tag is the start of HMAC-SHA256(key,
session 8 | direction u8 | counter u32 | type with bit 7 | mid | body).
"""

import hmac
from enum import Enum, IntEnum
from hashlib import sha256
from typing import Final, NamedTuple

from gateway.protocol.frames import Frame

SEALED: Final = 0x80
"""The bit of a frame's type that says that it is authenticated."""

KEY_SIZE: Final = 32
"""Bytes of a board's key."""

SALT_SIZE: Final = 16
"""Bytes drawn for a new key."""

OVERHEAD: Final = 12
"""Bytes by which a sealed frame is longer."""

_TAG_SIZE: Final = 8
_COUNTER_SIZE: Final = 4


class Direction(IntEnum):
    """Who speaks; part of the tag, so that nobody's own frames can be sent back to it."""

    TO_BOARD = 0
    TO_GATEWAY = 1


class SealFault(Enum):
    """Why an authenticated frame is not taken."""

    TOO_SHORT = "too_short"
    BAD_TAG = "bad_tag"
    """Made with another key, for another session, or changed on its way."""
    OLD_COUNTER = "old_counter"
    """It came before: somebody repeats what was recorded."""


class Opened(NamedTuple):
    """A frame whose tag was right and whose counter is new."""

    frame: Frame
    """As it was before it was sealed."""
    counter: int


def seal(frame: Frame, key: bytes, session: bytes, direction: Direction, counter: int) -> Frame:
    """Return the authenticated frame; no counter may be used twice in a direction of a session."""
    kind = frame.type | SEALED
    counted = counter.to_bytes(_COUNTER_SIZE, "little")
    tag = _tag(key, session, direction, counted, kind, frame.mid, frame.payload)
    return Frame(kind, frame.mid, frame.payload + counted + tag)


def open_sealed(
    frame: Frame, key: bytes, session: bytes, direction: Direction, last_counter: int
) -> Opened | SealFault:
    """Undo `seal`; `last_counter` is the highest that was accepted before, 0 for none."""
    body, counted, tag = (
        frame.payload[:-OVERHEAD],
        frame.payload[-OVERHEAD:-_TAG_SIZE],
        frame.payload[-_TAG_SIZE:],
    )
    if len(frame.payload) < OVERHEAD:
        return SealFault.TOO_SHORT
    expected = _tag(key, session, direction, counted, frame.type, frame.mid, body)
    if not hmac.compare_digest(tag, expected):
        return SealFault.BAD_TAG
    counter = int.from_bytes(counted, "little")
    if counter <= last_counter:
        return SealFault.OLD_COUNTER
    return Opened(Frame(frame.type & ~SEALED, frame.mid, body), counter)


def without_seal(frame: Frame) -> tuple[Frame, int | None]:
    """Return what a frame says and its counter, unproven: for who looks on and has no key.

    A frame that is not sealed is returned as it is, with None.
    """
    if not frame.type & SEALED or len(frame.payload) < OVERHEAD:
        return frame, None
    counted = frame.payload[-OVERHEAD:-_TAG_SIZE]
    plain = Frame(frame.type & ~SEALED, frame.mid, frame.payload[:-OVERHEAD])
    return plain, int.from_bytes(counted, "little")


def key_id(key: bytes) -> str:
    """Return what names a key and does not give it away: 8 hex digits."""
    return sha256(key).hexdigest()[:8]


def rotated(key: bytes, salt: bytes) -> bytes:
    """Return the key that follows `key`; the salt need not be secret."""
    return hmac.digest(key, b"rekey" + salt, "sha256")


def _tag(  # noqa: PLR0913, PLR0917 - what the tag covers, in its order
    key: bytes,
    session: bytes,
    direction: Direction,
    counted: bytes,
    kind: int,
    mid: int,
    body: bytes,
) -> bytes:
    covered = session + bytes((direction,)) + counted + bytes((kind, mid)) + body
    return hmac.digest(key, covered, "sha256")[:_TAG_SIZE]
