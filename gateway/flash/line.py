"""A board's line while it is flashed: is our firmware there, leave for the REPL, and the HELLO."""

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from gateway.errors import FlashError
from gateway.links.port_failures import explain
from gateway.links.posix_serial import PosixSerial
from gateway.model import device_slug
from gateway.protocol.frames import Frame, encode_frame, open_frame
from gateway.protocol.guard import Keys, guard_of
from gateway.protocol.lines import LineSplitter
from gateway.protocol.message_values import Command, Hello, HelloRequest, Response, Welcome
from gateway.protocol.messages import decode, encode
from gateway.protocol.sealed import SEALED

BAUDRATE: Final = 115_200

LISTEN_S: Final = 2.5
"""A board without a gateway says HELLO each second; one that has one, when it is asked."""

ANSWER_S: Final = 5.0

_REOPEN_S: Final = 0.2
"""Native USB goes with a reset and comes back; so often is looked."""

_KEPT_TEXT: Final = 20
_MID: Final = 1


@dataclass(frozen=True, slots=True)
class Heard:
    """What came over a line."""

    hellos: tuple[Hello, ...]
    text: tuple[str, ...]
    """Its last lines that were no frames, such as a ROM's or a traceback."""


class BoardLine:
    """An open port, read and written in lines; everything blocks.

    Each method raises FlashError when the line is lost.
    """

    def __init__(self, path: str) -> None:
        """Open the port; resets nothing.

        Raises:
            FlashError: it does not open, and why.
        """
        self._path = path
        self._port = PosixSerial(path, BAUDRATE)
        try:
            self._port.open()
        except (OSError, ValueError) as exc:
            raise FlashError(f"{path}: cannot be opened: {explain(path, exc)}") from exc
        self._splitter = LineSplitter()
        self._error: OSError | None = None
        self._port.on_failure = self._fail

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the port."""
        self._port.close()

    def ask_who(self, seconds: float = LISTEN_S) -> Hello | None:
        """Return who speaks our protocol there; None if nobody does."""
        self._send(encode_frame(encode(HelloRequest())))
        for message in self._messages(seconds):
            if isinstance(message, Hello):
                return message
            if isinstance(message, HelloRequest):  # our own words: a REPL echoes them
                return None
        return None

    def leave_for_repl(self, hello: Hello, keys: Keys) -> None:
        """Have our firmware restart into its REPL, once.

        Raises:
            FlashError: it refuses, or does not answer.
        """
        guard = guard_of(hello, device_slug(hello.id), keys)
        if guard.refusal:
            raise FlashError(f"{self._path}: {hello.id}: {guard.refusal}")
        oldest = hello.next_seq - hello.unacked
        now_s, ms = divmod(time.time_ns() // 1_000_000, 1000)
        # No credit: what it has measured is the gateway's, it stays on the board.
        welcome = Welcome("flash", now_s, ms, hello.epoch, oldest, 0, 10.0)
        self._send(encode_frame(encode(welcome)))
        command = Command("repl", {}, int(ANSWER_S * 1000), "flash")
        self._send(guard.line(encode(command, _MID)))
        for frame in self._frames(ANSWER_S):
            opened = guard.open(frame)
            answer = None if isinstance(opened, str) else decode(opened)
            if isinstance(answer, Response) and answer.command_id == "flash":
                if answer.error is not None:
                    raise FlashError(f"{self._path}: {hello.id} refuses: {answer.error}")
                return
        raise FlashError(f"{self._path}: {hello.id} does not answer the command `repl`")

    def text(self, seconds: float) -> list[str]:
        """Return what is said there in so many seconds, as text."""
        said = [line for line in self._lines(seconds) if open_frame(line) is None]
        return [line.decode(errors="replace").strip() for line in said if line.strip()]

    def listen(self, seconds: float) -> Heard:
        """Return what comes until a HELLO does, or so many seconds went by."""
        text: list[str] = []
        for line in self._lines(seconds):
            frame = open_frame(line)
            message = decode(frame) if isinstance(frame, Frame) else None
            if isinstance(message, Hello):
                return Heard((message,), tuple(text))
            if frame is None and line.strip():
                text = [*text, line.decode(errors="replace").strip()][-_KEPT_TEXT:]
        return Heard((), tuple(text))

    def _messages(self, seconds: float) -> Iterator[object]:
        for frame in self._frames(seconds):
            if not frame.type & SEALED:
                yield decode(frame)

    def _frames(self, seconds: float) -> Iterator[Frame]:
        for line in self._lines(seconds):
            frame = open_frame(line)
            if isinstance(frame, Frame):
                yield frame

    def _lines(self, seconds: float) -> Iterator[bytes]:
        poll = select.poll()
        poll.register(self._port.fileno(), select.POLLIN)
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            if poll.poll(left_s * 1000):
                yield from self._splitter.feed(self._port.read())
            self._check()

    def _send(self, line: bytes) -> None:
        # The newline first: whoever reads there may have half a line already.
        rest = b"\n" + line
        deadline_s = time.monotonic() + ANSWER_S
        while rest:
            rest = rest[self._port.write(rest) :]
            self._check()
            if rest:
                if time.monotonic() > deadline_s:
                    raise FlashError(f"{self._path}: takes nothing: is the board hanging?")
                time.sleep(0.01)

    def _fail(self, error: OSError) -> None:
        self._error = error

    def _check(self) -> None:
        if self._error is not None:
            why = explain(self._path, self._error)
            raise FlashError(f"{self._path}: the line was lost: {why}") from self._error


def await_hello(
    path: str, seconds: float, is_wanted: Callable[[Hello], bool] = lambda _hello: True
) -> Hello:
    """Return the first HELLO that is wanted; the port may go and come back meanwhile.

    Raises:
        FlashError: none came; says what did.
    """
    deadline_s = time.monotonic() + seconds
    heard: list[str] = []
    others: list[Hello] = []
    closed = ""
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            with BoardLine(path) as line:
                closed = ""
                found = line.listen(left_s)
        except FlashError as exc:
            closed = str(exc)
            time.sleep(_REOPEN_S)
            continue
        heard += found.text
        for hello in found.hellos:
            if is_wanted(hello):
                return hello
            others = [hello]
    raise FlashError(_what_came(path, seconds, others, heard, closed))


def _what_came(
    path: str, seconds: float, others: list[Hello], heard: list[str], closed: str
) -> str:
    told = f"{path}: no HELLO of the new firmware within {seconds:.0f} s"
    if others:
        runs = others[0].manifest_hash or "no slot"
        return f"{told}: the board says it runs {runs}: press its reset button, and flash again"
    if closed:
        return f"{told}: {closed}"
    if heard:
        said = "\n".join(f"  {text}" for text in heard[-_KEPT_TEXT:])
        return f"{told}; what came instead:\n{said}"
    return f"{told}, and nothing else came: press the board's reset button, and flash again"
