"""List, export, import, rotate or remove the keys of boards.

A board that `edge-gateway flash` has set up has a key of its own. It takes commands and updates
from nobody but who knows the key: the gateway keeps it for it. A gateway without the key reads the
board, and cannot command it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway import files
from gateway.cli import control
from gateway.cli.commands import FAILED, OK
from gateway.cli.keeping import keep_key, offline
from gateway.cli.wording import titled
from gateway.config.loader import load
from gateway.config.models import Settings
from gateway.errors import ConfigError, GatewayError, NotRunningError, RequestError
from gateway.model import device_slug
from gateway.store.keys import parse_keys

EPILOG = """\
examples:
  edge-gateway keys list
  edge-gateway keys export > device-keys               all of them, for another gateway
  edge-gateway keys export shed --output shed.key
  edge-gateway keys import device-keys                 what another gateway has exported
  edge-gateway keys rotate shed                        have the board take a new key
  edge-gateway keys remove shed                        after the board was flashed without one

Exported keys are lines of a device and 64 hex digits. Such a file can be the systemd credential
`device-keys` of the service: it is read, and never written. Who has a key commands its board: keep
exported ones as you would keep a password.
Exit codes: 0 done, 1 not done, 2 wrong usage or configuration.
"""

_ACTIONS = ("list", "export", "import", "rotate", "remove")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, with whose keys."""
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))
    parser.add_argument(
        "devices", nargs="*", metavar="DEVICE", help="by their names in topics; for import: a FILE"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the gateway's configuration")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="export into a file that only you may read"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="remove the key of a board that has it still"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Do it."""
    settings = load(arguments.config)
    devices: list[str] = arguments.devices
    match arguments.action:
        case "list":
            return _list(settings)
        case "export":
            return _export(settings, devices, arguments.output)
        case "import":
            return _import(settings, devices)
    if not devices:
        raise ConfigError(f"{arguments.action} needs the names of devices")
    if arguments.action == "rotate":
        return _rotate(settings, devices)
    for device in devices:
        _remove(settings, device, anyway=arguments.anyway)
    return OK


def _list(settings: Settings) -> int:
    try:
        rows: list[dict[str, Any]] = control.ask(settings, "keys")["keys"]
    except NotRunningError:
        store = offline(settings)
        told = "the keys of:" if store.devices() else "no keys"
        print(f"no gateway runs; in {store.folder} there are {told}", file=sys.stderr)
        for name in store.devices():
            print(f"{name}  {' '.join(store.ids(name))}")
        return OK
    if not rows:
        print("no board has a key", file=sys.stderr)
    titles = [titled(row["level"], row["name"]) for row in rows]
    width = max(map(len, titles), default=0)
    for title, row in zip(titles, rows, strict=True):
        print(f"{title:{width}}  {' '.join(row['keys']) or '-':8}  {_state(row)}")
    return OK


def _state(row: dict[str, Any]) -> str:
    """Return how a board and its key here go together, in words."""
    board = row["board"]
    if board is None:
        heir = row.get("replaced_by")
        return f"the board was replaced by {heir}" if heir else "the board was never seen"
    if row["rotating"]:
        return f"changing: the board uses {board} until it is seen with the other one"
    if row["commanded"]:
        return "in use" if row["from"] == "file" else "in use, from the credential device-keys"
    if not row["keys"]:
        return f"the board has the key {board}, which is not here: it is read, not commanded"
    if board == "none":
        return "the board has no key: `keys remove` lets it be commanded without"
    return f"the board has another key, {board}: it is read, not commanded"


def _export(settings: Settings, devices: Sequence[str], output: Path | None) -> int:
    try:
        lines: list[str] = control.ask(settings, "export_keys", {"devices": list(devices)})["lines"]
    except NotRunningError:
        store = offline(settings)
        lines = []
        for name in [device_slug(each) for each in devices] or store.devices():
            keys = [store.find(name, each) for each in store.ids(name)]
            if not keys:
                raise RequestError(f"no key is kept of {name} in {store.folder}") from None
            lines += [f"{name} {key.hex()}" for key in keys if key is not None]
    text = "".join(f"{line}\n" for line in lines)
    if output is None:
        sys.stdout.write(text)
        return OK
    try:
        files.write_atomically(output, text.encode())
    except OSError as exc:
        raise ConfigError(f"{output}: {exc.strerror or exc}") from exc
    print(f"{output}: {len(lines)} keys", file=sys.stderr)
    return OK


def _import(settings: Settings, names: Sequence[str]) -> int:
    if len(names) != 1:
        raise ConfigError("import needs the name of a file with lines of a device and its key")
    path = Path(names[0])
    try:
        keys = parse_keys(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror or exc}") from exc
    except ValueError as exc:
        reason = "not UTF-8" if isinstance(exc, UnicodeError) else exc
        raise ConfigError(f"{path}: {reason}") from exc
    for device, (key, *others) in keys.items():
        for other in reversed(others):  # of a change that was not over
            keep_key(settings, device, other)
        print(f"{device}: kept {keep_key(settings, device, key)}", file=sys.stderr)
    return OK


def _rotate(settings: Settings, devices: Sequence[str]) -> int:
    failed = 0
    for device in devices:
        try:
            told = control.ask(settings, "rotate_key", {"device": device})
        except NotRunningError:
            raise
        except GatewayError as exc:
            failed += 1
            print(f"{device}: {exc}", file=sys.stderr)
        else:
            print(f"{device}: has a new key, {told['key']}")
    return FAILED if failed else OK


def _remove(settings: Settings, device: str, *, anyway: bool) -> None:
    try:
        control.ask(settings, "remove_key", {"device": device, "anyway": anyway})
    except NotRunningError:
        if not anyway:
            raise RequestError(
                f"{device}: no gateway runs that knows whether the board has that key still; start "
                "it, or remove the key with --anyway"
            ) from None
        if not offline(settings).remove(device):
            raise RequestError(f"no key is kept of {device}") from None
    print(f"{device}: its key is removed", file=sys.stderr)
