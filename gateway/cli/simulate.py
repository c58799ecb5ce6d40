"""Offer simulated boards to a gateway elsewhere: on ptys as serial ports, or on a virtual radio.

A board is the firmware itself, run by MicroPython if that is installed, else by this Python with
stand-ins for the chips; or it is one of the boards that only print lines. With --light many cheap
boards share this process.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.cli.commands import OK
from gateway.cli.faults import fault_help, proxied
from gateway.cli.sim_boards import ACTUATORS, SENSORS
from gateway.cli.sim_firmware import firmware_boards
from gateway.cli.sim_radio import MOST_BOARDS, MOST_SENSORS, run_on_air
from gateway.cli.stopping import run_until_stopped
from gateway.errors import ConfigError, LinkError
from gateway.simulate import radio
from gateway.simulate.faults import FaultPlan, RadioRates, parse
from gateway.simulate.light import LightBoards, LightSpec
from gateway.simulate.text_boards import Acked, Printing, TextBoard, csv_line

EPILOG = f"""\
examples:
  edge-gateway simulate
  edge-gateway simulate --boards 3 --sensors bme280,adc --interval-ms 500 --link-dir ports
  edge-gateway run --port-pattern 'ports/*'                        in another terminal
  edge-gateway simulate --kind json --faults drop=0.1,corrupt=0.05,seed=7
  edge-gateway simulate --light --boards 100 --json
  edge-gateway simulate --radio --boards 2 --bthome 5 --faults radio_drop_every_s=30
  edge-gateway simulate --flashed --boards 3 --link-dir ports        to try update and keys
  edge-gateway simulate --broker localhost:1883 --faults broker_cut_every_s=20,puback_drop=0.05

The path of each port is printed on a line of its own once it is there; before them, with --broker,
where the gateway finds the broker (edge-gateway run --broker ...). With --radio it is the address
of each board, and first what the gateway has for an adapter (edge-gateway run --adapter ..., scan
--adapter ...). Ctrl-C ends it all.
sensors: {", ".join(SENSORS)}
actuators: {", ".join(ACTUATORS)}

faults, such as drop=0.1,unplug_every_s=30,seed=7; the same seed does the same at the same moments:
{fault_help()}
Exit codes: 0 stopped, 1 failed, 2 wrong usage.
"""

_KINDS = ("firmware", "light", "json", "json-acked", "csv")
_MAX_BOARDS = 2000
_APPEAR_TIMEOUT_S = 10.0
_APPEAR_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class _Offer:
    """One board, ready to be run."""

    name: str
    path: Path
    run: Callable[[], Awaitable[None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which boards, and what goes wrong."""
    parser.add_argument(
        "--boards", "-n", type=int, default=1, metavar="N", help="how many (default: 1)"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--kind", choices=_KINDS, default="firmware", help="what they are (default: firmware)"
    )
    kind.add_argument(
        "--light", dest="kind", action="store_const", const="light", help="the same as --kind light"
    )
    parser.add_argument(
        "--sensors",
        default="bme280,simulated",
        metavar="KIND,...",
        help="what boards with firmware measure with (default: bme280,simulated)",
    )
    parser.add_argument(
        "--actuators",
        default="switch,light",
        metavar="KIND,...",
        help="what they have to switch; none: '' (default: switch,light)",
    )
    parser.add_argument(
        "--interval-ms",
        type=int,
        default=1000,
        metavar="N",
        help="milliseconds from sample to sample of each sensor (default: 1000)",
    )
    parser.add_argument("--faults", default="", metavar="SPEC", help="what goes wrong, see below")
    parser.add_argument(
        "--broker",
        metavar="HOST:PORT",
        help="stand in front of a broker, for faults on the way to it; alone with --boards 0",
    )
    parser.add_argument(
        "--proxy-port",
        type=int,
        default=0,
        metavar="N",
        help="the port of --broker's stand-in (default: one that is free)",
    )
    parser.add_argument(
        "--radio",
        action="store_true",
        help="boards are on a virtual Bluetooth radio instead of at ports",
    )
    parser.add_argument(
        "--radio-port",
        type=int,
        default=0,
        metavar="N",
        help="the TCP port of --radio's adapter (default: one that is free)",
    )
    parser.add_argument(
        "--bthome",
        type=int,
        default=0,
        metavar="N",
        help="so many BTHome sensors advertise on the radio, too (default: 0)",
    )
    parser.add_argument("--name", default="sim", help="the boards are NAME-0, NAME-1 ...")
    parser.add_argument(
        "--link-dir",
        type=Path,
        metavar="DIR",
        help="where the ports appear, by the boards' names; boards keep their flash in DIR/.flash",
    )
    parser.add_argument(
        "--interpreter",
        metavar="PATH",
        help="the MicroPython that runs the firmware, or cpython (default: what is found)",
    )
    parser.add_argument(
        "--flashed",
        action="store_true",
        help="boards as `flash` leaves them: an older firmware, to try updates, and each "
        "with a key; one that is in DIR already stays as it is. Needs MicroPython",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each board")


def execute(arguments: argparse.Namespace) -> int:
    """Be boards until stopped."""
    fewest = 1 if arguments.broker is None and not arguments.bthome else 0
    if not fewest <= arguments.boards <= _MAX_BOARDS:
        raise ConfigError(f"--boards: from {fewest} to {_MAX_BOARDS}, not {arguments.boards}")
    if not 0 <= arguments.proxy_port < 1 << 16:
        raise ConfigError(f"--proxy-port: from 0 to 65535, not {arguments.proxy_port}")
    if arguments.interval_ms < 1:
        raise ConfigError(f"--interval-ms: 1 or more, not {arguments.interval_ms}")
    if "/" in arguments.name:
        raise ConfigError(f"--name: a part of a file's name, so without /, not {arguments.name!r}")
    plan = parse(arguments.faults)
    _check_radio(arguments, plan)
    if plan.link.kill_every_s and arguments.kind != "firmware":
        raise ConfigError("--faults: kill_every_s is for boards with the firmware")
    if arguments.flashed and arguments.kind != "firmware":
        raise ConfigError("--flashed: only boards with the firmware can be flashed")
    with _folder(arguments.link_dir) as folder:
        if arguments.radio:
            run: Callable[[], Awaitable[None]] = partial(run_on_air, arguments, folder, plan)
        elif not arguments.boards:
            run = _run_nothing
        elif arguments.kind == "light":
            run = partial(_run_light, arguments, folder, plan)
        else:
            offers = _offers(arguments, folder, plan)
            run = partial(_run, offers, as_json=arguments.json)
        run_until_stopped(_run_with_broker(arguments, plan, run))
    return OK


def _check_radio(arguments: argparse.Namespace, plan: FaultPlan) -> None:
    if plan.radio != RadioRates() and not arguments.radio:
        raise ConfigError("--faults: those of the radio need --radio")
    if not 0 <= arguments.radio_port < 1 << 16:
        raise ConfigError(f"--radio-port: from 0 to 65535, not {arguments.radio_port}")
    if not 0 <= arguments.bthome <= MOST_SENSORS:
        raise ConfigError(f"--bthome: from 0 to {MOST_SENSORS}, not {arguments.bthome}")
    if arguments.radio and arguments.boards > MOST_BOARDS:
        raise ConfigError(f"--radio: room for {MOST_BOARDS} boards, not {arguments.boards}")
    if arguments.bthome and not arguments.radio:
        raise ConfigError("--bthome: sensors need the radio, --radio")
    if arguments.radio and arguments.kind != "firmware":
        raise ConfigError("--radio: only boards with the firmware have one")
    if arguments.radio and not radio.available():
        raise ConfigError("--radio needs its packages: pip install 'edge-gateway[demo]'")


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is None:
        with tempfile.TemporaryDirectory(prefix="edge-gateway-") as folder:
            yield Path(folder)
        return
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"--link-dir: {wanted}: {exc.strerror}") from exc
    yield wanted.absolute()


