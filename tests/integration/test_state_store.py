"""The state database: what was told to be on the disk is there afterwards, whatever happens."""

import asyncio
import logging
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path

import pytest

from gateway.backoff import Backoff
from gateway.errors import StoreError
from gateway.simulate.faults.disk import cut
from gateway.status import StateStatus
from gateway.store import registry
from gateway.store.registry import Registered
from gateway.store.state import MAX_WAITING, StateStore
from gateway.store.state_changes import Change, Statement

TIMEOUT_S = 30.0


class Memory:
    """A gateway that keeps its devices in the database: a set of keys is enough of one."""

    def __init__(self, path: Path) -> None:
        self.status = StateStatus()
        self.store = StateStore(path, self.status, Backoff(0.01, 0.02, random.Random(1)))
        self.store.keep(registry.load, self._take, self._everything)
        self.taken: list[Registered] = []
        self.keys: set[str] = set()

    def _take(self, registered: Registered) -> None:
        self.taken.append(registered)
        self.keys |= set(registered.devices)

    def _everything(self) -> Change:
        return registry.put_devices(dict.fromkeys(self.keys, dict))

    def add(self, key: str) -> Change:
        self.keys.add(key)
        return registry.put_devices({key: lambda: {"level": key}})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.store.open()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.store.run())
            try:
                yield
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                await self.store.close()


async def kept(path: Path) -> Registered:
    """Return what the next start of the gateway would find."""
    memory = Memory(path)
    async with memory.running():
        pass
    return memory.taken[0]


def damage_file(path: Path, damage: str) -> bytes:
    """Return its content afterwards."""
    if damage == "cut":
        cut(path, 5000)
    elif damage == "garbage":
        path.write_bytes(b"no database" * 1000)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE retained")
    return path.read_bytes()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not reached():  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gateway.db"


async def test_what_was_committed_is_there_at_the_next_start(path: Path) -> None:
    memory = Memory(path)
    async with memory.running():
        await memory.store.commit(memory.add("attic"))
        await memory.store.commit(registry.note_topics(["edge/a/attic/info", "edge/a/status"]))
        await memory.store.commit(registry.drop_topics(["edge/a/attic/info"]))

    found = await kept(path)

    assert found == Registered({"attic": {"level": "attic"}}, frozenset({"edge/a/status"}))


async def test_what_is_told_to_be_stored_survives_a_copy_of_the_files_at_that_moment(
    path: Path, tmp_path: Path
) -> None:
    memory = Memory(path)
    async with memory.running():
        await memory.store.commit(memory.add("attic"))
        copied = tmp_path / "kill" / path.name  # what a kill -9 would leave
        copied.parent.mkdir()
        shutil.copy(path, copied)
        shutil.copy(f"{path}-wal", f"{copied}-wal")

    assert set((await kept(copied)).devices) == {"attic"}


async def test_changes_that_wait_share_a_transaction_and_keep_their_order(path: Path) -> None:
    memory = Memory(path)
    answers: list[tuple[int, StoreError | None]] = []

    def note(number: int, error: StoreError | None) -> None:
        answers.append((number, error))

    async with memory.running():
        for number in range(100):
            change = registry.drop_devices(["x"]) if number % 2 else memory.add("x")
            memory.store.submit(change, partial(note, number))
        await memory.store.commit(memory.add("last"))

    assert answers == [(number, None) for number in range(100)]
    assert memory.status.commits == 1
    assert set((await kept(path)).devices) == {"last"}


async def test_a_change_that_waits_when_the_gateway_stops_is_committed(path: Path) -> None:
    memory = Memory(path)
    async with memory.running():
        memory.store.submit(memory.add("attic"))

    assert set((await kept(path)).devices) == {"attic"}


