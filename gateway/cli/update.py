"""Bring boards other firmware or settings, and watch it; without a board, list what they run.

Boards that `edge-gateway flash` has set up take updates over their cable or over Bluetooth, while
they measure. Each tries what is new, and goes back to what it had if that does not work; then the
others do not get it. Boards that are away or asleep are waited for: Ctrl-C ends the watching, the
rollout goes on.
"""

import argparse
import base64
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.bundle.archive import read_bundle, to_archive
from gateway.bundle.settings import read_settings
from gateway.cli import control
from gateway.cli.commands import FAILED, INTERRUPTED, OK
from gateway.cli.update_progress import show
from gateway.cli.wording import titled
from gateway.config.loader import load
from gateway.config.models import Settings
from gateway.errors import ConfigError

EPILOG = """\
examples:
  edge-gateway update                            what boards run, and what they could have
  edge-gateway update greenhouse                 the firmware this gateway brings along
  edge-gateway update --all --canary 2           two boards first; when they keep it, the others
  edge-gateway update shed --settings shed.json  another config.json
  edge-gateway update --all --bundle fw.egb      your own firmware, see `edge-gateway bundle`
  edge-gateway update --status
  edge-gateway update --abort

A gateway has to run on this machine. Exit codes: 0 all boards have it, 1 not all, 2 wrong usage.
"""

POLL_S: Final = 0.5
_BEGIN_S: Final = 60.0
"""From a source tree the firmware is compiled first."""

_GOOD = {"done", "unchanged"}
_WAY_ON: Final = (
    "to go on without the boards that took it back: the same with --all again; to have one try it "
    "again: name it; with something mended: --bundle"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take whom to update with what, or what else to do."""
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help="by their names in topics")
    parser.add_argument("--all", action="store_true", help="all boards that run something older")
    parser.add_argument(
        "--canary",
        type=int,
        metavar="N",
        help="so many have to keep it before the others get it",
    )
    parser.add_argument(
        "--parallel", type=int, metavar="N", help="so many at a time have it under way (4)"
    )
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="firmware of your own, an .egb")
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="a board's config.json; firmware stays"
    )
    parser.add_argument(
        "--downgrade", action="store_true", help="also where what the board runs is newer"
    )
    parser.add_argument("--no-wait", action="store_true", help="begin it, and do not watch")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--check", action="store_true", help="only list what boards run")
    others.add_argument("--status", action="store_true", help="show how rollouts stand")
    others.add_argument("--abort", action="store_true", help="end what is under way")
    parser.add_argument(
        "--rollout", type=int, metavar="N", help="which one --status or --abort mean"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the gateway's configuration")


def execute(arguments: argparse.Namespace) -> int:
    """Do it."""
    settings = load(arguments.config)
    if arguments.status:
        return _status(settings, arguments.rollout)
    if arguments.abort:
        return _abort(settings, arguments.devices, arguments.rollout)
    if arguments.check or not (arguments.devices or arguments.all):
        _refuse_options(arguments)
        return _check(settings)
    begun = control.ask(settings, "update", _fields(arguments), _BEGIN_S)
    for device, why in begun["left_out"].items():
        print(f"{device}: {why}", file=sys.stderr)
    title = f"{begun['kind']} {begun.get('version') or begun['hash']}"
    print(f"rollout {begun['rollout']}: {title}, {begun['bytes']:,} bytes", file=sys.stderr)
    if arguments.no_wait:
        return OK
    return _watch(settings, begun["rollout"])


def _refuse_options(arguments: argparse.Namespace) -> None:
    named = ("bundle", "settings", "canary", "parallel", "downgrade")
    given = [f"--{name}" for name in named if getattr(arguments, name)]
    if given and not arguments.check:
        raise ConfigError(f"{given[0]} needs boards: name them, or --all")


def _fields(arguments: argparse.Namespace) -> Mapping[str, object]:
    if arguments.bundle and arguments.settings:
        raise ConfigError("--bundle and --settings are two updates: one after the other")
    fields: dict[str, object] = {"devices": arguments.devices, "all": arguments.all}
    for name in ("canary", "parallel"):
        if getattr(arguments, name) is not None:
            fields[name] = getattr(arguments, name)
    if arguments.downgrade:
        fields["downgrade"] = True
    if arguments.bundle:
        packed = to_archive(read_bundle(arguments.bundle))
        fields["bundle"] = base64.b64encode(packed).decode()
    if arguments.settings:
        fields["settings"] = read_settings(arguments.settings)
    return fields


def _check(settings: Settings) -> int:
    after, count = "", 0
    while True:
        page = control.ask(settings, "update_check", {"after": after}, _BEGIN_S)
        boards: list[dict[str, Any]] = page["devices"]
        for board in boards:
            title = titled(board["device"], board["name"])
            offer = f"{page['latest']} can be had" if board["available"] else "nothing newer"
            print(f"{title}  {board['installed'] or '-'}  {offer}")
        count += len(boards)
        if not page["more"]:
            break
        after = boards[-1]["device"]
    if not count:
        print("no board can be updated: `edge-gateway flash` sets one up", file=sys.stderr)
    return OK


def _status(settings: Settings, number: int | None) -> int:
    fields = {} if number is None else {"rollout": number}
    rollouts: list[dict[str, Any]] = control.ask(settings, "update_status", fields)["rollouts"]
    if not rollouts:
        print("there was no rollout", file=sys.stderr)
    for rollout in rollouts:
        print(_line(rollout))
        for board in rollout.get("devices", ()):
            print(f"  {board_line(board)}")
    return OK


def _abort(settings: Settings, devices: list[str], number: int | None) -> int:
    for device in devices or [""]:
        fields = {"device": device, **({} if number is None else {"rollout": number})}
        for each in control.ask(settings, "update_abort", fields)["aborted"]:
            print(f"rollout {each}: aborted{f' for {device}' if device else ''}")
    return OK


def _watch(settings: Settings, number: int) -> int:
    """Show how a rollout gets on until it is over."""
    try:
        with show() as screen:
            while True:
                answer = control.ask(settings, "update_status", {"rollout": number})
                (rollout,) = answer["rollouts"]
                screen.update(rollout)
                if not {"waiting", "sending", "trial"} & rollout["counts"].keys():
                    break
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        print(
            f"rollout {number} goes on: `edge-gateway update --status`, or --abort", file=sys.stderr
        )
        return INTERRUPTED
    print(_line(rollout))
    if rollout["state"] == "halted":
        print(_WAY_ON, file=sys.stderr)
    return OK if set(rollout["counts"]) <= _GOOD else FAILED


def _line(rollout: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in rollout["counts"].items())
    title = f"{rollout['kind']} {rollout.get('version') or rollout['hash']}"
    why = f" ({rollout['reason']})" if "reason" in rollout else ""
    return f"rollout {rollout['rollout']}: {title}: {rollout['state']}{why}: {counts}"


def board_line(board: Mapping[str, Any]) -> str:
    """Return how one board stands, in words."""
    percent = f" {board['percent']} %" if board["state"] == "sending" else ""
    why = f": {board['reason']}" if "reason" in board else ""
    return f"{titled(board['device'], board['name'])}: {board['state']}{percent}{why}"
