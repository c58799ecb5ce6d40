"""What is said on a serial port, heard without a word of ours."""

import asyncio
import termios
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import NamedTuple

from gateway.errors import LinkError
from gateway.links.port_failures import explain
from gateway.links.posix_serial import PosixSerial, close_descriptor
from gateway.links.threads import Call
from gateway.protocol import messages as m
from gateway.protocol.frames import Frame, open_frame
from gateway.protocol.lines import LineSplitter

_NOISE_SHARE = 0.3
"""With more unprintable characters than this it is no text: a wrong baud rate, or binary."""
_TELLING = 16
"""Bytes from which on that can be told."""
_LONGEST_SHOWN = 60
_ENOUGH_BYTES = 1 << 16
"""More need not be heard."""
_OPEN_S = 5.0


class Kind(Enum):
    """What speaks."""

    BOARD = "board"
    """Our firmware."""
    TEXT = "text"
    NOISE = "noise"
    NOTHING = "nothing"


class Heard(NamedTuple):
    """What a port said."""

    kind: Kind
    words: str = ""
    """Who it is, or a line of it; printable."""
    size: int = 0
    """Bytes that were heard."""


def judge(data: bytes) -> Heard:
    """Return what bytes of a line tell of who sent them."""
    lines = LineSplitter().feed(data)
    words = ""
    for line in lines:
        frame = open_frame(line)
        if isinstance(frame, Frame):
            words = words or "an edge-gateway board, in the middle of a conversation"
            message = m.decode(frame)
            if isinstance(message, m.Hello):
                name = _printable((message.name or "without a name").encode())
                return Heard(Kind.BOARD, f"edge-gateway board {name}")
    if words:
        return Heard(Kind.BOARD, words)
    text = data.decode(errors="replace")
    odd = sum(not char.isprintable() and char not in "\r\n\t" for char in text)
    odd += text.count("\ufffd")
    if not data:
        return Heard(Kind.NOTHING)
    if odd > _NOISE_SHARE * len(text):
        return Heard(Kind.NOISE, size=len(data))
    # The first line may have begun before we listened.
    line = next((each for each in reversed(lines) if each.strip()), data)
    return Heard(Kind.TEXT, _printable(line), len(data))


async def listen(path: str, baudrate: int, for_s: float, *, is_fresh: bool = False) -> Heard:
    """Return what is said there within so long, or as soon as it is clear.

    The port is locked meanwhile, and nothing is sent. `is_fresh`: what came before, perhaps at
    another rate, does not count.

    Raises:
        LinkError: it does not open, in words for people.
    """
    port = PosixSerial(path, baudrate)
    try:
        async with asyncio.timeout(_OPEN_S):
            await Call(partial(_open, port), lambda _nothing: port.close()).result()
    except TimeoutError as exc:
        raise LinkError(f"it does not open within {_OPEN_S:g} s") from exc
    loop = asyncio.get_running_loop()
    enough: asyncio.Future[None] = loop.create_future()
    data = bytearray()

    def take() -> None:
        data.extend(port.read())
        is_clear = judge(bytes(data)).kind is Kind.BOARD or b"\n" in data[_TELLING:]
        if (is_clear or port.is_broken or len(data) > _ENOUGH_BYTES) and not enough.done():
            enough.set_result(None)

    descriptor = port.fileno()
    if is_fresh:
        with suppress(termios.error):  # it was hung up, as reading will tell
            termios.tcflush(descriptor, termios.TCIFLUSH)
    loop.add_reader(descriptor, take)
    try:
        await asyncio.wait([enough], timeout=for_s)
    finally:
        loop.remove_reader(descriptor)
        enough.cancel()
        await Call(partial(close_descriptor, port.take_descriptor(), 0.0)).result()
    if port.is_broken and not data:
        raise LinkError("its device is gone, or does not answer")
    return judge(bytes(data))


def _open(port: PosixSerial) -> None:
    try:
        port.open()
    except (OSError, ValueError) as exc:
        raise LinkError(explain(port.port or "", exc)) from exc


def _printable(line: bytes) -> str:
    text = line[: _LONGEST_SHOWN + 1].decode(errors="backslashreplace")
    safe = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return safe if len(safe) <= _LONGEST_SHOWN else f"{safe[:_LONGEST_SHOWN]}..."
