"""Simulated boards as `edge-gateway flash` leaves real ones: slots, an older firmware and a key.

With them `update` and `keys` can be tried without a board: there is something to update, and who
has no key cannot command them.
"""

import json
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from gateway.bundle.bundle import Bundle
from gateway.errors import ConfigError, LinkError
from gateway.files import write_atomically
from gateway.model import device_slug
from gateway.own_bundle import own_bundle
from gateway.simulate.boards import FirmwareBoard, Flash
from gateway.simulate.firmware import Interpreter
from gateway.simulate.slots import lay_out

_KEY_BYTES = 32
_IDENTITY = "board/identity.mpy"


def flashed(root: Path, content: Flash, interpreter: Interpreter) -> Flash:
    """Lay out a board's flash, unless one was there before; return what is to be in it.

    A board that was there keeps firmware, settings and key, whatever updates have made of them.

    Raises:
        ConfigError: only MicroPython runs compiled firmware.
        BundleError: there is no firmware to lay out.
        LinkError: the folder cannot be written, or what is in it is no board's flash.
    """
    if not interpreter.is_micropython:
        raise ConfigError(
            f"--flashed: boards with compiled firmware need MicroPython 1.23 or newer, and there "
            f"is {interpreter.label}; say --interpreter PATH"
        )
    try:
        if (root / "slots.json").exists():
            return Flash(json.loads((root / "config.json").read_bytes()), content.fakes)
        bundle = older(own_bundle())
        lay_out(root, bundle.manifest, bundle.files, secrets.token_bytes(_KEY_BYTES))
    except (OSError, ValueError) as exc:
        raise LinkError(f"{root} is no flash of a board that was flashed: {exc}") from exc
    return content


def older(bundle: Bundle) -> Bundle:
    """Return the same firmware as version 0.0.0, so that ours is an update for who has it.

    The version stands in the compiled module as text; one of the same length changes nothing else.
    """
    text = bundle.version
    oldest = "".join("0" if character.isdigit() else character for character in text)
    identity = bundle.files[_IDENTITY].replace(text.encode(), oldest.encode())
    return Bundle.firmware(oldest, {**bundle.files, _IDENTITY: identity})


def write_keys(path: Path, boards: Iterable[FirmwareBoard]) -> None:
    """Write the boards' keys, as `keys import` reads them, into a file only its owner may read.

    Raises:
        LinkError: it cannot be written.
    """
    try:
        lines = [f"{_device(board)} {_key(board).hex()}\n" for board in boards]
        write_atomically(path, "".join(lines).encode())
    except OSError as exc:
        raise LinkError(f"{path}: {exc.strerror or exc}") from exc


def _device(board: FirmwareBoard) -> str:
    return device_slug(f"{sys.platform}-{board.chip_id}")  # as the board's identity.py says it


def _key(board: FirmwareBoard) -> bytes:
    return (board.root / "device.key").read_bytes()
