"""What is heard, to whom it belongs: boards get a link, sensors are read, strangers are counted."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from gateway.backoff import Backoff
from gateway.ble.acquaintances import Acquaintances
from gateway.ble.boards import BOARDS_LOOK_S, Boards
from gateway.ble.service import VIRTUAL, BleOptions
from gateway.ble.unread import Unread
from gateway.drivers.advert import Advert
from gateway.drivers.advert_families import Family
from gateway.drivers.adverts import AdvertDriver
from gateway.errors import LinkError
from gateway.house import House
from gateway.joining import JoinPolicy
from gateway.links.ble_backend import Connectable, RadioBackend
from gateway.links.ble_connection import BleLink
from gateway.links.ble_gatt import SERVICE
from gateway.links.ble_scanner import BleScanner, ScanOptions
from gateway.links.threads import Call
from gateway.log_fields import BLUETOOTH
from gateway.progress import Stage
from gateway.store.joined import Joined, JoinedFile

_log = logging.getLogger(__name__)

LINK: Final = "ble"
"""Name of the link on which all sensors are that only advertise."""

BOARDS_SAVE_S: Final = 10.0
"""Which boards joined is written so much later: one may say that it is another each time."""
SAVE_CAP_S: Final = 300.0
"""Longest pause between two tries to write who joined."""


class Radio:
    """One adapter, and all that is heard on it."""

    def __init__(
        self,
        options: BleOptions,
        house: House,
        backend: RadioBackend | None = None,
        stage: Stage | None = None,
    ) -> None:
        """`backend` is used instead of the one that the adapter's name asks for.

        `stage` is told of each step of the scan.
        """
        self._stage = stage or house.progress.stage("radio")
        self._options = options
        self._house = house
        self._status = house.status.radio
        self._backend = backend or _backend(options.adapter)
        self._sensors = AdvertDriver(
            options.keys, house.clock, house.run, names=options.names, book=house.book
        )
        self._loading: set[str] = set()
        """Families of sensors whose library is being imported."""
        self._unread = Unread()
        """What is heard meanwhile."""
        self._known = Acquaintances(self._save_soon)
        self._boards = Boards(options, house, self._backend, self._known, self._hear_anew)
        self._has_to_save = asyncio.Event()
        self._saving: asyncio.TimerHandle | None = None
        self._policy = JoinPolicy(
            options.join, {*options.names, *options.keys}, on_joined=self._has_to_save.set
        )
        self._file = JoinedFile(options.joined_path)
        self._is_recalled = False
        """Whether it is known who joined in earlier runs."""
        self._strangers = 0
        self._has_company = False
        """Whether anybody who is no stranger was heard in this run."""
        self._scanner: BleScanner | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> NoReturn:
        """Scan, read and serve for ever."""
        self._stage.works("reading who joined")
        try:
            await self._recall()
        except (OSError, LinkError) as exc:
            _log.error("%s: who joined is not known: %s; trying again", BLUETOOTH, exc)
            self._has_to_save.set()
        scanner = self._scanner = BleScanner(
            ScanOptions(
                "" if self._backend else self._options.adapter,
                "passive" if self._options.is_passive else "active",
                self._options.deaf_s,
                service=SERVICE,
            ),
            self._hear,
            self._status,
            self._house.clock,
            backend=self._backend,
            is_in_use=lambda: self._status.connected > 0,
            on_change=self._on_change,
            stage=self._stage,
            is_missed=lambda: self._has_company,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(scanner.run(), name="scan")
                tasks.create_task(self._boards.run(), name="boards")
                tasks.create_task(self._look_around(), name="sensors")
                tasks.create_task(self._save(), name="joined")
        finally:
            self._tasks = None
            if self._saving is not None:
                self._saving.cancel()
            if gone := self._sensors.close(self._house.clock.monotonic_s()):
                self._house.accept(LINK, gone)
            self._status.state = "off"
        raise AssertionError  # never reached

    def hold(self, *, paused: bool) -> None:
        """Ask boards to keep their samples for now, or to go on; sensors cannot be asked."""
        self._boards.hold(paused=paused)

    def link(self, name: str) -> BleLink | None:
        """Return the link to a board, by its address, if there is one."""
        return self._boards.link(name)

    def forget(self, address: str) -> bool:
        """Let a device be a stranger again; say whether it was none."""
        is_board = self._boards.forget(address)
        return self._policy.remove(address) or is_board

    def open_window(self, for_s: float) -> None:
        """Let others join for so long; 0 closes the window."""
        self._policy.open_window(self._house.clock.monotonic_s(), for_s)

    def _hear(self, advert: Advert, device: Connectable) -> None:
        """Take one advert.

        A board of ours may advertise its readings, too: for others, who cannot connect to it. Here
        they come over GATT, each once and under the board's own name.
        """
        is_board = self._boards.is_board(advert)
        if not (is_board or self._sensors.knows(advert)) or not self._may_join(advert):
            self._strangers += 1
            self._status.adverts_unknown = self._strangers
            return
        self._has_company = True
        if is_board:
            self._boards.hear(advert, device)
        else:
            self._read(advert)

    def _may_join(self, advert: Advert) -> bool:
        return self._policy.is_member(advert.address) or self._policy.join(
            advert.address, advert.heard_s
        )

    def _read(self, advert: Advert) -> None:
        family = self._sensors.needs(advert)
        if family is not None:
            self._unread.add(advert)
            if family.name not in self._loading and self._tasks is not None:
                self._loading.add(family.name)
                self._tasks.create_task(self._load(family), name=f"import {family.name}")
            return
        for earlier in self._unread.pop(advert.address):
            self._read(earlier)
        events = self._sensors.feed(advert, self._house.clock.monotonic_s())
        if events:
            self._house.accept(LINK, events)
        if self._scanner is not None and self._sensors.is_muddled(advert):
            self._scanner.forget(advert.address)

    def _hear_anew(self, address: str, unless: Callable[[], bool]) -> None:
        if self._scanner is not None:
            self._scanner.forget(address, unless)

    async def _load(self, family: Family) -> None:
        """Import a family's library, which takes up to a second; then read what came meanwhile."""
        await _in_thread(partial(self._sensors.load, family))
        for address in self._unread.addresses:
            for advert in self._unread.pop(address):  # none, if they were read with a later one
                self._read(advert)
            await asyncio.sleep(0)  # sensors that are new cost much: others have their turn

    async def _look_around(self) -> NoReturn:
        """Notice which sensors fell silent."""
        while True:
            await asyncio.sleep(BOARDS_LOOK_S)
            now_s = self._house.clock.monotonic_s()
            due_s = self._sensors.deadline_s
            if due_s is not None and due_s <= now_s and (events := self._sensors.tick(now_s)):
                self._house.accept(LINK, events)

    def _on_change(self) -> None:
        now_s = self._house.clock.monotonic_s()
        is_scanning = self._status.state == "scanning"
        self._house.status.link(LINK).state = "open" if is_scanning else "lost"
        if is_scanning:
            self._sensors.resumed(now_s)
        else:
            self._sensors.paused(now_s)
        self._house.on_change()

    async def _recall(self) -> None:
        """Take up who joined in earlier runs."""
        joined = await Call(self._file.load).result()
        self._policy.recall(joined.members)
        self._known.recall(joined.boards)
        self._is_recalled = True

    def _save_soon(self) -> None:
        if self._saving is None:
            loop = asyncio.get_running_loop()
            self._saving = loop.call_later(BOARDS_SAVE_S, self._save_now)

    def _save_now(self) -> None:
        self._saving = None
        self._has_to_save.set()

    async def _save(self) -> NoReturn:
        pause = Backoff(base_s=5.0, cap_s=SAVE_CAP_S)
        while True:
            await self._has_to_save.wait()
            self._has_to_save.clear()
            try:
                if not self._is_recalled:  # else the file would be overwritten with what is new
                    await self._recall()
                joined = Joined(self._policy.joined, self._known.devices)
                await Call(partial(self._file.save, joined)).result()
            except (OSError, LinkError) as exc:
                level = logging.DEBUG if pause.attempt else logging.ERROR
                _log.log(level, "%s: who joined is not on disk: %s; trying again", BLUETOOTH, exc)
                self._has_to_save.set()
                await asyncio.sleep(pause.next_delay_s())
            else:
                pause.reset()


async def _in_thread(work: Callable[[], None]) -> None:
    try:
        await Call(work).result()
    except LinkError as exc:  # no thread to be had
        _log.debug("%s: %s", BLUETOOTH, exc)
        work()


def _backend(adapter: str) -> RadioBackend | None:
    if not adapter.startswith(VIRTUAL):
        return None
    from gateway.simulate.radio.bleak_backend import virtual_backend  # noqa: PLC0415  # an extra

    return virtual_backend(adapter.removeprefix(VIRTUAL))
