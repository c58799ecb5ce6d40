"""List the serial ports that are plugged in, and what speaks there.

It listens on all of them at once for a moment and never answers, so nothing is lost. A board that
another program is reading is not disturbed: its port is reported as busy.
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from gateway.cli.commands import INTERRUPTED, OK
from gateway.cli.listening import ListenOnly
from gateway.cli.stopping import run_until_stopped
from gateway.cli.traffic import Entry, Kind, Origin, Traffic
from gateway.cli.usb_ids import usb_id
from gateway.cli.wording import shown
from gateway.clock import Clock
from gateway.config.loader import load
from gateway.errors import LinkError
from gateway.links.port_holders import Holder, holders
from gateway.links.serial_port import SerialLink, SerialOptions
from gateway.links.serial_ports import FoundPort, find_ports
from gateway.protocol.messages import Hello
from gateway.status import LinkStatus

EPILOG = """\
examples:
  edge-gateway ports
  edge-gateway ports '/dev/ttyS*' --seconds 10
  edge-gateway ports --config /etc/edge-gateway/gateway.toml --json

A board with our firmware that lost its gateway a moment ago says nothing for up to 15 seconds.
Exit codes: 0 done, 2 wrong usage or configuration.
"""

LISTEN_S = 2.5
"""Long enough for two HELLOs, which a board without a gateway sends once a second."""

_PTS = "/dev/pts/"


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one port."""

    path: str
    name: str
    device: str
    usb: str
    speaks: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where to look, and how long to listen."""
    parser.add_argument(
        "patterns", nargs="*", metavar="GLOB", help="ports to look at (default: as configured)"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration, TOML")
    parser.add_argument(
        "--seconds",
        type=float,
        default=LISTEN_S,
        metavar="N",
        help=f"how long to listen; 0 only lists (default: {LISTEN_S})",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each port")


def execute(arguments: argparse.Namespace) -> int:
    """List them."""
    overrides = {"serial": {"patterns": arguments.patterns}} if arguments.patterns else None
    serial = load(arguments.config, overrides).serial
    found = find_ports(serial.patterns, serial.exclude)
    reports: list[Report] = []
    if run_until_stopped(_report(found, serial.baudrate, arguments.seconds, reports)):
        return INTERRUPTED
    if arguments.json:
        for report in reports:
            print(json.dumps(asdict(report)))
    elif reports:
        print("\n".join(_table(reports)))
    else:
        print(f"no serial port matches {', '.join(serial.patterns)}")
        print("plugged in, with a cable that has data lines? `dmesg | tail` shows what was seen")
    return OK


async def _report(
    found: Sequence[FoundPort], baudrate: int, listen_s: float, reports: list[Report]
) -> None:
    """Listen to all ports at once; append a report of each, in their order."""
    devices = [port.device for port in found if not port.device.startswith(_PTS)]
    # A pty is also open in the program that simulates what is behind it. For all others root has to
    # be told that a port is in use: exclusive mode does not keep root out.
    busy = await asyncio.to_thread(holders, devices)
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(_what_speaks(port, busy.get(port.device), baudrate, listen_s))
            for port in found
        ]
    reports += [
        Report(port.path, port.name, port.device, usb_id(port.device), task.result())
        for port, task in zip(found, running, strict=True)
    ]


async def _what_speaks(
    port: FoundPort, holder: Holder | None, baudrate: int, listen_s: float
) -> str:
    if holder is not None:
        return f"busy: {holder.program} (process {holder.pid}) has it open"
    if listen_s <= 0:
        return "not listened to"
    heard = _Heard()
    link = SerialLink(
        port.path,
        SerialOptions(baudrate=baudrate, settle_s=0.0, silence_s=None),
        partial(ListenOnly, heard.feed),
        lambda _link, _events: None,
        LinkStatus(port.name),
        Clock(),
    )
    try:
        async with asyncio.timeout(listen_s):
            await link.run(lambda: None)
    except LinkError as exc:
        return str(exc).removeprefix(f"cannot open {port.path}: ")
    except TimeoutError:
        return heard.verdict(listen_s)


class _Heard:
    """What one port said."""

    def __init__(self) -> None:
        self._traffic = Traffic()
        self._kinds: Counter[Kind] = Counter()
        self._hello: Hello | None = None
        self._first: dict[Kind, Entry] = {}
        self._size = 0

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        for entry in self._traffic.feed(data):
            if entry.origin is Origin.BOARD:
                self._kinds[entry.kind] += 1
                self._first.setdefault(entry.kind, entry)
            if isinstance(entry.message, Hello):
                self._hello = entry.message

    def verdict(self, listened_s: float) -> str:
        """Return what speaks, in words; what our firmware says counts before other text."""
        if self._hello is not None:
            name = shown((self._hello.name or "without a name").encode())
            return f"edge-gateway board {name} ({shown(self._hello.id.encode())})"
        if self._kinds[Kind.FRAME]:
            return "edge-gateway board, in the middle of a conversation"
        if Kind.JSON in self._first:
            return f"JSON lines: {self._first[Kind.JSON].summary}"
        if Kind.TEXT in self._first:
            return f"text: {self._first[Kind.TEXT].summary}"
        if self._size:
            return "noise: wrong baud rate, or a binary protocol"
        return f"silent for {listened_s:g} s"


def _table(reports: Sequence[Report]) -> list[str]:
    rows = [("PORT", "NAME", "USB", "WHAT SPEAKS")]
    rows += [(each.path, each.name, each.usb or "-", each.speaks) for each in reports]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
