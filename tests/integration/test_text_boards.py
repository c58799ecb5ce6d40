import asyncio
import contextlib
import fcntl
import json
import os
import termios
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.simulate.faults import parse
from gateway.simulate.text_boards import Acked, Printing, TextBoard, csv_line, room_climate

TIOCGEXCL = 0x80045440
"""Asks whether a terminal is in exclusive mode: asm-generic/ioctls.h."""


class Reader:
    """Reads the lines of a port, and can answer."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._buffer = b""
        self._readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable.set)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def write(self, data: bytes) -> None:
        os.write(self._descriptor, data)

    async def line(self) -> bytes:
        while b"\n" not in self._buffer:
            self._readable.clear()
            await self._readable.wait()
            with contextlib.suppress(BlockingIOError):  # read already by the call before
                self._buffer += os.read(self._descriptor, 4096)
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.rstrip(b"\r")


@asynccontextmanager
async def switched_on(board: TextBoard) -> AsyncIterator[Reader]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(board.run())
        await asyncio.sleep(0)  # run opens the port before it waits
        reader = Reader(board.path)
        try:
            yield reader
        finally:
            reader.close()
            task.cancel()


def without_checksum(line: bytes) -> dict[str, float]:
    body, tab, checksum = line.partition(b"\t")
    assert tab
    assert int(checksum, 16) == zlib.crc32(body)
    values = json.loads(body)
    assert isinstance(values, dict)
    return values


async def test_a_printing_board_prints_json(tmp_path: Path) -> None:
    board = TextBoard(tmp_path / "port", Printing(0.01))
    async with switched_on(board) as reader:
        lines = [await reader.line() for _ in range(5)]

    assert lines[:2] == [b"", b"room sensor 1.0 ready"]
    assert [json.loads(line) for line in lines[2:]] == [room_climate(n) for n in range(3)]
    assert os.listdir(tmp_path) == []


async def test_a_printing_board_prints_csv(tmp_path: Path) -> None:
    async with switched_on(TextBoard(tmp_path / "port", Printing(0.01, csv_line))) as reader:
        lines = [await reader.line() for _ in range(3)]

    # the first reading: 21 + 3 sin 0 degrees, 45 + 10 cos 0 percent
    assert lines[2] == b"21.0,55.0"


async def test_a_power_cut_makes_it_greet_again(tmp_path: Path) -> None:
    board = TextBoard(tmp_path / "port", Printing(0.01))
    async with switched_on(board) as reader:
        while await reader.line() != b"room sensor 1.0 ready":
            pass
        board.restart()
        while await reader.line() != b"room sensor 1.0 ready":
            pass

    assert board.restarts == 1


async def test_an_acked_board_delivers_all_over_a_bad_wire(tmp_path: Path) -> None:
    sketch = Acked(0.1)
    sketch.RESEND_S = 0.05
    plan = parse("drop=0.2,corrupt=0.1,seed=3")
    board = TextBoard(tmp_path / "port", sketch, plan)
    received: dict[int, float] = {}
    async with switched_on(board) as reader:
        while sketch.acked < 30:
            line = await reader.line()
            body, _, checksum = line.partition(b"\t")
            if len(checksum) == 8 and checksum == b"%08x" % zlib.crc32(body):
                values = json.loads(body)
                received[values["seq"]] = values["temperature"]
                reader.write(b'{"ack":%d}\n' % values["seq"])

    assert [received[n] for n in range(30)] == [room_climate(n)["temperature"] for n in range(30)]
    assert sketch.lost == 0
    assert board.wire.status.from_board.dropped > 0


def test_the_acked_sketch_repeats_its_oldest_reading_until_it_is_acknowledged() -> None:
    sketch = Acked(interval_s=10.0)
    sketch.setup(0.0)

    assert sketch.due_s == 10.0
    first = sketch.loop(10.0)
    assert without_checksum(first) == {"seq": 0, **room_climate(0)}
    assert sketch.due_s == 11.0
    assert sketch.loop(10.5) == b""
    assert sketch.loop(11.0) == first
    assert sketch.on_line(b'{"ack":1}', 11.1) == b""
    assert sketch.on_line(b"ack 0", 11.2) == b""
    assert sketch.loop(12.0) == first
    assert sketch.on_line(b'{"ack":0}', 12.1) == b""
    assert sketch.loop(13.0) == b""
    assert sketch.due_s == 20.0
    assert (sketch.taken, sketch.acked, len(sketch.waiting)) == (1, 1, 0)


def test_an_acknowledgement_lets_the_next_reading_go_at_once() -> None:
    sketch = Acked(interval_s=1.0)
    sketch.setup(0.0)
    sketch.loop(1.0)
    sketch.loop(1.999)
    sketch.loop(2.0)

    answer = sketch.on_line(b'{"ack":0}', 2.5)

    assert without_checksum(answer)["seq"] == 1


def test_a_full_queue_drops_the_oldest_and_counts_it() -> None:
    sketch = Acked(interval_s=1.0)
    sketch.setup(0.0)
    for second in range(1, 21):
        sketch.loop(float(second))

    assert sketch.taken == 20
    assert sketch.lost == 4
    assert [seq for seq, _ in sketch.waiting] == list(range(4, 20))


def test_a_restart_counts_anew_and_raises_the_epoch_of_a_board_that_has_one() -> None:
    plain, counting = Acked(1.0), Acked(1.0, epoch=4)
    for sketch in (plain, counting):
        sketch.setup(0.0)
        sketch.loop(1.0)
        sketch.setup(5.0)

    assert without_checksum(plain.loop(6.0))["seq"] == 0
    again = without_checksum(counting.loop(6.0))
    assert (again["ep"], again["seq"]) == (6, 0)
    assert plain.lost == counting.lost == 1


async def test_a_port_is_freed_from_a_gateway_that_was_killed(tmp_path: Path) -> None:
    board = TextBoard(tmp_path / "port", Printing(0.01))
    async with switched_on(board) as reader:
        killed = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
        other = os.open(board.path, os.O_RDWR | os.O_NOCTTY)  # once it is exclusive only root may
        fcntl.ioctl(killed, termios.TIOCEXCL)
        fcntl.flock(killed, fcntl.LOCK_EX | fcntl.LOCK_NB)
        exclusive = bytearray(4)
        fcntl.ioctl(other, TIOCGEXCL, exclusive)
        assert any(exclusive)

        os.close(killed)
        while any(exclusive):
            await reader.line()
            fcntl.ioctl(other, TIOCGEXCL, exclusive)
        os.close(other)


async def test_a_stalled_board_is_heard_again(tmp_path: Path) -> None:
    board = TextBoard(tmp_path / "port", Printing(0.01))
    async with switched_on(board) as reader:
        while not (await reader.line()).startswith(b"{"):
            pass
        board.wire.stall()
        before = board.wire.status.bytes_dropped
        while board.wire.status.bytes_dropped == before:  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(0.01)
        board.wire.resume()
        while (await reader.line()) != json.dumps(room_climate(50), separators=(",", ":")).encode():
            pass

    assert board.wire.status.bytes_dropped > 0


@pytest.mark.parametrize("text", ["unplug_every_s=0.2,unplug_s=0.05", "stall_every_s=0.1"])
async def test_a_plan_of_failures_is_played(tmp_path: Path, text: str) -> None:
    board = TextBoard(tmp_path / "port", Printing(0.01), parse(text))
    async with switched_on(board):
        while not board.wire.status.events:  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(0.01)