@pytest.mark.parametrize("damage", ["cut", "garbage", "no tables"])
async def test_a_file_that_is_damaged_at_the_start_is_put_aside_and_begun_anew(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(path)
    async with memory.running():
        await memory.store.commit(memory.add("attic"))
    damaged = damage_file(path, damage)

    again = Memory(path)
    async with again.running():
        await again.store.commit(again.add("cellar"))

    assert again.taken == [Registered()]
    (aside,) = path.parent.glob("gateway.db.damaged-*Z")
    if damage != "no tables":
        assert aside.read_bytes() == damaged
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert aside.name in caplog.text
    assert set((await kept(path)).devices) == {"cellar"}


async def test_a_file_that_is_damaged_in_use_is_replaced_with_what_is_in_memory(path: Path) -> None:
    memory = Memory(path)
    async with memory.running():
        await memory.store.commit(memory.add("attic"))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE devices")
        await memory.store.commit(memory.add("cellar"))

    assert set((await kept(path)).devices) == {"attic", "cellar"}
    assert len(list(path.parent.glob("gateway.db.damaged-*Z"))) == 1


async def test_a_disk_that_damages_every_file_is_not_filled_with_them(path: Path) -> None:
    memory = Memory(path)
    bad = [Statement("INSERT INTO nowhere VALUES (1)")]  # fails in the new file, too
    async with memory.running():
        with pytest.raises(StoreError):
            await memory.store.commit(bad, patience_s=0.3)

        await until(lambda: memory.status.state == "ok" or memory.status.failures > 5)

    assert len(list(path.parent.glob("gateway.db.damaged-*Z"))) == 1


async def test_a_disk_that_fails_at_the_start_costs_nothing_but_time(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = Memory(path)
    async with first.running():
        await first.store.commit(first.add("attic"))
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.write_text("a file in the way of the folder")

    memory = Memory(path)
    async with memory.running():
        memory.store.submit(memory.add("cellar"))
        await until(lambda: memory.status.failures > 3)
        assert memory.store.is_failing
        path.parent.unlink()
        path.parent.with_name("elsewhere").rename(path.parent)
        await memory.store.commit(memory.add("roof"))

    assert set(memory.taken[0].devices) == {"attic"}  # late
    assert set((await kept(path)).devices) == {"attic", "cellar", "roof"}
    messages = [each.getMessage() for each in caplog.records]
    assert len(messages) == 2  # that it fails, and that it works again
    assert "can be written again" in messages[1]


async def test_a_change_is_withdrawn_when_its_patience_ends(path: Path) -> None:
    path.parent.write_text("a file in the way of the folder")
    memory = Memory(path)
    async with memory.running():
        with pytest.raises(StoreError, match="not stored within"):
            await memory.store.commit(memory.add("impatient"), patience_s=0.02)
        path.parent.unlink()
        await memory.store.commit(memory.add("patient"))

    assert set((await kept(path)).devices) == {"patient"}


async def test_more_changes_than_can_wait_are_refused_and_told(path: Path) -> None:
    path.parent.write_text("a file in the way of the folder")
    memory = Memory(path)
    async with memory.running():
        for _ in range(MAX_WAITING):
            memory.store.submit([])
        with pytest.raises(StoreError, match="wait for the disk already"):
            await memory.store.commit([])


async def test_a_file_of_a_newer_version_is_left_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Memory(path).running():
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1000")

    memory = Memory(path)
    async with memory.running():
        assert memory.store.is_failing

    assert "written by a newer edge-gateway" in caplog.text
    assert not list(path.parent.glob("*.damaged*"))


async def test_a_copy_has_what_is_committed(path: Path, tmp_path: Path) -> None:
    memory = Memory(path)
    async with memory.running():
        await memory.store.commit(memory.add("attic"))
        await memory.store.copy_to(tmp_path / "copy.db")
        with pytest.raises(StoreError):
            await memory.store.copy_to(tmp_path / "copy.db")  # is there already

    assert set((await kept(tmp_path / "copy.db")).devices) == {"attic"}


async def test_an_entry_that_cannot_be_read_costs_itself_only(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(path)
    async with memory.running():
        await memory.store.commit(memory.add("attic"))
        await memory.store.commit([Statement("INSERT INTO devices VALUES ('x', '[[[')")])

    assert set((await kept(path)).devices) == {"attic"}
    assert "'x'" in caplog.text
