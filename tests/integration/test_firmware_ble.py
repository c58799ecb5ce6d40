"""Boards with our firmware, on real MicroPython, over the virtual radio."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.simulate.boards import Ending, FirmwareBoard, Flash
from gateway.simulate.firmware import Interpreter
from gateway.simulate.radio.server import VirtualRadio
from tests.support.ble_central import Central, central_on

ADDRESS = "A4:CF:12:00:00:03"
DEVICE = "linux-a4cf12000001"

COUNTER = {
    "kind": "simulated",
    "name": "count",
    "key": "number",
    "exponent": 0,
    "waveform": "counter",
    "interval_ms": 10,
}


@pytest.fixture
async def radio() -> AsyncIterator[VirtualRadio]:
    async with VirtualRadio() as virtual:
        yield virtual


@pytest.fixture
def interpreter(micropython_bin: Path) -> Interpreter:
    return Interpreter(str(micropython_bin), "MicroPython", is_micropython=True)


def make_board(
    folder: Path, interpreter: Interpreter, radio: VirtualRadio, **config: object
) -> FirmwareBoard:
    settings = {"name": "shed", "links": ["ble"], "sensors": [COUNTER], "watchdog_s": 0, **config}
    return FirmwareBoard(
        folder / "port",
        folder / "flash",
        Flash(settings),  # type: ignore[arg-type]  # JSON, all of it
        interpreter,
        radio=radio.board_address,
        board_id="a4cf12000001",
    )


@asynccontextmanager
async def switched_on(board: FirmwareBoard) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(board.run())
        try:
            yield
        finally:
            running.cancel()


def assert_each_once_and_in_order(central: Central, device: str) -> None:
    ids = [(sample.boot, sample.seq) for sample in central.samples[device]]
    assert ids == [(ids[0][0], seq) for seq in range(len(ids))]
    assert central.gaps == []


async def test_every_sample_arrives_once_and_in_order_though_links_break(
    radio: VirtualRadio, interpreter: Interpreter, tmp_path: Path
) -> None:
    board = make_board(tmp_path, interpreter, radio, ring_bytes=65536)

    async with switched_on(board), central_on(radio.hci_address) as central:
        for wanted in (100, 200, 300):
            await central.until_delivered(DEVICE, wanted)
            radio.drop_links()
        await central.until_delivered(DEVICE, 400)

    assert_each_once_and_in_order(central, DEVICE)
    assert central.numbers[DEVICE] == list(range(len(central.numbers[DEVICE])))


async def test_a_board_that_sleeps_delivers_all_it_measures(
    radio: VirtualRadio, interpreter: Interpreter, tmp_path: Path
) -> None:
    board = make_board(tmp_path, interpreter, radio, sleep={"interval_s": 1, "awake_s": 10})

    async with switched_on(board), central_on(radio.hci_address) as central:
        await central.until_delivered(DEVICE, 3)

    assert_each_once_and_in_order(central, DEVICE)
    assert board.endings[Ending.DEEP_SLEEP] >= 2
    assert board.endings.total() == board.endings[Ending.DEEP_SLEEP] + board.endings[Ending.OFF]
