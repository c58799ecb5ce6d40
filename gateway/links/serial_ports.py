"""Which serial ports there are, and which come and go.

Looking every second costs 0.3 ms in a thread, and is the same everywhere: udev's events need root
or a library and are not seen in a container; inotify on /dev misses by-id folders that are yet to
be made, and says nothing on file systems without it.
"""

import asyncio
import contextlib
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path, PurePath

_UDEV_S = 0.25
"""A new port with only its kernel name is looked at again after this: udev's link comes later."""

_INTERFACE = re.compile(r"-if[0-9a-f]{2}(-port[0-9]+)?$")
"""The end of a by-id name: which of the device's interfaces and ports it is."""


@dataclass(frozen=True, slots=True)
class FoundPort:
    """A serial port that exists."""

    path: str
    """What to open: a stable link if there is one."""
    name: str
    """Last part of `path`, or all of it where two ports share that."""
    device: str
    """What the kernel calls it just now, such as /dev/ttyUSB0."""
    description: str
    """The by-id link in words for people; empty where there is none."""


@dataclass(frozen=True, slots=True)
class PortsChanged:
    """What came and what went since the last time."""

    appeared: tuple[FoundPort, ...]
    vanished: tuple[FoundPort, ...]


def find_ports(patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[FoundPort]:
    """Return each port that matches once, by its most stable path, in the order of the patterns.

    A glob of `exclude` that matches any path, name or device of a port leaves it out.
    """
    paths: dict[str, list[str]] = {}
    for pattern in patterns:
        for path in sorted(glob(pattern)):  # noqa: PTH207  # an absolute pattern
            known = paths.setdefault(os.path.realpath(path), [])
            if path not in known:
                known.append(path)
    best = {
        device: next((path for path in known if path != device), device)
        for device, known in paths.items()
        if _is_port(device) and not _is_excluded([*known, device], exclude)
    }
    shared = Counter(PurePath(path).name for path in best.values())
    found = []
    for device, path in best.items():
        name = PurePath(path).name
        found.append(
            FoundPort(path, name if shared[name] == 1 else path, device, _description(path))
        )
    return found


class PortWatch:
    """Notices ports that appear and vanish."""

    def __init__(
        self, patterns: Sequence[str], exclude: Sequence[str] = (), rescan_s: float = 1.0
    ) -> None:
        self._patterns = patterns
        self._exclude = exclude
        self._rescan_s = rescan_s
        self._wake = asyncio.Event()

    def look_now(self) -> None:
        """Look at once instead of when the next look is due."""
        self._wake.set()

    async def changes(self) -> AsyncIterator[PortsChanged]:
        """Yield what changed, first of all everything that is there; for ever.

        A port is the same for as long as its path exists: one that is pulled out and put back
        between two looks is left to its link, which finds out by itself and opens the path again.
        """
        known: dict[str, FoundPort] = {}
        unnamed: set[str] = set()
        while True:
            self._wake.clear()
            found = await asyncio.to_thread(find_ports, self._patterns, self._exclude)
            fresh = [port for port in found if port.path not in known]
            early = {
                port.path for port in fresh if port.path == port.device and port.path not in unnamed
            }
            appeared = tuple(port for port in fresh if port.path not in early)
            paths = {port.path for port in found}
            vanished = tuple(port for path, port in known.items() if path not in paths)
            for port in vanished:
                del known[port.path]
            known |= {port.path: port for port in appeared}
            if appeared or vanished:
                yield PortsChanged(appeared, vanished)
            unnamed = early
            await self._pause(min(self._rescan_s, _UDEV_S) if early else self._rescan_s)

    async def _pause(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._wake.wait()


def _is_port(device: str) -> bool:
    try:
        return Path(device).is_char_device()
    except OSError:  # somebody else's folder
        return False


def _is_excluded(paths: Sequence[str], exclude: Sequence[str]) -> bool:
    return any(
        fnmatchcase(path, pattern) or fnmatchcase(PurePath(path).name, pattern)
        for path in paths
        for pattern in exclude
    )


def _description(path: str) -> str:
    """Return a by-id link in words: `usb-1a86_USB_Serial-if00-port0` is `1a86 USB Serial`."""
    folder, name = os.path.split(path)
    if not folder.endswith("/by-id"):
        return ""
    return _INTERFACE.sub("", name.removeprefix("usb-")).replace("_", " ")
