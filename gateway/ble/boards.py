"""Boards with our firmware: each that is heard gets a link of its own, within bounds."""

import asyncio
from functools import partial
from typing import Final, NamedTuple, NoReturn

from gateway.backoff import Backoff
from gateway.ble.service import BleOptions
from gateway.drivers.advert import Advert
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.house import House
from gateway.links.ble_connection import SERVICE, BleLink
from gateway.links.ble_scanner import Connectable, RadioBackend
from gateway.links.ble_turns import Turns
from gateway.supervise import keep_running

MAX_BOARDS: Final = 256
"""Boards that have a link; the one that was not heard for longest makes room."""

STALE_S: Final = 60.0
"""Nobody who was heard within this time is displaced."""

FORGET_S: Final = 86_400.0
"""A board that was not heard for so long is forgotten."""
FORGET_STRANGER_S: Final = 600.0
"""The same for one that never said who it is."""

BACKOFF_CAP_S: Final = 30.0

BOARDS_LOOK_S: Final = 5.0
"""How often it is looked whom to forget."""

_COMPANY: Final = 0xFFFF
_CONNECTABLE: Final = 0x01
_BTHOME: Final = "0000fcd2-0000-1000-8000-00805f9b34fb"
_SLEEPY_BYTES: Final = 2
"""A sleepy board's manufacturer data: samples that wait (255: more), flags. See PROTOCOL, P23."""


class _Board(NamedTuple):
    link: BleLink
    task: asyncio.Task[None]


class Boards:
    """The links of all boards on the radio."""

    def __init__(self, options: BleOptions, house: House, backend: RadioBackend | None) -> None:
        self._house = house
        self._backend = backend
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
        return SERVICE in advert.service_uuids or _waiting(advert) is not None

    def hear(self, advert: Advert, device: Connectable) -> None:
        """Take an advert of a board; one that sleeps is connected to when samples wait there."""
        if _waiting(advert) == 0:
            return
        board = self._boards.get(advert.address) or self._meet(advert.address)
        if board is not None:
            board.link.heard(device, advert.heard_s)

    def hold(self, *, paused: bool) -> None:
        """Ask all boards to keep their samples for now, or to go on."""
        self._is_paused = paused
        for board in self._boards.values():
            board.link.hold(paused=paused)

    def _meet(self, address: str) -> _Board | None:
        if self._tasks is None or (len(self._boards) >= MAX_BOARDS and not self._make_room()):
            self._house.status.counts["boards_refused"] += 1
            return None
        house = self._house
        link = BleLink(
            address,
            partial(self._make_driver, address),
            house.accept,
            house.status.link(address),
            house.clock,
            turns=self._turns,
            radio=house.status.radio,
            backend=self._backend,
        )
        link.hold(paused=self._is_paused)
        serving = keep_running(address, link.run, Backoff(cap_s=BACKOFF_CAP_S))
        task: asyncio.Task[None] = self._tasks.create_task(serving, name=address)
        board = self._boards[address] = _Board(link, task)
        return board

    def _make_driver(self, address: str) -> SerialLineDriver:
        return SerialLineDriver(
            port_name=address,
            device_name="",
            line_format=LineFormat("board"),
            book=self._house.book,
            clock=self._house.clock,
            run=self._house.run,
            session_id=self._house.session,
        )

    def _make_room(self) -> bool:
        """Forget who was not heard for longest, if that is long enough."""
        idle = [
            (board.link.heard_s, address)
            for address, board in self._boards.items()
            if not board.link.is_busy
        ]
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


def _waiting(advert: Advert) -> int | None:
    """Return how many samples wait in a sleepy board, as it says; None for all others.

    0 also while it cannot be connected to.
    """
    told = advert.manufacturer_data.get(_COMPANY, b"")
    if len(told) != _SLEEPY_BYTES or _BTHOME not in advert.service_data:
        return None
    return told[0] if told[1] & _CONNECTABLE else 0
