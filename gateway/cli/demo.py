"""Watch the gateway work with nothing plugged in: simulated boards, a broker of its own, a table.

Four boards run the real firmware with different sensors, one of them on Bluetooth; a fifth only
prints JSON lines, as most Arduino sketches do; and a BTHome sensor advertises. The radio is a
virtual one. The gateway that reads them is the one `edge-gateway run` starts.
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gateway.app import App
from gateway.cli import logs
from gateway.cli.commands import FAILED, OK
from gateway.cli.embedded import embedded_broker, embedded_settings, run_with
from gateway.cli.live_table import LogTail, live_table
from gateway.cli.overview import Overview, plain_lines
from gateway.cli.sim_boards import flash, on_air
from gateway.cli.stopping import run_until_stopped
from gateway.config.loader import load
from gateway.errors import ConfigError
from gateway.simulate import radio
from gateway.simulate.boards import FirmwareBoard, Json
from gateway.simulate.broker import EmbeddedBroker, available
from gateway.simulate.firmware import Interpreter, find_interpreter
from gateway.simulate.text_boards import Printing, TextBoard

EPILOG = """\
examples:
  edge-gateway demo
  DEMO_SECONDS=15 edge-gateway demo

Ctrl-C ends it. Without a terminal it prints plain lines every two seconds. To see what others see:
  mosquitto_sub -p PORT -t 'edge/#' -v                    with the port that it shows
That broker speaks MQTT 3.1.1, not 5. Home Assistant on it shows all of it by itself.
Exit codes: 0 done, 1 a board's samples did not arrive in a timed run, 2 wrong usage.
"""

SECONDS_VARIABLE = "DEMO_SECONDS"
_PLAIN_INTERVAL_S = 2.0
_LOOK_INTERVAL_S = 0.25
"""A sample holds the values of one sensor of a board; looking often, one sees those of all."""
_NAME = "demo"
_SWITCHED = "greenhouse"
_TEXT_BOARD = "kitchen"
_SENSOR = "terrace"
_SENSOR_ADDRESS = "A4:C1:38:00:00:01"


_View = Callable[[App, Callable[[], str]], Coroutine[object, object, None]]
"""Shows a gateway until cancelled, with a hint below, which may grow."""


@dataclass(frozen=True, slots=True)
class _Board:
    sensors: Sequence[str]
    interval_ms: int
    actuators: Sequence[Mapping[str, Json]] = ()
    is_on_air: bool = False
    """On the radio, and at no port."""


_HEATING: Mapping[str, Json] = {
    "range": [5, 30],
    "step": 0.5,
    "unit": "°C",
    "device_class": "temperature",
}
_BOARDS: Mapping[str, _Board] = {
    _SWITCHED: _Board(
        ("bme280", "simulated"),
        500,
        (
            {"kind": "relay", "name": "pump", "pin": 12},
            {"kind": "pwm", "name": "lamp", "pin": 13, "light": True},
            {"kind": "simulated", "name": "heating", "type": "number", **_HEATING},
        ),
    ),
    "cellar": _Board(("ds18x20", "heap"), 1000),
    "roof": _Board(("sht3x", "adc", "pulse"), 200),
    "attic": _Board(("dht22",), 2000, is_on_air=True),
}


class _House(NamedTuple):
    """Where the gateway finds the boards."""

    ports: Path
    adapter: str
    """Its radio, as in [ble]."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take how long."""
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        help=f"stop by itself and print a summary (default: ${SECONDS_VARIABLE}, else never)",
    )
    parser.add_argument(
        "--interpreter",
        metavar="PATH",
        help="the MicroPython that runs the firmware, or cpython (default: what is found)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Show it."""
    limit_s = _limit_s(arguments.seconds)
    if not (available() and radio.available()):
        raise ConfigError(
            "the demo needs the embedded broker and the virtual radio: "
            "pip install 'edge-gateway[demo]', or use `run` with a broker of yours and `simulate`"
        )
    demo = _Demo(find_interpreter(arguments.interpreter), limit_s, _chosen_view())
    was_stopped = run_until_stopped(demo.run())
    missing = demo.missing_boards()
    print(demo.summary())
    if missing and not was_stopped:
        late = f" within {limit_s:g} s" if limit_s is not None else ""
        complaint = f"nothing was delivered from {', '.join(missing)}{late}"
        print(f"edge-gateway: {complaint}", file=sys.stderr)
        return FAILED
    return OK


def _limit_s(seconds: float | None) -> float | None:
    if seconds is None and (text := os.environ.get(SECONDS_VARIABLE)):
        try:
            seconds = float(text)
        except ValueError:
            raise ConfigError(f"{SECONDS_VARIABLE}: a number of seconds, not {text!r}") from None
    if seconds is not None and not 0 < seconds < float("inf"):
        raise ConfigError(f"the demo's seconds must be more than 0, not {seconds:g}")
    return seconds


class _Demo:
    """One run of the demo."""

    def __init__(self, interpreter: Interpreter, limit_s: float | None, view: _View) -> None:
        self._interpreter = interpreter
        self._limit_s = limit_s
        self._view = view
        self._app: App | None = None

    async def run(self) -> None:
        """Run until cancelled, or until the time is over."""
        with tempfile.TemporaryDirectory(prefix="edge-gateway-demo-") as folder:
            async with (
                await embedded_broker() as broker,
                self._boards(Path(folder)) as house,
            ):
                await self._run_app(broker, house)

    def missing_boards(self) -> list[str]:
        """Return the boards of which the broker has nothing."""
        devices = () if self._app is None else self._app.status.devices.values()
        heard = {entry.name or entry.device for entry in devices if entry.delivered}
        return [name for name in (*_BOARDS, _TEXT_BOARD, _SENSOR) if name not in heard]

    def summary(self) -> str:
        """Return what was delivered, for the end."""
        if self._app is None:
            return "stopped before it began"
        overview = Overview(self._app)
        totals = overview.totals()
        lines = [
            f"  {row.name}: received {row.received}, delivered {row.delivered}, lost {row.lost}"
            for row in overview.rows(time.monotonic())
        ]
        head = (
            f"{totals.delivered} of {totals.received} samples delivered, {totals.lost} lost, "
            f"latency p50 {totals.latency_p50_ms:.1f} ms p99 {totals.latency_p99_ms:.1f} ms"
        )
        return "\n".join([head, *lines])

    @asynccontextmanager
    async def _boards(self, folder: Path) -> AsyncIterator[_House]:
        """Run the boards and the sensor while the context is open."""
        # Imported here, so that other commands do not wait for it.
        from gateway.simulate.radio.advertisers import Advertiser, Bthome, weather  # noqa: PLC0415
        from gateway.simulate.radio.server import VirtualRadio  # noqa: PLC0415

        ports = folder / "ports"
        ports.mkdir()
        async with VirtualRadio() as air, asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(
                    self._firmware_board(
                        ports / name, folder / name, board, air.board_address
                    ).run()
                )
                for name, board in _BOARDS.items()
            ]
            text_board = TextBoard(ports / _TEXT_BOARD, Printing(interval_s=1.0))
            running.append(tasks.create_task(text_board.run()))
            sensor = Bthome(_SENSOR_ADDRESS, weather(), period_s=2.0)
            air.advertise(Advertiser(_SENSOR_ADDRESS, sensor, interval_s=0.5))
            yield _House(ports, f"virtual:{air.hci_address}")
            for task in running:
                task.cancel()

    def _firmware_board(self, path: Path, root: Path, board: _Board, air: str) -> FirmwareBoard:
        content = flash(path.name, board.sensors, board.interval_ms, actuators=board.actuators)
        if board.is_on_air:
            content = on_air(content)
        return FirmwareBoard(path, root, content, self._interpreter, radio=air)

    async def _run_app(self, broker: EmbeddedBroker, house: _House) -> None:
        settings = load(
            None,
            {
                "gateway": {"name": _NAME},
                "mqtt": embedded_settings(broker),
                "serial": {"patterns": [f"{house.ports}/*"], "rescan_s": 0.2},
                "ble": {
                    "adapter": house.adapter,
                    "device": [{"address": _SENSOR_ADDRESS, "name": _SENSOR}],
                },
                "outbox": {"path": str(house.ports.parent / "outbox.db")},
            },
        )
        app = self._app = App(settings)
        hint = partial(_hint, app, self._interpreter.label, broker.port)
        try:
            async with asyncio.timeout(self._limit_s), asyncio.TaskGroup() as tasks:
                tasks.create_task(run_with(app, broker), name="gateway")
                await self._view(app, hint)  # first to end, so that it does not show the stop
        except TimeoutError:
            return


