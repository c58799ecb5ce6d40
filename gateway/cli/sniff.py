"""Show what goes over a serial line, in words: live from a port, or from a capture file.

It listens only and never answers, so no board takes it for the gateway and nothing is lost. A port
that the gateway has open cannot be listened to at the same time; stop the gateway first.
"""

import argparse
import asyncio
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gateway.cli.commands import OK
from gateway.cli.listening import ListenOnly
from gateway.cli.sniff_output import JsonPrinter, PeoplePrinter, Printer, When
from gateway.cli.stopping import run_until_stopped
from gateway.cli.traffic import Entry, Origin, Traffic
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.links.replay import Chunk, Direction, encode_chunk, is_capture, parse_capture
from gateway.links.serial_port import SerialLink, SerialOptions
from gateway.status import LinkStatus

EPILOG = """\
examples:
  edge-gateway sniff /dev/ttyUSB0
  edge-gateway sniff /dev/ttyACM0 --capture greenhouse.cap     keep what came, and when
  edge-gateway sniff greenhouse.cap --raw
  socat -u /dev/ttyS1,b9600,raw - | edge-gateway sniff - --json

Each line shows the time, who spoke (> the board, < the gateway), what it is, and what it says. A
capture is one JSON object a chunk, with times; a file or stdin may also be the plain bytes of a
line, and then lines of a file show their number. Ctrl-C ends it.
Exit codes: 0 done, 1 the port or file cannot be read, 2 wrong usage.
"""

_READ_SIZE = 65_536
"""Bytes asked for per read of standard input."""
_REOPEN_S = 0.5
"""Time between two attempts to open a port again that was there and went away."""

_MAX_FILE = 64 << 20
"""Largest file that is read, in bytes: hours of a line at full rate."""

Take = Callable[[bytes], None]
"""Takes bytes as they come."""

_ORIGINS: Mapping[Direction, Origin] = {"in": Origin.BOARD, "out": Origin.GATEWAY}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take a source, and how to show it."""
    parser.add_argument(
        "source", metavar="PORT|FILE|-", help="a serial port, a capture file, or - for stdin"
    )
    parser.add_argument(
        "--baudrate", type=int, default=115_200, metavar="N", help="bits a second (default: 115200)"
    )
    parser.add_argument("--raw", action="store_true", help="show each line as it was, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each line")
    parser.add_argument("--capture", type=Path, metavar="FILE", help="write what comes to it")
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="stop after so long (ports only)"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Listen, or read, and print."""
    source: str = arguments.source
    people = PeoplePrinter(in_colour=_takes_colour(), with_raw=arguments.raw)
    show = _Show(JsonPrinter() if arguments.json else people)
    with _captured(arguments.capture, show.live) as take:
        if source == "-":
            _show_stdin(show, take)
        elif _is_port(source):
            run_until_stopped(_listen(source, arguments.baudrate, arguments.seconds, take))
        else:
            show.file(_read_file(Path(source)))
    show.finish()
    if not arguments.json:
        print(people.closing_line(), file=sys.stderr)
    return OK


class _Show:
    """Prints what goes over the line, with the time as far as it is known."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._traffic = Traffic()
        self._last = When()

    def live(self, data: bytes) -> None:
        """Print what came just now."""
        self._print(self._traffic.feed(data), When(unix_s=time.time()))

    def file(self, content: bytes) -> None:
        """Print a capture, or the plain bytes of a line."""
        chunks = list(parse_capture(content))
        is_timed = any(chunk.t_s for chunk in chunks)
        for chunk in chunks:
            when = When(since_start_s=chunk.t_s) if is_timed else When()
            self._print(self._traffic.feed(chunk.content, _ORIGINS[chunk.direction]), when)

    def finish(self) -> None:
        """Print the last line, which may lack its end."""
        self._print(self._traffic.finish(), self._last)

    def _print(self, entries: list[Entry], when: When) -> None:
        self._last = when
        for entry in entries:
            self._printer.print_entry(entry, when)
        sys.stdout.flush()


def _takes_colour() -> bool:
    """Whether stdout is a terminal whose owner has not asked for none: https://no-color.org."""
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def _is_port(source: str) -> bool:
    try:
        return stat.S_ISCHR(Path(source).stat().st_mode)
    except OSError as exc:
        raise LinkError(f"{source}: {exc.strerror}") from exc


@contextmanager
def _captured(path: Path | None, take: Take) -> Iterator[Take]:
    """Give a function that also writes what it gets to `path`, if there is one."""
    if path is None:
        yield take
        return
    try:
        file = path.open("wb", buffering=0)  # a capture that is cut off is worth as much as it has
    except OSError as exc:
        raise LinkError(f"{path}: {exc.strerror}") from exc
    with file:
        began_s = time.monotonic()

        def both(data: bytes) -> None:
            file.write(encode_chunk(Chunk(time.monotonic() - began_s, "in", data)))
            take(data)

        yield both


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except OSError as exc:
        raise LinkError(f"{path}: {exc.strerror}") from exc
    if len(content) > _MAX_FILE:
        raise LinkError(
            f"{path}: larger than {_MAX_FILE >> 20} MiB; send a part of it to `sniff -`"
        )
    return content


def _show_stdin(show: _Show, take: Take) -> None:
    """Show a capture as such once it has ended, and the bytes of a line as they come."""
    first = b""
    while b"\n" not in first and len(first) < _READ_SIZE and (data := _read_stdin()):
        first += data
    if is_capture(first):
        content = bytearray(first)
        while len(content) <= _MAX_FILE and (data := _read_stdin()):
            content += data
        if len(content) > _MAX_FILE:
            raise LinkError(
                f"stdin: a capture larger than {_MAX_FILE >> 20} MiB; send a part of it"
            )
        show.file(bytes(content))
        return
    data = first
    while data:
        take(data)
        data = _read_stdin()


def _read_stdin() -> bytes:
    return os.read(sys.stdin.fileno(), _READ_SIZE)


async def _listen(path: str, baudrate: int, limit_s: float | None, take: Take) -> None:
    """Listen until cancelled, or for `limit_s`; a port that comes back is opened again."""
    status = LinkStatus(path)
    link = SerialLink(
        path,
        SerialOptions(baudrate=baudrate, settle_s=0.0, silence_s=None),
        partial(ListenOnly, take),
        lambda _link, _events: None,
        status,
        Clock(),
    )
    try:
        async with asyncio.timeout(limit_s):
            while True:
                try:
                    await link.run(lambda: None)
                except LinkError as exc:
                    if not status.opens:
                        raise
                    print(f"{exc}; waiting for it to come back", file=sys.stderr)
                    await asyncio.sleep(_REOPEN_S)
    except TimeoutError:
        return
