r"""Captures of a line, written down and played back through a driver.

A capture is a text file, one chunk a line, in the order of time:

    {"t_s": 12.345678, "dir": "in", "text": "{\"temperature\":21.5}\n"}
    {"t_s": 12.345901, "dir": "out", "base64": "fgEA"}

`t_s` are seconds since the capture began; `in` came from the board, `out` went to it. ASCII stands
as `text`, other bytes as `base64`. Any other file is taken for the plain bytes of a line.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.drivers.base import StreamDriver
from gateway.errors import LinkError
from gateway.model import Event

Direction = Literal["in", "out"]

_CHUNK = 1024
"""Plain bytes are fed in pieces of this size."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that went over a line at one moment."""

    t_s: float
    direction: Direction
    content: bytes


def encode_chunk(chunk: Chunk) -> bytes:
    """Return a chunk as a line of a capture, newline included."""
    line: dict[str, object] = {"t_s": round(chunk.t_s, 6), "dir": chunk.direction}
    if chunk.content.isascii():
        line["text"] = chunk.content.decode("ascii")
    else:
        line["base64"] = b64encode(chunk.content).decode("ascii")
    return json.dumps(line).encode() + b"\n"


def is_capture(content: bytes) -> bool:
    """Return whether this is a capture, or the beginning of one; else it is the bytes of a line."""
    first, _, _ = content.partition(b"\n")
    return _chunk(first) is not None


def parse_capture(capture: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a capture, or of the plain bytes of a line; a torn last line is dropped.

    Raises:
        LinkError: another line of a capture is damaged.
    """
    if not is_capture(capture):
        for start in range(0, len(capture), _CHUNK):
            yield Chunk(0.0, "in", capture[start : start + _CHUNK])
        return
    lines = capture.splitlines()
    for number, line in enumerate(lines, start=1):
        chunk = _chunk(line)
        if chunk is not None:
            yield chunk
        elif number < len(lines) or capture.endswith(b"\n"):
            raise LinkError(f"line {number} is no chunk of a capture")


def replay(chunks: Iterable[Chunk], driver: StreamDriver) -> Iterator[tuple[float, Event]]:
    """Feed what came from the board to `driver`; yield what it says of it, and when.

    Time passes as it did: deadlines between two chunks are kept. What the driver wants to send is
    dropped, for what was sent stands in the capture.
    """
    now_s = 0.0
    for chunk in chunks:
        while (due_s := driver.deadline_s) is not None and due_s <= chunk.t_s:
            now_s = max(now_s, due_s)
            yield from ((now_s, event) for event in driver.tick(now_s))
            if driver.deadline_s == due_s:
                break  # it wants to be asked again at once, which would never end here
        now_s = max(now_s, chunk.t_s)
        if chunk.direction == "in":
            yield from ((now_s, event) for event in driver.feed(chunk.content, now_s))
        driver.data_to_send()
    yield from ((now_s, event) for event in driver.close(now_s))


def _chunk(line: bytes) -> Chunk | None:
    """Read a line of a capture; None if it is none."""
    try:
        fields = json.loads(line)
        t_s, direction = fields["t_s"], fields["dir"]
        content = fields["text"].encode() if "text" in fields else b64decode(fields["base64"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if direction not in ("in", "out") or not isinstance(t_s, int | float):
        return None
    return Chunk(t_s, direction, content)