def _hint(app: App, interpreter: str, port: int) -> str:
    """Return what else there is to try; how to switch something, once that is there."""
    lines = [
        f"boards run {interpreter}; from outside:",
        f"mosquitto_sub -p {port} -t 'edge/#' -v",
    ]
    devices = app.status.devices.values()
    if board := next((each.device for each in devices if each.name == _SWITCHED), None):
        topic = f"edge/{_NAME}/{board}/pump/set"
        lines.append(f"mosquitto_pub -p {port} -t {topic} -m ON")
    return "\n".join(lines)


def _chosen_view() -> _View:
    """Return what shows the gateway; from here on it also gets the log."""
    if not sys.stdout.isatty():
        logs.configure("warning")
        return _view_lines
    tail = LogTail()
    logging.basicConfig(level=logging.INFO, handlers=[tail], force=True)
    return partial(_view_table, tail)


async def _view_lines(app: App, hint: Callable[[], str]) -> None:
    hinted = ""
    overview = Overview(app)
    loop = asyncio.get_running_loop()
    print_s = loop.time() + _PLAIN_INTERVAL_S
    while True:
        if (known := hint()) != hinted:
            print(known.removeprefix(hinted).strip("\n"), flush=True)
            hinted = known
        await asyncio.sleep(_LOOK_INTERVAL_S)
        rows = overview.rows(loop.time())
        if loop.time() >= print_s:
            print_s += _PLAIN_INTERVAL_S
            print("\n".join(plain_lines(rows, overview.totals())), flush=True)


async def _view_table(tail: LogTail, app: App, hint: Callable[[], str]) -> None:
    overview = Overview(app)
    loop = asyncio.get_running_loop()
    with live_table(tail) as table:
        while True:
            rows = overview.rows(loop.time())
            table.show(rows, overview.totals(), f"{hint()}\nCtrl-C ends it")
            await asyncio.sleep(_LOOK_INTERVAL_S)
