"""A connection that is given up, and takes its time to end."""

import asyncio
from typing import ClassVar

import pytest
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import BaseBleakScanner
from bleak.exc import BleakError

from gateway.clock import Clock
from gateway.drivers.serial_line import SerialLineDriver
from gateway.errors import LinkError
from gateway.links.ble_connection import BleLink
from gateway.links.ble_gatt import GattOptions
from gateway.links.ble_turns import Turns
from gateway.simulate.radio.bleak_backend import VirtualBackend
from gateway.status import Status

PATIENCE_S = 30.0
"""Only for what hangs."""
FIRST, SECOND = "74:05:D7:00:00:01", "74:05:D7:00:00:02"


def make_driver() -> SerialLineDriver:
    raise AssertionError  # nobody ever connects


class Undecided(BaseBleakClient):
    """One that never connects, and when that is given up takes its time to end."""

    is_ending: ClassVar[asyncio.Event]
    may_end: ClassVar[asyncio.Event]

    async def connect(self, *_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.is_ending.set()
            await self.may_end.wait()


async def test_who_wants_the_slot_of_one_that_is_just_given_up_gets_it() -> None:
    others = dict.fromkeys(BaseBleakClient.__abstractmethods__ - {"connect"}, None)
    client = type("Client", (Undecided,), others)
    Undecided.is_ending, Undecided.may_end = asyncio.Event(), asyncio.Event()
    clock, status = Clock(), Status()
    turns = Turns(1, 0.0, clock.monotonic_s)
    options = GattOptions(connect_s=0.01, crowded_connect_s=0.0)

    def link(name: str) -> BleLink:
        made = BleLink(
            *(name, make_driver, lambda _link, _events: None),
            *(status.link(name), clock),
            turns=turns,
            radio=status.radio,
            options=options,
            backend=VirtualBackend(BaseBleakScanner, client),
        )
        made.heard(BLEDevice(name, name, {}), clock.monotonic_s())
        return made

    async def run(name: str) -> None:
        with pytest.raises(LinkError, match="does not connect"):
            await link(name).run(lambda: None)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(run(FIRST))
        await Undecided.is_ending.wait()  # the time to connect has run out
        tasks.create_task(run(SECOND))
        while not turns.waiting:  # noqa: ASYNC110  # turns of the loop
            await asyncio.sleep(0)
        Undecided.may_end.set()

    assert (turns.held, turns.waiting) == (0, 0)


async def test_one_that_sleeps_is_waited_for_a_shorter_time() -> None:
    others = dict.fromkeys(BaseBleakClient.__abstractmethods__ - {"connect"}, None)
    client = type("Client", (Undecided,), others)
    Undecided.is_ending, Undecided.may_end = asyncio.Event(), asyncio.Event()
    Undecided.may_end.set()
    clock, status = Clock(), Status()
    link = BleLink(
        *(FIRST, make_driver, lambda _link, _events: None, status.link(FIRST), clock),
        turns=Turns(1, 30.0, clock.monotonic_s),
        radio=status.radio,
        options=GattOptions(connect_s=2 * PATIENCE_S, brief_connect_s=0.01),
        backend=VirtualBackend(BaseBleakScanner, client),
    )
    link.heard(BLEDevice(FIRST, FIRST, {}), clock.monotonic_s(), is_brief=True)

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(LinkError, match="does not connect"):
            await link.run(lambda: None)


class Stubborn(BaseBleakClient):
    """One that fails when it is cancelled; the next try may go well."""

    is_connecting: ClassVar[asyncio.Event]
    goes_well_next: ClassVar[bool]
    disconnects: ClassVar[list[str]]

    async def connect(self, *_: object, **__: object) -> None:
        if self.is_connecting.is_set():
            if self.goes_well_next:
                return
            raise BleakError("nobody is there")
        self.is_connecting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise BleakError("cannot cancel") from None

    async def disconnect(self) -> None:
        self.disconnects.append(self.address)


@pytest.mark.parametrize("goes_well_next", [False, True])
async def test_a_link_that_is_to_end_ends_although_connecting_goes_on(
    *, goes_well_next: bool
) -> None:
    others = dict.fromkeys(BaseBleakClient.__abstractmethods__ - {"connect", "disconnect"}, None)
    client = type("Client", (Stubborn,), others)
    Stubborn.is_connecting, Stubborn.disconnects = asyncio.Event(), []
    Stubborn.goes_well_next = goes_well_next
    clock, status = Clock(), Status()
    link = BleLink(
        *(FIRST, make_driver, lambda _link, _events: None, status.link(FIRST), clock),
        turns=Turns(1, 30.0, clock.monotonic_s),
        radio=status.radio,
        options=GattOptions(connect_s=PATIENCE_S),
        backend=VirtualBackend(BaseBleakScanner, client),
    )
    link.heard(BLEDevice(FIRST, FIRST, {}), clock.monotonic_s())

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(link.run(lambda: None), name="link")
        await Stubborn.is_connecting.wait()
        running.cancel()

    assert running.cancelled()
    assert Stubborn.disconnects == [FIRST] * goes_well_next
