"""A connection that is given up, and takes its time to end."""

import asyncio
from typing import ClassVar

import pytest
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import BaseBleakScanner

from gateway.clock import Clock
from gateway.drivers.serial_line import SerialLineDriver
from gateway.errors import LinkError
from gateway.links.ble_connection import BleLink, GattOptions
from gateway.links.ble_turns import Turns
from gateway.simulate.radio.bleak_backend import VirtualBackend
from gateway.status import Status

PATIENCE_S = 30.0
"""Only for what hangs."""
FIRST, SECOND = "74:05:D7:00:00:01", "74:05:D7:00:00:02"


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

    def make_driver() -> SerialLineDriver:
        raise AssertionError  # nobody ever connects

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
