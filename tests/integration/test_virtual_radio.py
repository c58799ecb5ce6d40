"""Boards in processes of their own, on real MicroPython and on CPython, on the virtual radio."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from struct import pack, unpack_from

import pytest

from gateway.simulate.boards import Ending, FirmwareBoard, Flash
from gateway.simulate.child import ChildProcess
from gateway.simulate.firmware import Interpreter
from gateway.simulate.radio.air import Lost
from gateway.simulate.radio.bleak_backend import VirtualBackend, virtual_backend
from gateway.simulate.radio.server import VirtualRadio
from tests.support.echo_board import SMALL, TX, EchoBoard
from tests.support.echo_central import EchoLink, find, scanning
from tests.support.figures import Figures

TIMEOUT_S = 30.0
"""Only for what hangs."""

FRAMES = 1000
WANTED_FRAMES_PER_S = 500.0
"""What the radio has to carry at MTU 247."""


@pytest.fixture
async def radio() -> AsyncIterator[VirtualRadio]:
    async with VirtualRadio() as radio:
        yield radio


@pytest.fixture
def backend(radio: VirtualRadio) -> VirtualBackend:
    return virtual_backend(radio.hci_address)


@pytest.fixture(params=["cpython", "micropython"])
def interpreter(request: pytest.FixtureRequest) -> Path:
    if request.param == "cpython":
        return Path(sys.executable)
    path: Path = request.getfixturevalue("micropython_bin")
    return path


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 what is looked at has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mtu", [23, 247])
async def test_a_board_and_a_central_tell_each_other_all_that_fits_into_a_packet(
    radio: VirtualRadio, backend: VirtualBackend, interpreter: Path, tmp_path: Path, mtu: int
) -> None:
    board = EchoBoard(tmp_path, radio.board_address, interpreter, mtu=mtu)
    async with board.running(), EchoLink(backend, await find(backend)) as central:
        assert central.client.mtu_size == mtu
        for number in range(50):
            value = bytes([0x80 | number]) * (mtu - 3)
            await central.write(value)

            assert await central.notification() == value

    assert not radio.air.lost


async def test_a_write_that_is_long_arrives_whole_where_there_is_room(
    radio: VirtualRadio, backend: VirtualBackend, micropython_bin: Path, tmp_path: Path
) -> None:
    board = EchoBoard(tmp_path, radio.board_address, micropython_bin)
    async with board.running(), EchoLink(backend, await find(backend)) as central:
        await central.write(b"l" * 512, with_response=True)

        assert await central.notification() == b"l" * 244, (
            "the answer is cut to what one packet has"
        )


async def test_a_write_is_cut_to_twenty_bytes_where_nobody_made_room(
    radio: VirtualRadio, backend: VirtualBackend, interpreter: Path, tmp_path: Path
) -> None:
    board = EchoBoard(tmp_path, radio.board_address, interpreter)
    async with board.running(), EchoLink(backend, await find(backend)) as central:
        await central.client.write_gatt_char(SMALL, b"s" * 100, response=True)

        assert await board.says("small") == "small 20"
        assert await central.client.read_gatt_char(SMALL) == b"s" * 20
        assert await central.client.read_gatt_char(TX) == b"read me"


async def test_a_board_that_does_not_wait_is_refused_when_its_buffers_are_full(
    radio: VirtualRadio, backend: VirtualBackend, interpreter: Path, tmp_path: Path
) -> None:
    board = EchoBoard(tmp_path, radio.board_address, interpreter)
    async with board.running(), EchoLink(backend, await find(backend)) as central:
        await central.write(pack("<cHH", b"!", 100, 200))

        assert await board.says("refused") == "refused 12 after 12"
        for number in range(12):
            assert unpack_from("<H", await central.notification()) == (number,)
        await central.write(b"and now it has its buffers back")
        assert await central.notification() == b"and now it has its buffers back"


async def test_the_board_may_end_a_link(
    radio: VirtualRadio, backend: VirtualBackend, interpreter: Path, tmp_path: Path
) -> None:
    board = EchoBoard(tmp_path, radio.board_address, interpreter)
    async with board.running():
        async with EchoLink(backend, await find(backend)) as central:
            await central.write(b".")
            await central.goes_down()

            assert await board.says("disconnected") == "disconnected 0"
        assert central.times_down == 1
        async with EchoLink(backend, await find(backend)) as central:
            await central.write(b"again")
            assert await central.notification() == b"again"
        assert await board.says("disconnected") == "disconnected 0"


async def test_a_radio_that_is_switched_off_and_on_offers_the_same_again(
    radio: VirtualRadio, backend: VirtualBackend, interpreter: Path, tmp_path: Path
) -> None:
    board = EchoBoard(tmp_path, radio.board_address, interpreter)
    async with board.running():
        async with EchoLink(backend, await find(backend)) as central:
            await central.write(b":")
            await central.goes_down()
        await board.says("ready")

        async with EchoLink(backend, await find(backend)) as central:
            await central.write(b"on")
            assert await central.notification() == b"on"


async def test_two_centrals_have_a_link_each(
    radio: VirtualRadio, micropython_bin: Path, tmp_path: Path
) -> None:
    one, other = virtual_backend(radio.hci_address), virtual_backend(radio.hci_address)
    board = EchoBoard(tmp_path, radio.board_address, micropython_bin)
    async with board.running():
        async with EchoLink(one, await find(one)) as first:
            async with EchoLink(other, await find(other)) as second:
                await first.write(b"first")
                await second.write(b"second")

                assert await first.notification() == b"first"
                assert await second.notification() == b"second"
            assert await board.says("disconnected") == "disconnected 1"
            await first.write(b"still there")
            assert await first.notification() == b"still there"
        assert await board.says("disconnected") == "disconnected 0"


async def test_a_board_that_is_killed_is_off_the_air_and_may_come_back(
    radio: VirtualRadio, backend: VirtualBackend, interpreter: Path, tmp_path: Path
) -> None:
    board = EchoBoard(tmp_path, radio.board_address, interpreter)
    async with board.running():
        async with EchoLink(backend, await find(backend)) as central:
            board.kill()
            await central.goes_down()
        await until(lambda: not list(radio.air.chips))

    async with board.running(), EchoLink(backend, await find(backend)) as central:
        await central.write(b"back")
        assert await central.notification() == b"back"


GATEWAY = """\
import asyncio, sys
sys.path.insert(0, {root!r})
from gateway.simulate.radio.bleak_backend import virtual_backend
from tests.support.echo_central import EchoLink, find