def _offers(arguments: argparse.Namespace, folder: Path, plan: FaultPlan) -> list[_Offer]:
    if arguments.kind == "firmware":
        boards = firmware_boards(arguments, folder, plan)
        return [_Offer(name, board.path, board.run) for name, board in boards.items()]
    speaks = _speech(arguments.kind, arguments.interval_ms / 1000)
    names = [f"{arguments.name}-{number}" for number in range(arguments.boards)]
    return [
        _Offer(name, folder / name, TextBoard(folder / name, speaks, plan).run) for name in names
    ]


def _speech(kind: str, interval_s: float) -> Printing | Acked:
    match kind:
        case "json":
            return Printing(interval_s)
        case "json-acked":
            return Acked(interval_s)
        case _:
            return Printing(interval_s, csv_line)


async def _run_with_broker(
    arguments: argparse.Namespace, plan: FaultPlan, run: Callable[[], Awaitable[None]]
) -> None:
    async with proxied(arguments.broker, arguments.proxy_port, plan) as url:
        if url is not None:
            print(json.dumps({"broker": url}) if arguments.json else url, flush=True)
        await run()


async def _run_nothing() -> None:
    await asyncio.get_running_loop().create_future()


async def _run(offers: list[_Offer], *, as_json: bool) -> None:
    """Run the boards until cancelled; ends with a group of GatewayError if one cannot be run."""
    async with asyncio.TaskGroup() as tasks:
        for offer in offers:
            tasks.create_task(_be(offer), name=offer.name)
        for offer in offers:
            await _appearance(offer.path)
            _announce(offer.name, offer.path, as_json=as_json)


async def _be(offer: _Offer) -> None:
    try:
        await offer.run()
    except OSError as exc:
        raise LinkError(f"{offer.path}: {exc.strerror}") from exc


async def _run_light(arguments: argparse.Namespace, folder: Path, plan: FaultPlan) -> None:
    spec = LightSpec(
        count=arguments.boards,
        folder=folder,
        interval_s=arguments.interval_ms / 1000,
        prefix=arguments.name,
        plan=plan,
    )
    boards = LightBoards(spec)
    try:
        await boards.open()
        for name, board in boards.boards.items():
            _announce(name, board.path, as_json=arguments.json)
        await asyncio.get_running_loop().create_future()
    except OSError as exc:
        raise LinkError(f"{folder}: {exc.strerror}") from exc
    finally:
        boards.close()


def _announce(name: str, path: Path, *, as_json: bool) -> None:
    fields = {"name": name, "path": str(path)}
    print(json.dumps(fields) if as_json else path, flush=True)


async def _appearance(path: Path) -> None:
    """Return once the port is there: the file system does not tell, so it is looked for."""
    async with asyncio.timeout(_APPEAR_TIMEOUT_S):
        while not os.path.lexists(path):  # noqa: ASYNC110, ASYNC240  # no event tells; it is quick
            await asyncio.sleep(_APPEAR_LOOK_S)
