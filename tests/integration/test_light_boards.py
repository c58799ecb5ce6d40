import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.protocol.delivery import DeliveryBook
from gateway.simulate.faults import FaultPlan, parse
from gateway.simulate.light import LightBoards, LightSpec
from gateway.simulate.light_board import LightBoard, temperature_of
from tests.support.gateway_end import Arrived, GatewayEnd

PROGRAM = """
import asyncio, sys
from pathlib import Path
from gateway.simulate.light import LightSpec, run_light_boards

spec = LightSpec(count=int(sys.argv[2]), folder=Path(sys.argv[1]), interval_s=0.05)
asyncio.run(run_light_boards(spec), debug=False)  # its cost is measured
"""


@asynccontextmanager
async def running(boards: LightBoards) -> AsyncIterator[list[LightBoard]]:
    async with asyncio.timeout(60):
        await boards.open()
        try:
            yield list(boards.boards.values())
        finally:
            boards.close()


@asynccontextmanager
async def one_board(
    folder: Path, interval_s: float = 0.02, plan: FaultPlan | None = None, ring_bytes: int = 2048
) -> AsyncIterator[LightBoard]:
    spec = LightSpec(
        1, folder, interval_s, epoch=7, plan=plan or FaultPlan(), ring_bytes=ring_bytes
    )
    async with running(LightBoards(spec)) as (board,):
        yield board


async def until(board: LightBoard, reached: Callable[[], bool]) -> None:
    """Return as soon as something happened to the board that makes `reached` true."""
    happened = asyncio.Event()
    board.on_activity = happened.set
    while not reached():
        await happened.wait()
        happened.clear()
    board.on_activity = None


def exists(path: Path) -> bool:
    return os.path.lexists(path)


def produced(board: LightBoard) -> list[Arrived]:
    """What must have arrived of a board whose ring is empty and never overflowed."""
    return [
        Arrived(
            life.epoch,
            seq,
            "light",
            {
                "number": life.first_number + seq,
                "temperature": temperature_of(life.first_number + seq) / 100,
            },
        )
        for life in board.lives
        for seq in range(life.produced)
    ]


async def test_the_firmware_modules_leave_no_trace(tmp_path: Path) -> None:
    modules, path = firmware_modules(), list(sys.path)  # tests of the firmware import it, too
    async with one_board(tmp_path):
        assert firmware_modules() == modules
        assert sys.path == path


def firmware_modules() -> dict[str, object]:
    return {name: each for name, each in sys.modules.items() if name.partition(".")[0] == "board"}


async def test_a_board_delivers_what_it_produced(tmp_path: Path) -> None:
    async with one_board(tmp_path) as board, GatewayEnd(board.path) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 50)
        board.is_producing = False
        await gateway.until(lambda g: len(g.arrived) == board.produced)

        assert gateway.arrived == produced(board)
        assert gateway.hellos[0].id == "light-0000"
        (stream,) = gateway.streams
        assert [(c.key, c.unit, c.device_class) for c in stream.channels] == [
            ("number", "", ""),
            ("temperature", "°C", "temperature"),
        ]


async def test_a_soft_reset_keeps_ring_and_epoch(tmp_path: Path) -> None:
    async with one_board(tmp_path) as board, GatewayEnd(board.path) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 10)
        board.soft_reset()
        await gateway.until(lambda g: len(g.hellos) == 2 and len(g.arrived) >= 20)
        board.is_producing = False
        await until(board, lambda: board.waiting == 0)

        assert [life.epoch for life in board.lives] == [7]
        assert gateway.hellos[1].reset_cause == "soft"
        assert gateway.hellos[1].nonce != gateway.hellos[0].nonce
        assert gateway.arrived == produced(board)
        assert board.lives[0].acked == board.produced


async def test_a_power_cut_begins_a_new_epoch(tmp_path: Path) -> None:
    async with one_board(tmp_path) as board, GatewayEnd(board.path) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 10)
        board.is_producing = False
        await gateway.until(lambda g: len(g.arrived) == board.produced)
        board.power_cycle()
        board.is_producing = True
        await gateway.until(lambda g: len(g.arrived) >= 20)
        board.is_producing = False
        await gateway.until(lambda g: len(g.arrived) == board.produced)

        assert [life.epoch for life in board.lives] == [7, 8]
        assert board.lives[1].first_number == board.lives[0].produced
        assert gateway.arrived == produced(board)