async def main():
    backend = virtual_backend(sys.argv[1])
    async with EchoLink(backend, await find(backend)) as central:
        await central.write(b"hello")
        print((await central.notification()).decode(), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_gateway_that_is_killed_leaves_no_link_behind(
    radio: VirtualRadio, backend: VirtualBackend, micropython_bin: Path, tmp_path: Path
) -> None:
    script = tmp_path / "gateway.py"
    script.write_text(GATEWAY.format(root=str(Path(__file__).parents[2])))
    said = asyncio.Event()
    gateway = ChildProcess("gateway", lambda data: said.set() if b"hello" in data else None)
    board = EchoBoard(tmp_path, radio.board_address, micropython_bin)
    async with board.running():
        try:
            await gateway.start([sys.executable, str(script), radio.hci_address])
            async with asyncio.timeout(TIMEOUT_S):
                await said.wait()
            os.kill(gateway.pid or 0, signal.SIGKILL)

            assert await board.says("disconnected") == "disconnected 0"
            await until(lambda: len(list(radio.air.chips)) == 1)
        finally:
            gateway.kill()
            await gateway.stop(TIMEOUT_S)

        async with EchoLink(backend, await find(backend)) as central:
            await central.write(b"next")
            assert await central.notification() == b"next"


async def test_a_board_is_switched_off_with_the_radio(
    micropython_bin: Path, tmp_path: Path
) -> None:
    async with VirtualRadio() as radio:
        board = EchoBoard(tmp_path, radio.board_address, micropython_bin)
        running = board.running()
        await running.__aenter__()
    try:
        assert await board.exit_code() == 0
    finally:
        await running.__aexit__(None, None, None)


async def test_a_board_that_does_not_read_costs_its_own_writes_only(
    radio: VirtualRadio, backend: VirtualBackend, micropython_bin: Path, tmp_path: Path
) -> None:
    for name in ("stopped", "lively"):
        (tmp_path / name).mkdir()
    stopped = EchoBoard(tmp_path / "stopped", radio.board_address, micropython_bin)
    lively = EchoBoard(tmp_path / "lively", radio.board_address, micropython_bin)
    async with stopped.running("a4cf12000001"), lively.running("a4cf12000011"):
        async with scanning(backend) as ear:
            devices = [(await ear.next(f"A4:CF:12:00:00:{last}"))[0] for last in ("03", "13")]
        async with (
            EchoLink(backend, devices[0]) as deaf,
            EchoLink(backend, devices[1]) as other,
        ):
            os.kill(stopped.pid, signal.SIGSTOP)
            while not radio.air.lost[Lost.WRITE_UNREAD]:
                for _ in range(500):
                    await deaf.write(b"w" * 244)
                await other.write(b"one of them")
                assert await other.notification() == b"one of them"
            os.kill(stopped.pid, signal.SIGCONT)


@pytest.mark.alone
async def test_the_radio_carries_five_hundred_frames_a_second(
    radio: VirtualRadio,
    backend: VirtualBackend,
    micropython_bin: Path,
    tmp_path: Path,
    figures: Figures,
) -> None:
    board = EchoBoard(tmp_path, radio.board_address, micropython_bin)
    async with board.running(), EchoLink(backend, await find(backend)) as central:
        start_s = time.perf_counter()
        await central.write(pack("<cHH", b"?", FRAMES, 244))
        for number in range(FRAMES):
            assert unpack_from("<H", await central.notification()) == (number,)
        rate = FRAMES / (time.perf_counter() - start_s)

    figures("frames a second over the virtual radio, MTU 247", f"{rate:.0f}", "at least 500")
    assert rate >= WANTED_FRAMES_PER_S


async def test_a_firmware_board_is_on_the_air_while_its_process_runs(
    radio: VirtualRadio, backend: VirtualBackend, micropython_bin: Path, tmp_path: Path
) -> None:
    board = FirmwareBoard(
        tmp_path / "port",
        tmp_path / "flash",
        Flash({"name": "shed", "links": ["ble"], "sensors": [{"kind": "heap"}]}),
        Interpreter(str(micropython_bin), "MicroPython", is_micropython=True),
        radio=radio.board_address,
        board_id="a4cf12000001",
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(board.run())
        device = await find(backend)
        assert device.address == "A4:CF:12:00:00:03"
        async with EchoLink(backend, device) as central:
            assert (await central.notification())[1] == 0x01, "HELLO, in the first fragment"
            board.reset()
            await central.goes_down()
        async with EchoLink(backend, await find(backend)) as central:
            assert (await central.notification())[1] == 0x01
        assert not (tmp_path / "port").exists()
        running.cancel()

    assert board.endings == {Ending.KILLED: 1}
    assert not list(radio.air.chips)
