"""List who is heard on the Bluetooth radio, with what they say: boards, sensors, and strangers.

It only listens. A gateway on the same machine may run at the same time; bind keys and names are
those of the configuration.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from gateway.ble.service import VIRTUAL, has_adapter
from gateway.cli import logs
from gateway.cli.commands import OK
from gateway.cli.scan_output import (
    JsonPrinter,
    LinePrinter,
    LiveView,
    Printer,
    closing_line,
    live_view,
)
from gateway.cli.sightings import Kind, Sighting, Sightings
from gateway.cli.stopping import run_until_stopped
from gateway.clock import Clock
from gateway.config.bind_keys import bind_keys
from gateway.config.ble_models import BleSettings
from gateway.config.loader import load
from gateway.drivers.advert import Advert
from gateway.errors import LinkError
from gateway.links.ble_backend import Connectable, RadioBackend
from gateway.links.ble_scanner import BleScanner, ScanOptions
from gateway.simulate import radio
from gateway.status import RadioStatus

EPILOG = """\
examples:
  edge-gateway scan
  edge-gateway scan --seconds 30 --all          strangers, too
  edge-gateway scan --config /etc/edge-gateway/gateway.toml --json

In a terminal it is a table that stays up to date; else a line for each device that is heard, and
for each new reading. Ctrl-C ends it. It asks devices for their names, which costs sensors a little
battery; --passive listens only, as the gateway does by default.
Exit codes: 0 done, 1 there is no radio, or it fails, 2 wrong usage or configuration.
"""

_LOOK_S = 0.5
"""How often the table is drawn anew."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where to listen, how long, and how to show it."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration, TOML")
    parser.add_argument(
        "--adapter", metavar="NAME", help="such as hci0 (default: as configured, or the first)"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after so long")
    parser.add_argument("--passive", action="store_true", help="listen only, ask for nothing")
    parser.add_argument("--all", action="store_true", help="show devices that nobody can read, too")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object for each piece of news"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Listen and show."""
    overrides = {"ble": {"adapter": arguments.adapter}} if arguments.adapter is not None else None
    settings = load(arguments.config, overrides).ble
    if not has_adapter(settings.adapter):
        wanted = f"called {settings.adapter}" if settings.adapter else "on this machine"
        raise LinkError(f"there is no Bluetooth adapter {wanted}")
    logs.configure("error")
    scan = _Scan(settings, is_passive=arguments.passive, with_strangers=arguments.all)
    with ExitStack() as stack:
        if arguments.json:
            scan.printer = JsonPrinter()
        elif sys.stdout.isatty():
            scan.view = stack.enter_context(live_view())
        else:
            scan.printer = LinePrinter()
        run_until_stopped(scan.run(arguments.seconds))
        scan.draw()
    if not arguments.json:
        print(scan.closing_line(), file=sys.stderr)
    return OK


class _Scan:
    """One scan, and what it shows."""

    def __init__(self, settings: BleSettings, *, is_passive: bool, with_strangers: bool) -> None:
        self.printer: Printer | None = None
        self.view: LiveView | None = None
        self._with_strangers = with_strangers
        self._clock = Clock()
        self._status = RadioStatus()
        self._ended = asyncio.Event()
        self._state = ""
        backend = _backend(settings.adapter)
        self._scanner = BleScanner(
            ScanOptions("" if backend else settings.adapter, "passive" if is_passive else "active"),
            self._hear,
            self._status,
            self._clock,
            backend=backend,
            on_change=self._on_change,
        )
        self._sightings = Sightings(bind_keys(settings), _names(settings), self._clock)

    async def run(self, limit_s: float | None) -> None:
        """Scan until cancelled, or for `limit_s`.

        Raises:
            LinkError: there is no radio.
        """
        try:
            async with asyncio.timeout(limit_s), asyncio.TaskGroup() as tasks:
                scanning = tasks.create_task(self._scanner.run(), name="scan")
                drawing = tasks.create_task(self._keep_drawing(), name="draw")
                await self._ended.wait()
                scanning.cancel()
                drawing.cancel()
        except TimeoutError:
            return
        raise LinkError(f"bluetooth: {self._status.reason}")

    def draw(self) -> None:
        """Draw the table, if there is one."""
        if self.view is not None:
            everybody = self._shown()
            closing = self.closing_line()
            self.view.show(everybody, self._clock.monotonic_s(), f"{self._state}; {closing}")

    def closing_line(self) -> str:
        """Return how many were heard."""
        everybody = self._sightings.everybody()
        strangers = self._sightings.strangers
        return closing_line(everybody, strangers, with_strangers=self._with_strangers)

    async def _keep_drawing(self) -> NoReturn:
        while True:
            self.draw()
            await asyncio.sleep(_LOOK_S)

    def _shown(self) -> list[Sighting]:
        return [
            each
            for each in self._sightings.everybody()
            if self._with_strangers or each.kind is not Kind.UNKNOWN
        ]

    def _hear(self, advert: Advert, _device: Connectable) -> None:
        news = self._sightings.hear(advert)
        if news is None or self.printer is None:
            return
        if self._with_strangers or news.kind is not Kind.UNKNOWN:
            self.printer.print_news(news, self._clock.unix_s())

    def _on_change(self) -> None:
        status = self._status
        if status.state == "no_adapter":
            self._ended.set()
            return
        self._state = f"{status.state} ({status.mode or status.reason})"
        if status.state == "recovering" and self.view is None:
            print(f"bluetooth: {status.reason}; starting the scan anew", file=sys.stderr)


def _names(settings: BleSettings) -> Mapping[str, str]:
    return {device.address: device.name or "" for device in settings.device}


def _backend(adapter: str) -> RadioBackend | None:
    if not adapter.startswith(VIRTUAL):
        return None
    if not radio.available():
        raise LinkError("a simulated adapter needs its packages: pip install 'edge-gateway[demo]'")
    logging.getLogger("bumble").setLevel(logging.CRITICAL)
    from gateway.simulate.radio.bleak_backend import virtual_backend  # noqa: PLC0415  # an extra

    return virtual_backend(adapter.removeprefix(VIRTUAL))
