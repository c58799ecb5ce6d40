"""Which serial ports there are, and which come and go.

Looking once a second costs 0.3 ms in a thread (13 ms for 500 ports) and is the same everywhere:
udev's events need a library and are not seen in a container; inotify on /dev misses folders that
are yet to be made, and there are file systems without it.
"""

import asyncio
import contextlib
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from glob import glob

from gateway.errors import LinkError
from gateway.links.threads import Call
from gateway.progress import Progress, Stage

_log = logging.getLogger(__name__)

_MAX_LINKS = 8
"""Links that lead to links are followed so far; udev makes one."""

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
    others: tuple[str, ...] = ()
    """Its other stable links: who means it may call it by any of them."""

    @property
    def names(self) -> tuple[str, ...]:
        """All it may be called by in a configuration."""
        paths = (self.path, *self.others, self.device)
        return tuple(dict.fromkeys((*paths, self.name, *map(_name, paths))))


@dataclass(frozen=True, slots=True)
class PortsChanged:
    """What came and what went since the last time."""

    appeared: tuple[FoundPort, ...]
    vanished: tuple[FoundPort, ...]


def find_ports(patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[FoundPort]:
    """Return each port that matches once, by its most stable path, in the order of the patterns.

    A glob of `exclude` that matches any path, name or device of a port leaves it out.
    """
    paths: dict[int, list[str]] = {}
    for pattern in patterns:
        for path in sorted(glob(pattern)):  # noqa: PTH207  # an absolute pattern
            number = _device_number(path)
            if number is not None:
                known = paths.setdefault(number, [])
                known += [path] if path not in known else []
    best = []
    for known in paths.values():
        device = _device(known[0])
        if not _is_excluded([*known, device], exclude):
            best.append(([path for path in known if path != device] or [device], device))
    shared = Counter(_name(links[0]) for links, _ in best)
    return [
        FoundPort(
            path,
            _name(path) if shared[_name(path)] == 1 else path,
            device,
            next(filter(None, map(_words, (path, *others))), ""),
            tuple(others),
        )
        for (path, *others), device in best
    ]


class PortWatch:
    """Notices ports that appear and vanish."""

    def __init__(
        self,
        patterns: Sequence[str],
        exclude: Sequence[str] = (),
        rescan_s: float = 1.0,
        stage: Stage | None = None,
    ) -> None:
        """`stage` is told of each look."""
        self._stage = stage or Progress().stage("ports")
        self._patterns = patterns
        self._exclude = exclude
        self._rescan_s = rescan_s
        self._wake = asyncio.Event()

    def look_for(self, patterns: Sequence[str], exclude: Sequence[str], rescan_s: float) -> None:
        """Look for other ports from now on, at once; those that match no longer vanish."""
        self._patterns, self._exclude, self._rescan_s = patterns, exclude, rescan_s
        self._wake.set()

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
        is_blind = False
        while True:
            self._wake.clear()
            self._stage.works("looking for ports")
            try:
                found = await Call(partial(find_ports, self._patterns, self._exclude)).result()
            except LinkError as exc:  # for now nothing comes and nothing goes
                _log.log(
                    logging.DEBUG if is_blind else logging.WARNING, "no look for ports: %s", exc
                )
                is_blind = True
                await self._pause(self._rescan_s)
                continue
            is_blind = False
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
                self._stage.works("opening and closing")
                yield PortsChanged(appeared, vanished)
            unnamed = early
            await self._pause(min(self._rescan_s, _UDEV_S) if early else self._rescan_s)

    async def _pause(self, delay_s: float) -> None:
        async def wait(within_s: float) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._wake.wait()

        while delay_s > 0 and not self._wake.is_set():
            step_s = self._stage.beat_s(delay_s)
            await wait(step_s)
            delay_s -= step_s


def _device_number(path: str) -> int | None:
    """Return what the kernel knows a port by; None if `path` leads to no port."""
    try:
        status = os.stat(path)  # noqa: PTH116  # 500 ports a second: a Path costs more than the call
    except OSError:  # a link to a port that is gone
        return None
    return status.st_rdev if stat.S_ISCHR(status.st_mode) else None


def _device(path: str) -> str:
    """Follow links; at a fifth of the time of os.path.realpath, which looks at each folder too."""
    for _ in range(_MAX_LINKS):
        try:
            target = os.readlink(path)  # noqa: PTH115  # as above
        except OSError:
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120  # as above
    return path


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_excluded(paths: Sequence[str], exclude: Sequence[str]) -> bool:
    return any(
        fnmatchcase(path, pattern) or fnmatchcase(_name(path), pattern)
        for path in paths
        for pattern in exclude
    )


def _words(path: str) -> str:
    """Return a by-id link in words: `usb-1a86_USB_Serial-if00-port0` is `1a86 USB Serial`."""
    folder, name = os.path.split(path)
    if not folder.endswith("/by-id"):
        return ""
    return _INTERFACE.sub("", name.removeprefix("usb-")).replace("_", " ")
