"""The last configuration that could be used, kept for the day its file is broken.

A power cut while somebody edits leaves a file empty, cut off or full of zeros. What is kept is a
copy of the file alone: secrets stay in the files it names.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

from gateway import files
from gateway.config.loader import MAX_FILE_BYTES

SECTOR_BYTES: Final = 512
"""Disks write so many at a time: what was cut off often ends at such a border."""

_BLANK: Final = b" \t\r\n\0"


def last_good_path(config: Path, state_folder: Path | None = None) -> Path:
    """Return where the last good one of a configuration is kept.

    That must not depend on what the configuration says. Without `state_folder` it is the one that
    systemd gives, or else one of the user's for each configuration.

    Source: systemd.exec(5), $STATE_DIRECTORY; the XDG Base Directory Specification.
    """
    name = f"{config.name}.last-good"
    if state_folder is not None:
        return state_folder / name
    if folder := os.environ.get("STATE_DIRECTORY"):
        return Path(folder.partition(":")[0]) / name
    home = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    key = hashlib.sha256(os.fsencode(config.absolute())).hexdigest()[:8]
    return home / "edge-gateway" / f"configuration-{key}" / name


def read_last_good(path: Path) -> bytes | None:
    """Return the last good one; None if there is none, or it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError:
        return None


def keep_last_good(path: Path, content: bytes) -> None:
    """Keep a configuration that could be used; nothing is written if it is kept already.

    Raises:
        OSError: the disk is full or fails; the one before is still there.
    """
    if read_last_good(path) != content:
        files.make_folder(path.parent)
        files.write_atomically(path, content)


def cut_off(content: bytes, before: bytes | None) -> str:
    """Return why a configuration looks like what a power cut left of one; empty if it does not.

    Such a file may be valid: an empty one leaves everything to its default, and the first half of
    one that has `port = 1883` may end with `port = 18`. So it is cut off if it does not end as the
    one before, and ends where people do not end files.
    """
    if before is None or not before.strip(_BLANK):
        return ""
    if not content.strip(_BLANK):
        return "it is empty, and the one before was not"
    if _last_line(content) == _last_line(before):
        return ""
    if before.endswith(b"\n") and not content.endswith(b"\n"):
        return "it ends within a line, and not as the one before"
    if len(content) % SECTOR_BYTES == 0:
        return "it ends where a sector of a disk does, and not as the one before"
    return ""


def _last_line(content: bytes) -> bytes:
    return content.strip(_BLANK).rpartition(b"\n")[2].strip()
