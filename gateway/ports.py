"""The serial ports: each that is found gets a link of its own."""

import asyncio
import logging
import os
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Final, NamedTuple, NoReturn

from gateway.backoff import Backoff
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.house import House
from gateway.links.serial_port import SerialLink, SerialOptions
from gateway.links.serial_ports import FoundPort, PortsChanged, PortWatch
from gateway.log_fields import on_link
from gateway.supervise import keep_running

_log = logging.getLogger(__name__)

AT_ONCE: Final = 4
PAUSE_S: Final = 0.02
"""When hundreds of ports appear at once, as many are opened between two such pauses: each starts a
thread, and boards that all introduce themselves in one turn of the loop would hold it up."""

BACKOFF_CAP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class PortUse:
    """How to use a port, and what is on it."""

    options: SerialOptions
    line_format: LineFormat
    device_name: str = ""
    """For a source that does not name itself; empty for the port's name."""


@dataclass(frozen=True, slots=True)
class PortRule:
    """What is different for some ports."""

    match: str
    """Glob over paths, stable names or the kernel's name."""
    use: PortUse


@dataclass(frozen=True, slots=True)
class PortsOptions:
    """Which ports to use, and how."""

    patterns: tuple[str, ...]
    exclude: tuple[str, ...]
    rescan_s: float
    use: PortUse
    """Where no rule matches."""
    rules: tuple[PortRule, ...] = ()
    """The first that matches counts."""

    def use_of(self, port: FoundPort) -> PortUse:
        """Return how to use `port`."""
        for rule in self.rules:
            if any(fnmatchcase(name, rule.match) for name in port.names):
                return rule.use
        return self.use


class _Running(NamedTuple):
    port: FoundPort
    link: SerialLink
    task: asyncio.Task[None]


@dataclass(slots=True)
class _Lent:
    """A port that another program of this machine has for a while, such as `edge-gateway flash`."""

    port: FoundPort
    is_there: bool
    """A board that is reset may take its port with it, and bring it back."""
    until: asyncio.TimerHandle | None = None


class Ports:
    """The links of all serial ports, opened as boards appear and dropped as they go."""

    def __init__(self, options: PortsOptions, house: House) -> None:
        self._options = options
        self._house = house
        stage = house.progress.stage("ports")
        if not options.patterns:
            stage.idles()  # `run` comes when there are some
        self._watch = PortWatch(options.patterns, options.exclude, options.rescan_s, stage)
        self._running: dict[str, _Running] = {}
        self._lent: dict[str, _Lent] = {}
        self._is_paused = False
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> NoReturn:
        """Serve the ports that are there, for ever."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            async for change in self._watch.changes():
                await self._follow(change, tasks)
        raise AssertionError  # changes() never ends

    def hold(self, *, paused: bool) -> None:
        """Ask all boards to keep their samples for now, or to go on."""
        self._is_paused = paused
        for running in self._running.values():
            running.link.hold(paused=paused)

    def link(self, name: str) -> SerialLink | None:
        """Return the link of that name, if there is one."""
        running = self._running.get(name)
        return None if running is None else running.link

    async def lend(self, path: str, seconds: float) -> str | None:
        """Leave a port alone until it is given back, or so long; return its name.

        It may be called by any of its paths; None if this gateway uses no such port. Asked again,
        the time begins anew.
        """
        port = self._port_called(path)
        if port is None:
            return None
        lent = self._lent.setdefault(port.name, _Lent(port, is_there=True))
        if lent.until is not None:
            lent.until.cancel()
        lent.until = asyncio.get_running_loop().call_later(seconds, self._time_is_over, port.name)
        _log.info("%s: lent for %g s", on_link(port.name), seconds)
        await self._close(port)
        return port.name

    def _port_called(self, path: str) -> FoundPort | None:
        device = os.path.realpath(path)
        known = [running.port for running in self._running.values()]
        known += [lent.port for lent in self._lent.values()]
        for port in known:
            if path in port.names or device == os.path.realpath(port.path):
                return port
        return None

    def give_back(self, name: str) -> bool:
        """Use a port again that was lent; say whether it was."""
        lent = self._lent.pop(name, None)
        if lent is None:
            return False
        if lent.until is not None:
            lent.until.cancel()
        _log.info("%s: given back", on_link(name))
        if lent.is_there and self._tasks is not None and name not in self._running:
            self._open(lent.port, self._tasks)
        return True

    def _time_is_over(self, name: str) -> None:
        _log.warning("%s: lent, and not given back in time", on_link(name))
        self.give_back(name)

    async def reconfigure(self, options: PortsOptions) -> list[str]:
        """Do as `options` say from now on; return the links that were closed and begun anew.

        Ports that are not looked for any more, and those that now are, follow with the next look.
        """
        before, self._options = self._options, options
        self._watch.look_for(options.patterns, options.exclude, options.rescan_s)
        changed = [
            running.port
            for running in self._running.values()
            if before.use_of(running.port) != options.use_of(running.port)
        ]
        for port in changed:
            await self._close(port)
            if self._tasks is not None and port.name not in self._running:
                self._open(port, self._tasks)
        return [port.name for port in changed]

    async def _follow(self, change: PortsChanged, tasks: asyncio.TaskGroup) -> None:
        for port in change.vanished:
            if port.name in self._lent:
                self._lent[port.name].is_there = False
            await self._close(port)
        for number, port in enumerate(change.appeared, 1):
            if port.name in self._lent:
                self._lent[port.name] = replace(self._lent[port.name], port=port, is_there=True)
                continue
            self._open(port, tasks)
            if number % AT_ONCE == 0:
                await asyncio.sleep(PAUSE_S)

    def _open(self, port: FoundPort, tasks: asyncio.TaskGroup) -> None:
        _log.info("%s: found %s", on_link(port.name), port.description or port.device)
        use = self._options.use_of(port)
        stage = self._house.progress.stage(port.name)
        link = SerialLink(
            port.path,
            use.options,
            partial(self._make_driver, port, use),
            self._house.accept,
            self._house.status.link(port.name),
            self._house.clock,
            stage,
        )
        link.hold(paused=self._is_paused)
        serving = keep_running(
            on_link(port.name), link.run, Backoff(cap_s=BACKOFF_CAP_S), stage=stage
        )
        task: asyncio.Task[None] = tasks.create_task(serving, name=port.name)
        task.add_done_callback(lambda _task: stage.leave())
        self._running[port.name] = _Running(port, link, task)

    async def _close(self, port: FoundPort) -> None:
        running = self._running.pop(port.name, None)
        if running is None:  # reconfigured and unplugged at the same time
            return
        running.task.cancel()
        await asyncio.wait([running.task])
        self._house.forget_link(port.name)

    def _make_driver(self, port: FoundPort, use: PortUse) -> SerialLineDriver:
        return SerialLineDriver(
            port_name=port.name,
            device_name=use.device_name,
            line_format=use.line_format,
            book=self._house.book,
            clock=self._house.clock,
            run=self._house.run,
            session_id=self._house.session,
            keys=self._house.keys,
        )
