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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gateway.cli.commands import OK
from gateway.cli.listening import ListenOnly
from gateway.cli.sniff_output import JsonPrinter, PeoplePrinter
from gateway.cli.stopping import run_until_stopped
from gateway.cli.traffic import Traffic
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.links.serial_port import SerialLink, SerialOptions
from gateway.status import LinkStatus

EPILOG = """\
examples:
  edge-gateway sniff /dev/ttyUSB0
  edge-gateway sniff /dev/ttyACM0 --capture greenhouse.cap     keep the bytes as they came
  edge-gateway sniff greenhouse.cap --raw
  socat -u /dev/ttyS1,b9600,raw - | edge-gateway sniff - --json

A capture is the plain bytes of the line. Each line shows the time (for files: its number), who
spoke (> the board, < the gateway), what it is, and what it says. Ctrl-C ends it.
Exit codes: 0 done, 1 the port or file cannot be read, 2 wrong usage.
"""

_READ_SIZE = 65_536
"""Bytes asked for per read of a file."""
_REOPEN_S = 0.5
"""Time between two attempts to open a port again that was there and went away."""

Sink = Callable[[bytes], None]
"""Takes bytes as they come."""


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
    parser.add_argument("--capture", type=Path, metavar="FILE", help="write the bytes to this file")
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="stop after so long (ports only)"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Listen, or read, and print."""
    source: str = arguments.source
    is_live = source == "-" or _is_port(source)
    people = PeoplePrinter(in_colour=_takes_colour(), with_raw=arguments.raw)
    printer = JsonPrinter() if arguments.json else people
    traffic = Traffic()

    def show(data: bytes) -> None:
        unix_s = time.time() if is_live else None
        for entry in traffic.feed(data):
            printer.print_entry(entry, unix_s)
        sys.stdout.flush()

    with _captured(arguments.capture, show) as sink:
        if source == "-":
            _read_all(sys.stdin.buffer, sink)
        elif is_live:
            run_until_stopped(_listen(source, arguments.baudrate, arguments.seconds, sink))
        else:
            _read_file(Path(source), sink)
    show(b"\n")  # the last line may lack its end
    if not arguments.json:
        print(people.closing_line(), file=sys.stderr)
    return OK


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
def _captured(path: Path | None, sink: Sink) -> Iterator[Sink]:
    """Give a sink that also writes what it gets to `path`, if there is one."""
    if path is None:
        yield sink
        return
    try:
        file = path.open("wb", buffering=0)  # a capture that is cut off is worth as much as it has
    except OSError as exc:
        raise LinkError(f"{path}: {exc.strerror}") from exc
    with file:

        def both(data: bytes) -> None:
            file.write(data)
            sink(data)

        yield both


def _read_file(path: Path, sink: Sink) -> None:
    try:
        with path.open("rb", buffering=0) as file:
            _read_all(file, sink)
    except OSError as exc:
        raise LinkError(f"{path}: {exc.strerror}") from exc


def _read_all(file: BinaryIO, sink: Sink) -> None:
    while data := os.read(file.fileno(), _READ_SIZE):
        sink(data)


async def _listen(path: str, baudrate: int, limit_s: float | None, sink: Sink) -> None:
    """Listen until cancelled, or for `limit_s`; a port that comes back is opened again."""
    status = LinkStatus(path)
    link = SerialLink(
        path,
        SerialOptions(baudrate=baudrate, settle_s=0.0, silence_s=None),
        partial(ListenOnly, sink),
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
