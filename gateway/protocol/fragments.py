"""Frames on BLE: cut into what one notification or write holds, and joined again.

A fragment is `header u8 | bytes`; header: bit 7 first of its frame, bit 6 last, bits 0-5 a counter
that runs on over all fragments of one direction of a connection. On this side of the cut a frame
is the line it would be on a serial line, so that all above is the same for both.
"""

from binascii import a2b_base64, b2a_base64
from typing import Final

from gateway.protocol.frames import MARK

MAX_FRAGMENTED: Final = 512
"""Largest frame on BLE, checksum included: as large as a characteristic's value may be."""

LEAST_MTU: Final = 23
"""What every BLE connection starts with. Source: Bluetooth Core 5.4, vol. 3, part F, 5.2.1."""

_SMALLEST = 6
"""type, mid and checksum."""

_FIRST = 0x80
_LAST = 0x40
_COUNTER = 0x3F


class Joiner:
    """Joins the fragments of one direction of one connection; holds one frame at most."""

    def __init__(self) -> None:
        self.dropped = 0
        """Frames begun and given up: a fragment was missing or came again, or they were too large
        or too small."""
        self.strays = 0
        """Fragments that belong to no frame under way, such as the rest of one given up."""
        self._frame = bytearray()
        self._next: int | None = None
        """The counter the next fragment must have; None while no frame is under way."""

    @property
    def held(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._frame)

    def feed(self, fragment: bytes) -> bytes | None:
        """Return the frame that `fragment` completed, as a line with its newline."""
        if not fragment:
            self.strays += 1
            return None
        header = fragment[0]
        if header & _FIRST:
            if self._next is not None:
                self._drop()
        elif self._next is None:
            self.strays += 1
            return None
        elif header & _COUNTER != self._next:
            self._drop()
            self.strays += 1
            return None
        self._frame += memoryview(fragment)[1:]
        self._next = (header + 1) & _COUNTER
        if len(self._frame) > MAX_FRAGMENTED or (header & _LAST and self.held < _SMALLEST):
            self._drop()
            return None
        if not header & _LAST:
            return None
        line = MARK + b2a_base64(self._frame)
        self._forget()
        return line

    def _drop(self) -> None:
        self.dropped += 1
        self._forget()

    def _forget(self) -> None:
        self._frame.clear()
        self._next = None


def cut(line: bytes, payload_bytes: int, counter: int) -> list[bytes]:
    """Return the fragments of a frame's line, the first with `counter`; add how many to it.

    `payload_bytes` is what a fragment holds behind its header: the connection's MTU - 4.

    Raises:
        ValueError: it is no frame's line, or the frame is larger than `MAX_FRAGMENTED`.
    """
    if line[:1] != MARK:
        raise ValueError("only frames travel on BLE")
    frame = a2b_base64(line[1:])
    if not _SMALLEST <= len(frame) <= MAX_FRAGMENTED:
        raise ValueError(f"no frame has {len(frame)} bytes")
    parts = [frame[at : at + payload_bytes] for at in range(0, len(frame), payload_bytes)]
    headers = [(counter + index) & _COUNTER for index in range(len(parts))]
    headers[0] |= _FIRST
    headers[-1] |= _LAST
    return [bytes((header,)) + part for header, part in zip(headers, parts, strict=True)]
