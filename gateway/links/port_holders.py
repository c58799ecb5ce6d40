"""Which program has a port open, or has locked it."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_PLACE = 5
"""Field of /proc/locks that tells the file; the process is the one before it."""


class Holder(NamedTuple):
    """A process that has a port open."""

    pid: int
    program: str


def holders(devices: Collection[str], proc: Path = Path("/proc")) -> dict[str, Holder]:
    """Return for each device path the first process that has it open, other than this one.

    Only root sees the descriptors of other users' processes; theirs are left out for others.
    """
    found: dict[str, Holder] = {}
    for entry in proc.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        for device in _opened(entry).intersection(devices):
            found.setdefault(device, Holder(int(entry.name), _program(entry)))
    return found


def locker(device: str, proc: Path = Path("/proc")) -> Holder | None:
    """Return the process that holds a lock on `device`; None if there is none, or it is hidden."""
    try:
        status = Path(device).stat()
        locks = (proc / "locks").read_text()
    except OSError:
        return None
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in locks.splitlines():
        fields = line.split()  # 1: FLOCK ADVISORY WRITE pid major:minor:inode start end
        if len(fields) > _PLACE and fields[1] == "FLOCK" and fields[_PLACE] == place:
            return Holder(int(fields[_PLACE - 1]), _program(proc / fields[_PLACE - 1]))
    return None


def _opened(process: Path) -> set[str]:
    opened = set()
    with contextlib.suppress(OSError):  # it is another user's, or it ended
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                opened.add(str(descriptor.readlink()))
    return opened


def _program(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip() or "?"
    except OSError:
        return "?"