async def test_what_a_power_cut_takes_is_known(tmp_path: Path) -> None:
    boards = LightBoards(LightSpec(1, tmp_path, 0.005, epoch=7))
    async with running(boards) as (board,):
        await until(board, lambda: board.waiting >= 5)  # nobody listens
        board.power_cycle()
        stats = boards.stats()

        assert stats.cut >= 5
        assert stats.produced == stats.cut + stats.waiting
        assert stats.acked == stats.overflowed == 0


async def test_an_unplugged_board_keeps_its_samples(tmp_path: Path) -> None:
    async with one_board(tmp_path) as board:
        async with GatewayEnd(board.path) as gateway:
            await gateway.until(lambda g: len(g.arrived) >= 10)
            board.wire.unplug()
            await gateway.until(lambda g: not g.is_open)
            assert not exists(board.path)
            await until(board, lambda: board.waiting >= 10)
            board.wire.plug()
            gateway.open()
            board.is_producing = False
            await gateway.until(lambda g: len(g.arrived) == board.produced)

        assert gateway.arrived == produced(board)


async def test_a_stalled_wire_loses_bytes_and_no_samples(tmp_path: Path) -> None:
    async with one_board(tmp_path) as board, GatewayEnd(board.path) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 10)
        board.wire.stall()
        await until(board, lambda: board.wire.status.bytes_dropped > 0)
        board.wire.resume()
        board.is_producing = False
        await gateway.until(lambda g: len(g.arrived) == board.produced)

        assert gateway.arrived == produced(board)


