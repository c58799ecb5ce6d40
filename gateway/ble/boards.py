"""Boards with our firmware: each that is heard gets a link of its own, within bounds."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, NoReturn

from gateway.backoff import Backoff
from gateway.ble.acquaintances import Acquaintances
from gateway.ble.service import BleOptions
from gateway.drivers.advert import Advert
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.house import House
from gateway.links.ble_backend import NO_RSSI, Connectable, RadioBackend
from gateway.links.ble_connection import BleLink
from gateway.links.ble_gatt import SERVICE
from gateway.links.ble_turns import Turns
from gateway.log_fields import on_link
from gateway.protocol.fragments import MAX_FRAGMENTED
from gateway.protocol.waiting import COMPANY, Waiting, decode_waiting
from gateway.supervise import keep_running

MAX_BOARDS: Final = 256
"""Boards that have a link; the one that was not heard for longest makes room, strangers first."""
MAX_STRANGERS: Final = 64
"""So many of them at most never said who they are."""

STALE_S: Final = 60.0
"""Nobody who was heard within this time is displaced."""

FORGET_S: Final = 86_400.0
"""A board that was not heard for so long is forgotten."""
FORGET_STRANGER_S: Final = 600.0
"""The same for one that never said who it is."""

BACKOFF_S: Final = 0.5
BACKOFF_CAP_S: Final = 30.0
STRANGER_BACKOFF_S: Final = 2.0
STRANGER_BACKOFF_CAP_S: Final = 300.0
"""First and longest pause after a failure."""

MAX_TOLD: Final = 20
"""So many strangers that fail are told of, once each; the others are only counted."""

BOARDS_LOOK_S: Final = 5.0
"""How often it is looked whom to forget."""

_BTHOME: Final = "0000fcd2-0000-1000-8000-00805f9b34fb"


class _Board(NamedTuple):
    link: BleLink
    task: asyncio.Task[None]
    backoff: Backoff


class Boards:
    """The links of all boards on the radio.

    Anybody may advertise our service: who never joined is a stranger, and stands behind the others.
    """

    def __init__(
        self,
        options: BleOptions,
        house: House,
        backend: RadioBackend | None,
        known: Acquaintances,
        hear_anew: Callable[[str, Callable[[], bool]], None] = lambda _address, _unless: None,
    ) -> None:
        """`hear_anew` has the radio tell of a board also if it says the same; unless that holds."""
        self._house = house
        self._backend = backend
        self._known = known
        self._tell_anew = hear_anew
        self._told: set[str] = set()
        """Strangers whose failure was told of."""
        self._turns = Turns(options.max_connections, options.turn_s, house.clock.monotonic_s)
        self._boards: dict[str, _Board] = {}
        self._is_paused = False
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> NoReturn:
        """Serve the boards that are heard, for ever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                while True:
                    await asyncio.sleep(BOARDS_LOOK_S)
                    self._forget_old_ones()
        finally:
            self._tasks = None
            for board in self._boards.values():
                board.link.forget()

    @staticmethod
    def is_board(advert: Advert) -> bool:
        """Whether it is a board that may be connected to now, or later."""
        return SERVICE in advert.service_uuids or waiting_there(advert) is not None

    def hear(self, advert: Advert, device: Connectable) -> None:
        """Take an advert of a board.

        One that tells what waits there is connected to when something does, there or here, or when
        nobody knows who it is. Later there may be something for it.
        """
        waiting = waiting_there(advert)
        if waiting is not None and not self._is_wanted(advert.address, waiting):
            if waiting.is_connectable:
                self._hear_anew(advert.address)
            return
        board = self._boards.get(advert.address) or self._meet(advert.address)
        if board is not None:
            if advert.rssi != NO_RSSI:
                self._house.status.link(advert.address).rssi = advert.rssi
            is_brief = None if waiting is None else waiting.is_brief
            board.link.heard(device, advert.heard_s, is_brief=is_brief)

    def link(self, name: str) -> BleLink | None:
        """Return the link of that name, its address, if there is one."""
        board = self._boards.get(name)
        return None if board is None else board.link

    def forget(self, address: str) -> bool:
        """Let a board be a stranger again, and go; say whether it was known."""
        if address in self._boards:
            self._drop(address)
        return self._known.forget(address)

    def hold(self, *, paused: bool) -> None:
        """Ask all boards to keep their samples for now, or to go on."""
        self._is_paused = paused
        for board in self._boards.values():
            board.link.hold(paused=paused)

    def _is_wanted(self, address: str, waiting: Waiting) -> bool:
        if not waiting.is_connectable:
            return False
        device = self._known.device_at(address)
        return waiting.samples > 0 or not device or self._house.has_mail(device)

    def _meet(self, address: str) -> _Board | None:
        is_known = bool(self._known.device_at(address))
        if self._tasks is None or not self._has_room(is_known=is_known):
            self._house.status.counts["boards_refused"] += 1
            return None
        house = self._house
        stage = house.progress.stage(address)
        link = BleLink(
            address,
            partial(self._make_driver, address),
            house.accept,
            house.status.link(address),
            house.clock,
            turns=self._turns,
            radio=house.status.radio,
            backend=self._backend,
            has_joined=is_known,
            on_joined=partial(self._note_joined, address),
            on_missed=partial(self._hear_anew, address),
            stage=stage,
        )
        link.hold(paused=self._is_paused)
        backoff = Backoff(STRANGER_BACKOFF_S, STRANGER_BACKOFF_CAP_S)
        if is_known:
            _be_patient(backoff)
        may_warn = partial(self._may_warn, address)
        serving = keep_running(on_link(address), link.run, backoff, may_warn=may_warn)
        task: asyncio.Task[None] = self._tasks.create_task(serving, name=address)
        task.add_done_callback(lambda _task: stage.leave())
        board = self._boards[address] = _Board(link, task, backoff)
        return board

    def _hear_anew(self, address: str) -> None:
        def is_busy() -> bool:
            board = self._boards.get(address)
            return board is not None and board.link.is_busy

        self._tell_anew(address, is_busy)

    def _note_joined(self, address: str, device: str) -> None:
        self._known.note(address, device)
        self._told.discard(address)
        if (board := self._boards.get(address)) is not None:
            _be_patient(board.backoff)

    def _may_warn(self, address: str) -> bool:
        """Whether a failure is worth a warning; those of strangers are, once each, some of them."""
        if (board := self._boards.get(address)) is None or board.link.has_joined:
            return True
        self._house.status.counts["strangers_failed"] += 1
        if address in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(address)
        return True

    def _make_driver(self, address: str) -> SerialLineDriver:
        return SerialLineDriver(
            port_name=address,
            device_name="",
            line_format=LineFormat("board"),
            book=self._house.book,
            clock=self._house.clock,
            run=self._house.run,
            session_id=self._house.session,
            keys=self._house.keys,
            largest_frame=MAX_FRAGMENTED,
        )

    def _has_room(self, *, is_known: bool) -> bool:
        strangers = [
            address for address, board in self._boards.items() if not board.link.has_joined
        ]
        if is_known:
            return (
                len(self._boards) < MAX_BOARDS
                or self._make_room(strangers)
                or self._make_room(self._boards)
            )
        if len(strangers) >= MAX_STRANGERS or len(self._boards) >= MAX_BOARDS:
            return self._make_room(strangers)
        return True

    def _make_room(self, among: Iterable[str]) -> bool:
        """Forget which of them was not heard for longest, if that is long enough."""
        links = {address: self._boards[address].link for address in among}
        idle = [(link.heard_s, address) for address, link in links.items() if not link.is_busy]
        heard_s, address = min(idle, default=(float("inf"), ""))
        if self._house.clock.monotonic_s() - heard_s < STALE_S:
            return False
        self._drop(address)
        return True

    def _forget_old_ones(self) -> None:
        now_s = self._house.clock.monotonic_s()
        for address, board in list(self._boards.items()):
            limit_s = FORGET_S if board.link.has_joined else FORGET_STRANGER_S
            if not board.link.is_busy and now_s - board.link.heard_s > limit_s:
                self._drop(address)

    def _drop(self, address: str) -> None:
        board = self._boards.pop(address)
        board.task.cancel()
        board.link.forget()
        self._house.forget_link(address)


def waiting_there(advert: Advert) -> Waiting | None:
    """Return what a board says of what waits there; None for all that do not say such a thing."""
    if _BTHOME not in advert.service_data and SERVICE not in advert.service_uuids:
        return None  # the company is for everybody's tests
    return decode_waiting(advert.manufacturer_data.get(COMPANY, b""))


def _be_patient(backoff: Backoff) -> None:
    """Have a known board tried more often than a stranger."""
    backoff.base_s, backoff.cap_s = BACKOFF_S, BACKOFF_CAP_S
