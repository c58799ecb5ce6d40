"""Samples that outlast a restart of the machine keep their times, and their worth."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.drivers.board import BoardDriver
from gateway.model import BatchKind
from gateway.mqtt.messages import Composer
from gateway.mqtt.topics import Topics
from gateway.protocol.delivery import DeliveryBook
from gateway.status import StoreStatus
from gateway.store.jobs import Limits
from gateway.store.keeper import Keeper, KeeperOptions
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.store.store import Store
from gateway.timekeeper import TimeKeeper
from tests.support.dated_board import DatedBoard, Told, told
from tests.support.machine import Machine

TRUE_UNIX_S = 1_795_330_800.0
"""2026-11-22T07:00:00Z."""
TOLERANCE_S = 0.05
WAIT_S = 20.0

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


class Gateway:
    """One run of the gateway with its store, on a machine whose clocks the test turns."""

    def __init__(self, machine: Machine, board: DatedBoard, path: Path) -> None:
        clock = machine.clock()
        self._machine = machine
        self._board = board
        self._timekeeper = TimeKeeper(clock)
        self._driver = BoardDriver("port-1", DeliveryBook(), clock, "5e55")
        self._composer = Composer(Topics("edge/pi"), self._timekeeper)
        self._outbox = Outbox(OutboxOptions(drain_rate=1e6), Counter(), clock)
        self._keeper = Keeper(
            Store(path / "outbox.db", Limits()),
            self._outbox,
            KeeperOptions(),
            clock=clock,
            time_base=self._timekeeper.base,
            status=StoreStatus(),
        )
        board.join(self._driver)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run for the length of the block, then stop cleanly."""
        await self._keeper.open_ledger()
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keeper.run())
            try:
                yield
            finally:
                keeping.cancel()
                await asyncio.wait([keeping])
                await self._keeper.close()

    def receive(self, samples: int) -> None:
        """Let the board take and send samples, one a second."""
        for _ in range(samples):
            self._board.take()
            for readings in self._board.send(self._driver):
                self._outbox.put(readings)
            self._timekeeper.base()  # as the app does, once a second
            self._machine.run(1.0)

    async def store(self) -> None:
        """Wait until all is on disk."""
        await self._keeper.flush(WAIT_S)

    async def publish(self, count: int) -> list[Told]:
        """Publish the next `count` samples at least; the broker takes each at once."""
        samples: list[Told] = []
        while len(samples) < count:
            batch = await self._outbox.take()
            if batch.kind is BatchKind.PREVIEW:
                continue
            samples += told(self._composer.compose(batch))
            self._outbox.delivered(batch)
        return samples


@pytest.fixture
def machine() -> Machine:
    """Just switched on; its clock says 1970."""
    return Machine(TRUE_UNIX_S)


@pytest.fixture
def board(machine: Machine, seed: int) -> DatedBoard:
    rng = random.Random(seed)
    return DatedBoard(machine, rng, drift_ppm=rng.choice((-50, 0, 50)))


def worst_s(samples: list[Told], board: DatedBoard) -> float:
    """The largest error of a published time."""
    assert samples
    return max(abs(sample.unix_s - board.taken[sample.id]) for sample in samples)


def qualities(samples: list[Told]) -> set[str]:
    return {sample.quality for sample in samples}


async def test_all_times_are_right_over_two_boots_and_steps_of_the_clock(
    machine: Machine, board: DatedBoard, tmp_path: Path
) -> None:
    first = Gateway(machine, board, tmp_path)
    async with first.running():
        first.receive(20)  # 1970
        await first.store()
        machine.synchronise()
        first.receive(20)
        machine.set_by_hand(machine.true_unix_s - 86_400.0)
        first.receive(20)
        machine.synchronise()
        first.receive(20)

    for _ in range(5):  # the board goes on while the machine is without power
        machine.true_unix_s += 1.0
        board.take()
    machine.boot(off_s=5.0)
    second = Gateway(machine, board, tmp_path)
    async with second.running():
        old = await second.publish(80)
        second.receive(15)  # 1970 again; the first of them brings what the board kept
        machine.synchronise()
        new = await second.publish(20)
        machine.set_by_hand(machine.true_unix_s + 86_400.0)
        second.receive(5)
        newest = await second.publish(5)

    assert (len(old), len(new), len(newest)) == (80, 20, 5)
    assert [sample.id for sample in old + new + newest] == list(board.taken)
    assert qualities(old) == qualities(new) == {"synced"}
    assert qualities(newest) == {"unsynced"}
    assert worst_s(old + new + newest, board) < TOLERANCE_S


async def test_what_was_learned_of_the_time_after_the_last_sample_is_remembered(
    machine: Machine, board: DatedBoard, tmp_path: Path
) -> None:
    first = Gateway(machine, board, tmp_path)
    async with first.running():
        first.receive(10)  # 1970
        await first.store()
        machine.run(10.0)
        machine.synchronise()

    machine.boot(off_s=60.0)
    second = Gateway(machine, board, tmp_path)
    async with second.running():
        old = await second.publish(10)

    assert qualities(old) == {"synced"}
    assert worst_s(old, board) < TOLERANCE_S


async def test_an_earlier_boot_keeps_the_worth_its_clock_had(
    machine: Machine, board: DatedBoard, tmp_path: Path
) -> None:
    first = Gateway(machine, board, tmp_path)
    async with first.running():
        machine.synchronise()
        first.receive(10)
        machine.set_by_hand(0.0)
        first.receive(10)
        await first.store()

    machine.boot(off_s=60.0)
    machine.synchronise()
    second = Gateway(machine, board, tmp_path)
    async with second.running():
        old = await second.publish(20)
        second.receive(5)
        new = await second.publish(5)

    assert qualities(old) == {"unsynced"}, "held when the machine stopped"
    assert qualities(new) == {"synced"}
    assert worst_s(old + new, board) < TOLERANCE_S


async def test_a_boot_that_never_knew_the_time_is_flagged_for_ever(
    machine: Machine, board: DatedBoard, tmp_path: Path
) -> None:
    first = Gateway(machine, board, tmp_path)
    async with first.running():
        first.receive(20)
        await first.store()

    machine.boot(off_s=60.0)
    machine.synchronise()
    second = Gateway(machine, board, tmp_path)
    async with second.running():
        old = await second.publish(20)

    assert qualities(old) == {"unsynced"}
    assert [sample.id for sample in old] == list(board.taken)
    assert all(0.0 < sample.unix_s < 60.0 for sample in old), "as its clock had it: 1970"
    assert [b.unix_s - a.unix_s for a, b in pairwise(old)] == pytest.approx(
        [1.0] * 19, abs=TOLERANCE_S
    )
