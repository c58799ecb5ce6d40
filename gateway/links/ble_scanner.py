"""The scan: one, for as long as the gateway runs.

What the radio hears waits in a queue of bounded length, so that a flood of adverts costs adverts
and neither memory nor the event loop's time for serial ports.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn, Protocol, TypeAlias

from bleak import BleakAdapter, BleakScanner
from bleak.args.bluez import BlueZAdapterArgs, BlueZDiscoveryFilters, BlueZScannerArgs
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, get_platform_scanner_backend_type

from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.links.ble_adapter import BluezAdapter
from gateway.links.ble_backend import (
    NO_RSSI,
    PASSIVE_PATTERNS,
    Connectable,
    RadioBackend,
    advert_of,
    bounded,
)
from gateway.links.ble_failures import FAILURES, classed, finish, words_of
from gateway.links.ble_recovery import FIRST_WAIT_S, LOOK_S, Failure, Ladder, Remedy, ScanMode
from gateway.log_fields import BLUETOOTH
from gateway.progress import Progress, Stage
from gateway.status import RadioStatus

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 1000
"""Adverts that wait to be read; when more come the oldest are dropped and counted."""

A_TURN: Final = 50
"""Adverts read in one turn of the event loop."""
TURN_S: Final = 0.005
"""Nor does a turn go on for longer: a sensor that is new costs as much as fifty that are known."""

FORGET_S: Final = 1.0
"""Least pause between two devices that BlueZ is to forget."""
MAX_TO_FORGET: Final = 16
"""So many wait for it; who finds no room is named again later."""

READ_LOOK_S: Final = 0.5
"""How often it is looked whether adverts that waited for long are read at last."""

MEND_S: Final = 150.0
"""A reset, which takes a minute, and then a power cycle, each call of which may stall."""

START_S: Final = 15.0
STOP_S: Final = 10.0
LAST_STOP_S: Final = 4.0
"""D-Bus may stall; and a scan that does not end is left behind, sooner when all is to end."""

Sink: TypeAlias = Callable[[Advert, Connectable], None]
"""Takes what was heard, and from where; must not block."""


class Adapter(Protocol):
    """What is behind the scan."""

    async def lost(self) -> str:
        """Return why it is lost, once it is."""

    async def mend(self, remedy: Remedy) -> None:
        """Try to bring it back."""

    async def forget(self, address: str) -> None:
        """Forget what was heard of a device."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """How to scan."""

    adapter: str = ""
    """Such as `hci0`; empty for the first that is switched on."""
    mode: ScanMode = "passive"
    deaf_s: float = 90.0
    """A scan that hears nothing for so long is started anew."""
    look_s: float = LOOK_S
    """How often an adapter is looked for while there is none."""
    service: str = ""
    """Devices with it that BlueZ has connected already count as heard when the scan begins: an
    earlier run that was killed left them so, and who is connected does not advertise."""
    first_wait_s: float = FIRST_WAIT_S
    """Pause before the first new start; it doubles with each."""


class _Ended(NamedTuple):
    """A scan did not start, or ended."""

    failure: Failure
    reason: str


class BleScanner:
    """Hears adverts, and brings the radio back when it fails."""

    def __init__(  # noqa: PLR0913  # the composition root has them all
        self,
        options: ScanOptions,
        sink: Sink,
        status: RadioStatus,
        clock: Clock,
        *,
        backend: RadioBackend | None = None,
        adapter: Adapter | None = None,
        is_in_use: Callable[[], bool] = lambda: False,
        on_change: Callable[[], None] = lambda: None,
        stage: Stage | None = None,
        is_missed: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_in_use` tells whether boards are connected, `on_change` is told of each state.

        `stage` is told of each step, and that only a new process is left to try: when all was tried
        since something was heard, and `is_missed` says that something ought to be.

        Without a `backend` it is BlueZ, watched and mended through `adapter`.
        """
        self._options = options
        self._sink = sink
        self._status = status
        self._clock = clock
        scanner_type = None if backend is None else backend.scanner
        self._scanner_type = bounded(scanner_type or get_platform_scanner_backend_type()[0])
        self._is_bluez = backend is None
        if adapter is None and self._is_bluez:
            adapter = BluezAdapter(options.adapter)
        self._adapter = adapter
        self._is_in_use = is_in_use
        self._stage = stage or Progress().stage("radio")
        self._is_missed = is_missed
        self._turns_read = 0
        """Turns of the loop in which adverts were read."""
        self._on_change = on_change
        self._ladder = Ladder(options.mode, options.look_s, options.first_wait_s)
        self._waiting: deque[tuple[BLEDevice, AdvertisementData, float]] = deque(maxlen=MAX_WAITING)
        self._has_waiting = asyncio.Event()
        self._to_forget: dict[str, Callable[[], bool]] = {}
        self._has_to_forget = asyncio.Event()
        self._heard_s = 0.0
        self._no_passive = ""
        """Why it cannot be passive."""
        self._told_passive = False
        self._is_started = False
        """Whether bleak says that the present scan has begun."""
        self._is_doubted = False
        """Whether it was deaf, and has heard nothing since."""

    async def run(self) -> NoReturn:
        """Scan for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(), name="adverts")
            tasks.create_task(self._forget(), name="forget")
            await self._keep_scanning()
        raise AssertionError  # never reached

    def forget(self, address: str, unless: Callable[[], bool] = lambda: False) -> None:
        """Have BlueZ forget what was heard of a device, so that it tells of it anew.

        In a passive scan it keeps all it heard, and tells what changes; in an active one it is
        asked to tell everything. `unless` is asked when it comes to it, up to 16 s later.
        """
        if self._adapter is None or self._status.mode != "passive":
            return
        if address in self._to_forget or len(self._to_forget) < MAX_TO_FORGET:
            self._to_forget[address] = unless
            self._has_to_forget.set()

    async def _forget(self) -> NoReturn:
        """Forget one at a time, and not too fast: anybody may send adverts that lead here."""
        while True:
            await self._has_to_forget.wait()
            address = next(iter(self._to_forget))
            unless = self._to_forget.pop(address)
            if not self._to_forget:
                self._has_to_forget.clear()
            if self._adapter is not None and not unless():
                await self._adapter.forget(address)
                await asyncio.sleep(FORGET_S)

    async def _keep_scanning(self) -> NoReturn:
        while True:
            ended = await self._scan(self._ladder.mode)
            is_in_use = self._is_in_use()
            step = self._ladder.failed(ended.failure, is_in_use=is_in_use)
            if ended.failure is Failure.NO_PASSIVE:
                self._no_passive = ended.reason
            elif ended.failure is not Failure.DEAF or not is_in_use:
                self._tell(ended)
            await self._rest(step.wait_s)
            if self._adapter is not None and step.remedy is not Remedy.NONE:
                self._works(f"{step.remedy.value} of the adapter", MEND_S)
                _log.info("%s: trying to bring the adapter back (%s)", BLUETOOTH, step.remedy.value)
                await self._adapter.mend(step.remedy)

    async def _scan(self, mode: ScanMode) -> _Ended:
        bluez = BlueZScannerArgs()
        if self._options.adapter:
            bluez["adapter"] = self._options.adapter
        if mode == "passive":
            bluez["or_patterns"] = list(PASSIVE_PATTERNS)
        else:
            # Else BlueZ keeps what was advertised before beside what is, and nobody can tell which
            # is new: some sensors have their values where others have their company.
            bluez["filters"] = BlueZDiscoveryFilters(DuplicateData=True)
        self._is_started = False
        self._works("starting a scan", 3 * START_S)
        scanner = BleakScanner(
            self._note, scanning_mode=mode, bluez=bluez, backend=self._scanner_type
        )
        try:
            async with asyncio.timeout(START_S):
                await scanner.start()
            self._is_started = True
            self._heard_s = self._clock.monotonic_s()
            self._tell_scanning(mode)
            if self._options.service and self._is_bluez:
                await self._tell_connected(self._options.service)
            return await self._watch()
        except FAILURES as exc:
            return _Ended(*classed(exc, mode))
        finally:
            self._works("ending a scan", 2 * STOP_S)
            await _stop(scanner)

    async def _tell_connected(self, service: str) -> None:
        bluez = BlueZAdapterArgs(adapter=self._options.adapter) if self._options.adapter else {}
        async with asyncio.timeout(START_S):
            adapter = await BleakAdapter.get(bluez=bluez)
            devices = await adapter.get_connected_devices([service])
        now_s = self._clock.monotonic_s()
        for device in devices:
            address, name = device.address.upper(), device.name or ""
            self._sink(Advert(address, name, NO_RSSI, {}, {}, (service,), now_s), device)

    async def _watch(self) -> _Ended:
        """Return why the scan that runs is of no use any more, once it is not."""
        if self._adapter is None:
            return await self._until_deaf(None)
        async with asyncio.TaskGroup() as tasks:
            losing = tasks.create_task(_watch_adapter(self._adapter), name="adapter")
            ended = await self._until_deaf(losing)
            losing.cancel()
        return ended

    async def _until_deaf(self, losing: asyncio.Task[_Ended] | None) -> _Ended:
        """Wait until nothing is heard for too long, or the adapter is lost."""
        while losing is None or not losing.done():
            patience_s = self._ladder.patience_s(self._options.deaf_s)
            left_s = self._heard_s + patience_s - self._clock.monotonic_s()
            if left_s <= 0:
                return _Ended(Failure.DEAF, f"no advert for {patience_s:g} s")
            await self._rest(left_s, losing)
        return losing.result()

    def _works(self, doing: str, limit_s: float) -> None:
        if not self._is_hopeless():
            self._stage.works_long(doing, limit_s)

    def _is_hopeless(self) -> bool:
        """Whether all was tried; the watchdog is told, and with it who can do more."""
        if not self._ladder.is_exhausted or self._is_in_use() or not self._is_missed():
            return False
        self._stage.gives_up("it heard devices, and hears none any more, whatever is tried")
        return True

    async def _rest(self, delay_s: float, until: asyncio.Future[_Ended] | None = None) -> None:
        """Wait in beats; adverts that nobody reads meanwhile are a stage that stands still."""
        is_unread = False
        while delay_s > 0 and not (until is not None and until.done()):
            turns = self._turns_read
            step_s = min(READ_LOOK_S, delay_s) if is_unread else self._stage.beat_s(delay_s)
            self._is_hopeless()
            if until is None:
                await asyncio.sleep(step_s)
            else:
                await asyncio.wait([until], timeout=step_s)
            delay_s -= step_s
            is_unread = bool(self._waiting) and self._is_started and self._turns_read == turns

    def _note(self, device: BLEDevice, data: AdvertisementData) -> None:
        """Take what bleak heard; in its callback, so cheaply."""
        if data.rssi == NO_RSSI:
            return
        now_s = self._heard_s = self._clock.monotonic_s()
        if len(self._waiting) == MAX_WAITING:
            self._status.adverts_dropped += 1
        self._waiting.append((device, data, now_s))
        self._has_waiting.set()

    async def _read(self) -> NoReturn:
        while True:
            await self._has_waiting.wait()
            if self._is_started:  # else BlueZ scans and has not said so, and may be stuck
                self._has_heard_again()
            until_s = self._clock.monotonic_s() + TURN_S
            for _ in range(min(A_TURN, len(self._waiting))):
                device, data, heard_s = self._waiting.popleft()
                self._status.adverts += 1
                self._sink(advert_of(device, data, heard_s), device)
                if self._clock.monotonic_s() >= until_s:
                    break
            self._turns_read += 1
            if not self._waiting:
                self._has_waiting.clear()
            await asyncio.sleep(0)

    def _has_heard_again(self) -> None:
        self._ladder.heard()
        self._is_doubted = False
        if self._status.state != "scanning":
            self._set_state("scanning", "", self._ladder.mode)

    def _tell_scanning(self, mode: ScanMode) -> None:
        """Say that it scans; a scan that was deaf has to hear something before it is believed."""
        if self._no_passive and mode == "active":
            level = logging.DEBUG if self._told_passive else logging.INFO
            self._told_passive = True
            _log.log(
                level, "%s: no passive scan, so an active one (%s)", BLUETOOTH, self._no_passive
            )
        if not self._is_doubted:
            self._set_state("scanning", "", mode)

    def _tell(self, ended: _Ended) -> None:
        self._is_doubted = ended.failure is Failure.DEAF
        if ended.failure is Failure.NO_ADAPTER:
            self._set_state("no_adapter", ended.reason)
        else:
            self._set_state("recovering", ended.reason)

    def _set_state(self, state: str, reason: str, mode: str = "") -> None:
        before = self._status.state
        self._status.state, self._status.reason, self._status.mode = state, reason, mode
        if state == before:
            if reason:
                _log.debug("%s: %s", BLUETOOTH, reason)
            return
        if state == "scanning":
            self._status.recoveries += before == "recovering"
            _log.info("%s: scanning (%s)", BLUETOOTH, mode)
        elif state == "no_adapter":
            _log.warning("%s: no adapter (%s); looking for one now and then", BLUETOOTH, reason)
        else:
            _log.warning("%s: %s; starting the scan anew", BLUETOOTH, reason)
        self._on_change()


async def _watch_adapter(adapter: Adapter) -> _Ended:
    return _Ended(Failure.NOT_STARTED, await adapter.lost())


async def _stop(scanner: BleakScanner) -> None:
    async def stop() -> None:
        try:
            await scanner.stop()
        except FAILURES as exc:  # the adapter is gone, and the scan with it
            _log.debug("%s: the scan did not end: %s", BLUETOOTH, words_of(exc))

    task = asyncio.current_task()
    is_last = task is not None and task.cancelling() > 0
    await finish(stop(), "stop scan", LAST_STOP_S if is_last else STOP_S)
