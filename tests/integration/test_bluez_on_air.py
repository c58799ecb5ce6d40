"""Firmware on a real MicroPython, a virtual radio, bluetoothd's stand-in, a real bus, the gateway.

What each of the layers does is tested elsewhere: here they are seen to fit together.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.clock import Clock
from gateway.simulate.boards import FirmwareBoard, Flash, Json
from gateway.simulate.firmware import Interpreter
from gateway.simulate.radio.server import VirtualRadio
from tests.support.bluez.ble_gateway import Arrivals, make_ble
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.on_air import on_the_air

ENOUGH_S = 60.0
"""For what takes some seconds."""

COUNTER: dict[str, Json] = {
    "kind": "simulated",
    "name": "count",
    "key": "number",
    "exponent": 0,
    "waveform": "counter",
    "interval_ms": 10,
}


@pytest.fixture
def interpreter(micropython_bin: Path) -> Interpreter:
    return Interpreter(str(micropython_bin), "MicroPython", is_micropython=True)


@asynccontextmanager
async def a_board(
    radio: VirtualRadio, interpreter: Interpreter, folder: Path
) -> AsyncIterator[None]:
    """Run a board with our firmware on the air."""
    flash = Flash({"name": "shed", "links": ["ble"], "sensors": [COUNTER], "watchdog_s": 0})
    board = FirmwareBoard(
        *(folder / "port", folder / "flash", flash, interpreter),
        radio=radio.board_address,
        board_id="a4cf12000001",
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(board.run())
        try:
            yield
        finally:
            running.cancel()


async def test_firmware_delivers_through_bluez_though_links_break(
    bluetoothd: Bluetoothd, interpreter: Interpreter, tmp_path: Path
) -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    ble = make_ble(arrivals, clock, tmp_path)

    async with (
        asyncio.timeout(ENOUGH_S),
        VirtualRadio() as radio,
        on_the_air(bluetoothd, radio.hci_address),
        a_board(radio, interpreter, tmp_path),
        asyncio.TaskGroup() as tasks,
    ):
        running = tasks.create_task(ble.run())
        await arrivals.until(50)
        dropped = radio.drop_links()
        await arrivals.until(100)
        running.cancel()

    assert dropped == 1
    assert arrivals.numbers == list(range(len(arrivals.numbers)))
    assert bluetoothd.calls["Connect"] == 2
