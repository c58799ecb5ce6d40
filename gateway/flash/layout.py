"""What lies on a board after it was flashed, and in which order it gets there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.bundle.bundle import Bundle
from gateway.errors import FlashError

SLOT: Final = "a"
"""A board that is flashed begins with this slot; the other one is for the first update."""

START: Final = "main.py"
"""Written last: until then a board whose flashing was interrupted ends in its REPL."""

BOOT: Final = ("boot_sel.py",)

KEY: Final = "device.key"
SETTINGS: Final = "config.json"
STATE: Final = "slots.json"

KEY_BYTES: Final = 32

STALE: Final = (
    "b",
    "board",
    "sensors",
    "actuators",
    "commands",
    "board.py",
    "board.mpy",
    "boot_sel.mpy",
    "main.mpy",
    "config.try",
    "slots.json.new",
    "config.json.new",
    "device.key.new",
    "repl",
)
"""What would run instead, or be taken for something else: folders of a board that was flashed by
hand (a `.py` there wins over the slot's `.mpy`), the other slot, what was on trial. Numbering
(`boot.json`, `ble.json`), readings that wait (`q/`) and `boot.py` stay."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All files of a board, in the order in which they are written."""

    files: Mapping[str, bytes]
    manifest_hash: str
    """16 hex digits: what the board's HELLO has to say."""
    key_id: str
    """8 hex digits: likewise; empty for a board without a key."""

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(map(len, self.files.values()))


def layout_of(bundle: Bundle, settings: bytes, key: bytes | None, firmware: Path) -> Layout:
    """Return what to put onto a board.

    Args:
        bundle: the firmware.
        settings: its config.json.
        key: 32 bytes, or None for a board that is commanded without.
        firmware: the folder with `main.py` and `boot_sel.py`.

    Raises:
        FlashError: the firmware's folder lacks one of them.
    """
    files = {f"{SLOT}/{path}": data for path, data in bundle.files.items()}
    files[f"{SLOT}/manifest"] = bundle.manifest
    files[SETTINGS] = settings
    if key is not None:
        files[KEY] = key
    files[STATE] = json.dumps({"a": SLOT, "t": None, "n": 0}).encode()
    for name in (*BOOT, START):
        try:
            files[name] = (firmware / name).read_bytes()
        except OSError as exc:
            raise FlashError(
                f"{firmware / name}: {exc.strerror}: install edge-gateway anew"
            ) from exc
    key_id = "" if key is None else sha256(key).hexdigest()[:8]
    return Layout(files, bundle.short_hash, key_id)
