"""How often boards are to read their sensors: kept here, for they forget it when they restart."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, NoReturn, Protocol

from gateway.admin.device_requests import is_kept
from gateway.commands.letter import End
from gateway.devices.device import Device
from gateway.devices.registry import Devices
from gateway.drivers.board import DRIVER
from gateway.errors import RequestError
from gateway.log_fields import of_device
from gateway.pipeline import Addressees
from gateway.progress import Progress, Stage
from gateway.protocol.fields import Json
from gateway.protocol.session_events import Outcome
from gateway.requests.admin import MAX_STREAMS

_log = logging.getLogger(__name__)

PUSH_S: Final = 60.0
"""How long the gateway's own wish waits for a board that just came."""

LATE_S: Final = 120.0
"""What is not over so long after that stands still; a disk that is slow to note it does not."""

MAX_LIVES: Final = 20_000
"""Boards of which it is known what they were told."""

_OPTION: Final = "interval_ms"
_COMMAND: Final = "interval"
_WOKE_UP: Final = "sleep"
"""The reset cause of a board that sleeps between its readings."""


class Caller(Protocol):
    """Has boards do something."""

    async def call(
        self, device: str, name: str, arguments: Json = None, expires_s: float = ...
    ) -> End:
        """Have a board do something at most once; return its end."""


class Intervals:
    """Tells boards their intervals, once in each life of their memory; `run` it meanwhile.

    It stands between the pipeline and who else wants to know of boards that take commands.
    """

    def __init__(
        self,
        devices: Devices,
        caller: Caller,
        others: Addressees,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress or Progress()
        self._stage = self._progress.stage("intervals")
        self._devices = devices
        self._caller = caller
        self._others = others
        self._lives: dict[str, str] = {}
        """In which life of its memory each board is."""
        self._told: dict[str, str] = {}
        """In which life it was told its intervals."""
        self._being_told: set[str] = set()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> NoReturn:
        """Tell boards, as they come, for ever."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self._stage.rest_for_ever(asyncio.sleep)
            finally:
                self._tasks = None  # a group that is ending takes no tasks any more

    def ready(self, link: str, device: str, life: str) -> None:
        """Note that a board takes commands."""
        self._others.ready(link, device, life)
        while len(self._lives) >= MAX_LIVES and device not in self._lives:
            oldest = next(iter(self._lives))
            del self._lives[oldest]
            self._told.pop(oldest, None)
        self._lives[device] = life
        known = self._devices.get(device)
        is_told = bool(life) and self._told.get(device) == life
        if known is None or is_told or not kept(known) or sleeps(known):
            return
        if self._tasks is not None and device not in self._being_told:
            self._being_told.add(device)
            stage = self._progress.stage(f"intervals of {device}")
            stage.works_long("telling them", PUSH_S + LATE_S)
            self._tasks.create_task(self._tell_in(stage, known, life), name=stage.name)

    def left(self, link: str, device: str) -> None:
        """Note that a board left."""
        self._others.left(link, device)

    async def set(
        self, device: Device, wanted: Mapping[str, int | None], within_s: float
    ) -> tuple[End | None, bool]:
        """Set intervals for good; None is the board's own again.

        Return what the board said, and whether it is on the disk. What it refuses is not kept; what
        it does not answer is told it when it comes the next time. Without anything to tell it, or
        if it is away, it said None.

        Raises:
            RequestError: the board refuses them, or cannot have any.
        """
        if device.description.driver != DRIVER:
            raise RequestError(
                f"{device.key}: only boards with our firmware can be told how often they measure"
            )
        if sleeps(device):
            raise RequestError(
                f"{device.key} sleeps, and measures when it wakes: its own `sleep` says how often"
            )
        merged = {**kept(device), **wanted}
        merged = {stream: interval for stream, interval in merged.items() if interval is not None}
        if len(merged) > MAX_STREAMS:
            raise RequestError(f"{device.key}: no board has more than {MAX_STREAMS} streams")
        now = {stream: interval for stream, interval in wanted.items() if interval is not None}
        end = None
        if now and device.is_online:
            life = self._lives.get(device.key, "")
            end = await self._caller.call(device.key, _COMMAND, {**now}, within_s)
            if end.outcome is Outcome.FAILED:
                raise RequestError(f"{device.key}: {end.error}")
            if end.outcome is Outcome.DONE:
                self._told[device.key] = life
            else:
                self._told.pop(device.key, None)
        self._devices.set_options(device.key, {**device.options, _OPTION: merged})
        return end, await is_kept(self._devices)

    async def bring(self, device: Device, within_s: float) -> End | None:
        """Tell a board what is kept of another, in whose place it goes on; return what it said.

        None if there is nothing to tell it, or it is told when it comes. What it refuses is kept
        all the same: it may get the streams that are meant with its settings.
        """
        self._told.pop(device.key, None)
        is_reachable = device.is_online and device.key in self._lives
        if not kept(device) or sleeps(device) or not is_reachable:
            return None
        life = self._lives[device.key]
        end = await self._caller.call(device.key, _COMMAND, {**kept(device)}, within_s)
        if end.outcome in {Outcome.DONE, Outcome.FAILED}:
            self._told[device.key] = life
        return end

    async def _tell_in(self, stage: Stage, device: Device, life: str) -> None:
        with stage:
            await self._tell(device, life)

    async def _tell(self, device: Device, life: str) -> None:
        try:
            end = await self._caller.call(device.key, _COMMAND, {**kept(device)}, PUSH_S)
        finally:
            self._being_told.discard(device.key)
        if end.outcome is Outcome.FAILED:
            _log.warning("%s: does not take its intervals: %s", of_device(device.key), end.error)
        if end.outcome in {Outcome.DONE, Outcome.FAILED}:
            self._told[device.key] = life


def kept(device: Device) -> dict[str, int]:
    """Return the intervals that were set, by stream."""
    intervals = device.options.get(_OPTION)
    return dict(intervals) if isinstance(intervals, dict) else {}


def sleeps(device: Device) -> bool:
    """Tell whether a board sleeps between its readings: each time it wakes it starts anew."""
    return device.description.reset_cause == _WOKE_UP
