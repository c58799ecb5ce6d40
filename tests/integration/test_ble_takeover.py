"""A gateway that was killed leaves its connections to BlueZ; the next one takes them over."""

import asyncio
from pathlib import Path

from gateway.clock import Clock
from tests.support.bluez.ble_gateway import Arrivals, make_ble
from tests.support.bluez.bleak_end import let_go_of_the_bus, pass_over_unsent
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.bus import PrivateBus
from tests.support.bluez.gatt_board import GattBoard
from tests.support.fast_loop import run_at

SPEED = 40.0
ADDRESS = "A4:C1:38:00:00:02"


def test_a_board_that_is_still_connected_is_taken_over(bus: PrivateBus, tmp_path: Path) -> None:
    """A board that is connected does not advertise: nobody would ever hear it."""

    async def main(clock: Clock) -> tuple[int, int]:
        asyncio.get_running_loop().set_exception_handler(pass_over_unsent)
        board = GattBoard(ADDRESS, "barn", 1.0)
        bluetoothd = Bluetoothd(bus.address)
        bluetoothd.place(ADDRESS, board.peripheral)
        async with bluetoothd.running(), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(board.run())
            first = Arrivals(clock)
            killed = tasks.create_task(make_ble(first, clock, tmp_path).run())
            await bluetoothd.until(lambda: bluetoothd.listens)
            bluetoothd.hear(board.advert)
            await first.until(3)
            bluetoothd.faults.refuse("Disconnect", "Failed", times=100)
            killed.cancel()
            await asyncio.wait([killed])
            assert board.peripheral.is_connected

            later = Arrivals(clock)
            taking_over = tasks.create_task(make_ble(later, clock, tmp_path).run())
            await later.until(3)

            for task in (taking_over, running):
                task.cancel()
            await asyncio.wait([taking_over, running])
            await let_go_of_the_bus()
            return board.peripheral.connections, bluetoothd.calls["Connect"]

    connections, calls = run_at(SPEED, main)

    assert (connections, calls) == (1, 1)
