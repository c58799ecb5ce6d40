"""A simulated board's flash as `edge-gateway flash` leaves it: the selector, and slot a."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from gateway.firmware_files import firmware_folder

__all__ = ["lay_out"]

SELECTOR = ("main.py", "boot_sel.py")
"""What no update replaces."""


def lay_out(
    root: Path,
    manifest: bytes,
    files: Mapping[str, bytes],
    key: bytes = b"",
    firmware: Path | None = None,
) -> None:
    """Write what a board with slots starts from; config.json is the caller's.

    The runner (`device_firmware/host/run.py`) runs what it finds in such a folder, and not the
    source tree. Files that end in .mpy need MicroPython; this Python runs those that end in .py.

    Args:
        root: the board's flash; made when it is missing.
        manifest: of the firmware in slot a.
        files: path in the slot, such as `board/app.mpy`, to content.
        key: the device key; without one anybody may command the board.
        firmware: a copy of `device_firmware` with the selector; ours by default.

    Raises:
        ConfigError: the firmware is missing.
        OSError: the folder cannot be written.
    """
    source = firmware or firmware_folder()
    root.mkdir(parents=True, exist_ok=True)
    for name in SELECTOR:
        shutil.copyfile(source / name, root / name)
    for path, content in files.items():
        place = root / "a" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (root / "a" / "manifest").write_bytes(manifest)
    (root / "slots.json").write_text(json.dumps({"a": "a", "t": None, "n": 0}), encoding="utf-8")
    if key:
        (root / "device.key").write_bytes(key)
