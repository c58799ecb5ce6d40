"""Frames: bytes whose checksum matched, and how they stand on a serial line.

A line with a frame is `~` + base64( type u8 | mid u8 | payload | CRC-32 u32 little endian ).
"""

from binascii import Error, a2b_base64, b2a_base64
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from zlib import crc32

MARK = b"~"
"""Starts a frame; 0x7E is not in the base64 alphabet, so the last one on a line is the start."""

MAX_FRAME_ON_256 = 189
"""Largest frame, checksum included, whose line has at most 256 characters with its newline."""

_HEADER_SIZE = 2
_CRC_SIZE = 4

FRAME_OVERHEAD = _HEADER_SIZE + _CRC_SIZE
"""Bytes of a frame that are not its payload."""

_RESIDUE = 0x2144DF1C
"""CRC-32 of any bytes followed by their own CRC-32, little endian.

Source: the CRC-32/ISO-HDLC residue 0xDEBB20E3, complemented as zlib returns it.
"""


class Frame(NamedTuple):
    """One frame without its checksum; a NamedTuple because one is made for every line read."""

    type: int
    mid: int
    """Message id: an answer carries that of its request; 0 where nothing is answered."""
    payload: bytes


class FrameFault(Enum):
    """Why what follows a `~` is no frame."""

    NOT_BASE64 = "not_base64"
    TOO_SHORT = "too_short"
    BAD_CRC = "bad_crc"


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A line with a `~` that holds no frame: text, or a frame that was damaged on its way."""

    fault: FrameFault


def open_frame(line: bytes) -> Frame | BadFrame | None:
    """Return the frame after the line's last `~`; None when the line has no `~` at all."""
    start = line.rfind(MARK)
    if start < 0:
        return None
    try:
        raw = a2b_base64(line[start + 1 :], strict_mode=True)
    except Error:
        return BadFrame(FrameFault.NOT_BASE64)
    if (len(raw) + 2) // 3 * 4 != len(line) - start - 1:  # binascii lets surplus padding pass
        return BadFrame(FrameFault.NOT_BASE64)
    if len(raw) < _HEADER_SIZE + _CRC_SIZE:
        return BadFrame(FrameFault.TOO_SHORT)
    if crc32(raw) != _RESIDUE:
        return BadFrame(FrameFault.BAD_CRC)
    return Frame(raw[0], raw[1], raw[_HEADER_SIZE:-_CRC_SIZE])


def encode_frame(frame: Frame) -> bytes:
    """Return the frame as a line, `~` and newline included."""
    body = bytes((frame.type, frame.mid)) + frame.payload
    return MARK + b2a_base64(body + crc32(body).to_bytes(_CRC_SIZE, "little"))


def line_size(frame_size: int) -> int:
    """Return how many characters a frame of so many bytes (checksum included) takes on a line."""
    return 1 + (frame_size + 2) // 3 * 4 + 1