async def test_a_ring_that_overflows_says_what_was_lost(tmp_path: Path) -> None:
    async with one_board(tmp_path, interval_s=0.005, ring_bytes=120) as board:
        await until(board, lambda: board.lives[0].overflowed >= 5)
        board.is_producing = False
        overflowed = board.lives[0].overflowed
        async with GatewayEnd(board.path) as gateway:
            await gateway.until(lambda g: len(g.arrived) == 10)

        assert [arrived.seq for arrived in gateway.arrived] == list(
            range(overflowed, board.produced)
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_all_arrive_in_order_over_a_wire_that_damages_every_third_line(
    tmp_path: Path, seed: int
) -> None:
    text = f"drop=0.1,corrupt=0.1,duplicate=0.05,truncate=0.05,garbage=0.05,delay=0.1,seed={seed}"
    async with (
        one_board(tmp_path, 0.01, parse(text), ring_bytes=32_768) as board,
        GatewayEnd(board.path) as gateway,
    ):
        await gateway.until(lambda g: len(g.arrived) >= 300, timeout_s=50)
        board.is_producing = False
        await gateway.until(lambda g: len(g.arrived) == board.produced, timeout_s=50)

        assert gateway.arrived == produced(board), text
        for counts in (board.wire.status.from_board, board.wire.status.to_board):
            assert counts.dropped + counts.corrupted + counts.truncated >= 3, text


async def test_a_plan_unplugs_and_restarts_boards(tmp_path: Path) -> None:
    plan = parse("unplug_every_s=0.5,unplug_s=0.1,restart_every_s=0.7")
    async with one_board(tmp_path, plan=plan) as board:
        await until(board, lambda: len(board.lives) == 3)

        counts = {action.value: count for action, count in board.wire.status.events.items()}
        assert counts["restart"] == 2
        assert counts["unplug"] >= 1


async def test_fifty_boards_restart_and_deliver_everything(tmp_path: Path) -> None:
    fleet = LightBoards(LightSpec(50, tmp_path, 0.1))
    async with running(fleet) as boards, AsyncExitStack() as stack:
        book = DeliveryBook()
        ends = [await stack.enter_async_context(GatewayEnd(b.path, book)) for b in boards]
        for end in ends:
            await end.until(lambda g: len(g.arrived) >= 5)
        for board in boards:
            board.soft_reset()
        for end in ends:
            await end.until(lambda g: len(g.arrived) >= 10 and len(g.hellos) == 2)

        await fleet.drain()

        assert [end.arrived for end in ends] == [produced(board) for board in boards]
        stats = fleet.stats()
        assert stats.produced == stats.acked == sum(len(end.arrived) for end in ends)
        assert (stats.waiting, stats.overflowed, stats.cut) == (0, 0, 0)


async def test_draining_gives_up_when_nobody_listens(tmp_path: Path) -> None:
    fleet = LightBoards(LightSpec(2, tmp_path, 0.01))
    async with running(fleet) as boards:
        await until(boards[0], lambda: boards[0].waiting > 0)
        with pytest.raises(TimeoutError):
            await fleet.drain(0.05)


class LightProcess:
    """Light boards in a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    async def ask(self, command: str) -> dict[str, object]:
        self._stdin.write(command.encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, object]:
        async with asyncio.timeout(20):
            answer = json.loads(await self._stdout.readline())
        assert isinstance(answer, dict)
        return answer


@asynccontextmanager
async def light_process(folder: Path, count: int) -> AsyncIterator[LightProcess]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(folder), str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    light = LightProcess(process)
    try:
        yield light
    finally:
        assert process.stdin is not None
        process.stdin.close()  # that alone ends it
        async with asyncio.timeout(10):
            assert await process.wait() == 0


async def test_a_process_of_light_boards_obeys_commands(tmp_path: Path) -> None:
    async with light_process(tmp_path, 3) as light:
        assert await light.answer() == {"ready": True, "boards": 3, "folder": str(tmp_path)}
        assert sorted(os.listdir(tmp_path)) == ["light-0000", "light-0001", "light-0002"]
        async with GatewayEnd(tmp_path / "light-0001") as gateway:
            await gateway.until(lambda g: len(g.arrived) >= 5)

            assert (await light.ask("stats"))["joined"] == 1
            await light.ask("reset light-0001")
            await gateway.until(lambda g: len(g.hellos) == 2)
            await light.ask("restart light-0001")
            await gateway.until(lambda g: len(g.hellos) == 3)
            assert gateway.hellos[2].epoch == (gateway.hellos[0].epoch + 1) & 0xFFFF
            stats = await light.ask("pause")
            waiting = await light.ask("stats")
            assert waiting["produced"] == stats["produced"]
            assert "not in time" in str((await light.ask("drain 0.1"))["error"])
            described = await light.ask("boards")
            await light.ask("unplug light-0001")
            await gateway.until(lambda g: not g.is_open)

        boards = described["boards"]
        assert isinstance(boards, list)
        assert [board["name"] for board in boards] == ["light-0000", "light-0001", "light-0002"]
        assert [len(board["lives"]) for board in boards] == [1, 2, 1]
        assert "unknown command 'sing'" in str((await light.ask("sing"))["error"])
        assert "nobody" in str((await light.ask("reset nobody"))["error"])
        await light.ask("plug")
        assert exists(tmp_path / "light-0001")


async def test_a_process_of_light_boards_stops_when_told(tmp_path: Path) -> None:
    async with light_process(tmp_path, 1) as light:
        await light.answer()
        light.process.stdin.write(b"stop\n")  # type: ignore[union-attr]  # it has a pipe
        async with asyncio.timeout(10):
            await light.process.wait()

    assert os.listdir(tmp_path) == []


@pytest.mark.alone
async def test_a_hundred_boards_cost_little(tmp_path: Path) -> None:
    # Aim: 500 boards at 1 to 2 samples a second well below one core. The gateway's ends are here,
    # so that the process of the boards is measured alone.
    async with light_process(tmp_path, 100) as light, AsyncExitStack() as stack:
        await light.answer()
        ends = [
            await stack.enter_async_context(GatewayEnd(tmp_path / f"light-{n:04d}"))
            for n in range(100)
        ]
        for end in ends:
            await end.until(lambda g: len(g.arrived) >= 1)
        began = await light.ask("stats")
        async with asyncio.TaskGroup() as tasks:
            for end in ends:
                tasks.create_task(end.until_more(40))
        ended = await light.ask("stats")

    samples = float(str(ended["produced"])) - float(str(began["produced"]))
    cpu_s = float(str(ended["cpu_s"])) - float(str(began["cpu_s"]))
    assert samples >= 40 * 100
    assert cpu_s / samples < 0.0008, f"{cpu_s} s of CPU for {samples} samples"
