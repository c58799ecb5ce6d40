"""Boards with our firmware, on real MicroPython, over the virtual radio."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.protocol.sealed import key_id
from gateway.simulate.boards import Ending, FirmwareBoard, Flash
from gateway.simulate.firmware import Interpreter
from gateway.simulate.radio.server import VirtualRadio
from tests.support.ble_board import RadioBoard, boards_on_air
from tests.support.ble_central import Central, central_on

ADDRESS = "A4:CF:12:00:00:03"
DEVICE = "linux-a4cf12000001"

KEY = bytes(range(32))

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


async def until_carried(central: Central, link: str, wanted: int) -> None:
    """Wait until so many samples have come over this link."""
    await central.until(lambda: central.carried[link] >= wanted)


@pytest.mark.parametrize("mtu", [23, 247])
async def test_every_sample_arrives_once_and_in_order_though_links_break(
    radio: VirtualRadio,
    interpreter: Interpreter,
    tmp_path: Path,
    mtu: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "gateway.simulate")
    links = [{"kind": "ble", "mtu": mtu}]
    board = make_board(tmp_path, interpreter, radio, links=links, ring_bytes=65536)

    async with switched_on(board), central_on(radio.hci_address) as central:
        for wanted in (50, 150):
            await central.until_delivered(DEVICE, wanted)
            radio.drop_links()
        await central.until_delivered(DEVICE, 250)

    assert "Unhandled exception" not in caplog.text, "the board's interrupt raised"
    assert_each_once_and_in_order(central, DEVICE)
    assert central.numbers[DEVICE] == list(range(len(central.numbers[DEVICE])))


async def test_a_board_on_two_links_goes_on_over_one_when_the_other_breaks(
    radio: VirtualRadio, interpreter: Interpreter, tmp_path: Path
) -> None:
    board = make_board(tmp_path, interpreter, radio, links=["stdio", "ble"], ring_bytes=65536)
    port = str(board.path)

    async with switched_on(board), central_on(radio.hci_address) as central:
        await central.until(board.path.exists)
        central.open_port(port)
        for wanted in (50, 100):
            radio.faults.silence()  # whoever is not connected cannot be
            radio.drop_links()
            await until_carried(central, port, wanted)
            radio.faults.end_silence()
            board.wire.unplug()
            await until_carried(central, ADDRESS, wanted)
            board.wire.plug()

    assert_each_once_and_in_order(central, DEVICE)
    assert central.numbers[DEVICE] == list(range(len(central.numbers[DEVICE])))


async def test_a_board_that_sleeps_delivers_all_it_measures(
    radio: VirtualRadio, interpreter: Interpreter, tmp_path: Path
) -> None:
    board = make_board(tmp_path, interpreter, radio, sleep={"interval_s": 1, "awake_s": 10})

    async with switched_on(board), central_on(radio.hci_address) as central:
        await central.until_delivered(DEVICE, 2)

    assert_each_once_and_in_order(central, DEVICE)
    assert board.endings[Ending.DEEP_SLEEP] >= 1
    assert board.endings.total() == board.endings[Ending.DEEP_SLEEP] + board.endings[Ending.OFF]


async def test_a_board_that_sleeps_is_not_kept_waiting_by_those_that_are_always_there(
    radio: VirtualRadio, interpreter: Interpreter, tmp_path: Path
) -> None:
    """Its counter has no place in BTHome: nothing but P23's flag says that it sleeps."""
    sleeper = make_board(tmp_path, interpreter, radio, sleep={"interval_s": 1, "awake_s": 4})
    awake = [
        RadioBoard(radio.air, f"awake-{number}", f"74:05:D7:00:00:0{number}") for number in (1, 2)
    ]
    known = {ADDRESS, *(board.address for board in awake)}

    async with (
        boards_on_air(*awake),
        central_on(radio.hci_address, slots=1, turn_s=3600.0, known=known) as central,
    ):
        awake[0].produce(10)
        await central.until(lambda: central.status.radio.connected)  # for an hour, as things are
        async with switched_on(sleeper):
            await central.until_delivered(DEVICE, 1)

    assert_each_once_and_in_order(central, DEVICE)


class HasKey:
    """Knows the board's key."""

    def find(self, device: str, name: str, /) -> bytes | None:
        return KEY if (device, name) == (DEVICE, key_id(KEY)) else None

    def ids(self, device: str, /) -> tuple[str, ...]:
        return (key_id(KEY),) if device == DEVICE else ()


async def test_who_has_no_key_reads_a_board_over_the_radio_and_costs_it_nothing(
    radio: VirtualRadio, interpreter: Interpreter, tmp_path: Path
) -> None:
    """What the stranger acknowledged comes once more, from the first on, to who has the key."""
    (tmp_path / "flash").mkdir()
    (tmp_path / "flash" / "device.key").write_bytes(KEY)
    board = make_board(tmp_path, interpreter, radio, ring_bytes=65536)

    async with switched_on(board):
        async with central_on(radio.hci_address) as stranger:
            await stranger.until_delivered(DEVICE, 100)
        async with central_on(radio.hci_address, keys=HasKey()) as gateway:
            await gateway.until_delivered(DEVICE, 150)
        async with central_on(radio.hci_address) as later:
            await later.until_delivered(DEVICE, 10)

    assert_each_once_and_in_order(stranger, DEVICE)
    assert_each_once_and_in_order(gateway, DEVICE)
    assert gateway.numbers[DEVICE] == list(range(len(gateway.numbers[DEVICE])))
    assert later.numbers[DEVICE][0] > 0, "the gateway's word was believed"
