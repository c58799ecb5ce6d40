"""While the disk fails: what the broker has is noted, boards wait, and nothing is dropped in vain.

The disk fails because somebody else holds the database; SQLite then gives up after a second.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.model import Batch, BatchKind, Sample
from gateway.store.keeper import COMMIT_PARCELS, KeeperOptions
from tests.support.kept_store import KeptStore, until
from tests.support.threads import no_threads


@contextmanager
def locked(kept: KeptStore) -> Iterator[None]:
    """Let nobody else write to the database."""
    with closing(sqlite3.connect(kept.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def unwritable_ledger(kept: KeptStore) -> Iterator[None]:
    """Let nothing be written to the ledger."""
    accounts = kept.store._accounts  # noqa: SLF001 - a disk that fails for this file alone
    assert accounts is not None
    ledger = accounts._ledger  # noqa: SLF001 - as above
    descriptor = ledger._descriptor  # noqa: SLF001 - as above
    saved, read_only = os.dup(descriptor), os.open(ledger.path, os.O_RDONLY)
    os.dup2(read_only, descriptor)
    try:
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(read_only)


def make_wal_unwritable(kept: KeptStore) -> None:
    """Let nothing be written to the WAL that is open, as when there is no room for it."""
    wal = f"{kept.path}-wal"
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if os.path.exists(link := f"/proc/self/fd/{descriptor}") and os.readlink(link) == wal:
            read_only = os.open(wal, os.O_RDONLY)
            os.dup2(read_only, descriptor)
            os.close(read_only)


def samples(kept: KeptStore, device: str, first: int, count: int) -> list[Sample]:
    now_s = kept.clock.monotonic_s()
    return [Sample(device, 1, seq, now_s, {"n": seq}) for seq in range(first, first + count)]


def rows(kept: KeptStore) -> int:
    with closing(sqlite3.connect(f"file:{kept.path}?mode=ro", uri=True)) as connection:
        count: int = connection.execute("SELECT COUNT(*) FROM records").fetchone()[0]
    return count


async def test_what_is_delivered_while_the_disk_fails_does_not_gather_in_memory(
    tmp_path: Path,
) -> None:
    kept = KeptStore(tmp_path)
    async with kept.running():
        await kept.put_and_store([samples(kept, "a", 0, 50)])
        with locked(kept):
            for seq in range(50, 500):
                kept.put(samples(kept, "a", seq, 1))
            await until(lambda: kept.status.state == "failing")
            await kept.deliver()
            assert len(kept.outbox.settled) > 400
            failures = kept.status.failures
            await until(lambda: kept.status.failures == failures + 2)
            assert not kept.outbox.settled
        await until(lambda: rows(kept) == 0)

    assert len(kept.delivered) == 500


async def test_a_disk_works_again_when_it_takes_something_and_is_tried_though_nothing_waits(
    tmp_path: Path,
) -> None:
    kept = KeptStore(tmp_path)
    async with kept.running():
        with locked(kept):
            kept.put(samples(kept, "a", 0, 10))
            await until(lambda: kept.status.state == "failing")
            await kept.deliver()
            failures = kept.status.failures
            await until(lambda: kept.status.failures >= failures + 2)
        await until(lambda: kept.status.state == "ok")

    assert rows(kept) == 0


async def test_boards_go_on_once_the_disk_works_also_without_a_broker(tmp_path: Path) -> None:
    kept = KeptStore(tmp_path, max_records=100)
    told: list[bool] = []
    kept.outbox.on_crowded = told.append
    async with kept.running():
        with locked(kept):
            kept.put(samples(kept, "a", 0, 90))
            await until(lambda: kept.status.state == "failing")
            assert told == [True]
        await until(lambda: told == [True, False])

    assert kept.safe == {("a", 1, seq) for seq in range(90)}


async def test_reading_a_backlog_back_costs_nothing_that_comes_in(tmp_path: Path) -> None:
    kept = KeptStore(tmp_path, max_records=200)
    devices = "abcd"
    async with kept.running():
        for first in range(0, 1000, 40):
            await kept.put_and_store(samples(kept, device, first, 40) for device in devices)
        await until(lambda: kept.outbox.in_memory <= len(devices) * 40)
        batches: list[Batch] = []
        while sum(len(batch.records) for batch in batches) < 2000:
            batch = await kept.outbox.take()
            if batch.kind is not BatchKind.PREVIEW:
                batches.append(batch)
        for first in (0, 90):
            kept.put(samples(kept, "e", first, 90))
        for batch in reversed(batches):
            kept.outbox.returned(batch)
        await kept.deliver()

    assert not kept.counts["samples_dropped"]
    assert len(kept.delivered) == 4 * 1000 + 180


async def test_a_store_without_a_thread_is_opened_and_recalled_when_there_is_one(
    tmp_path: Path,
) -> None:
    before = KeptStore(tmp_path)
    async with before.running():
        await before.put_and_store([samples(before, "a", 0, 10)])
    kept = KeptStore(tmp_path)
    with no_threads():
        async with asyncio.TaskGroup() as tasks:
            failing = tasks.create_task(kept.keeper.run())
            await until(lambda: kept.status.failures == 2)
            failing.cancel()
    assert kept.status.state == "failing"
    assert "can't start new thread: raise the limit" in kept.status.error
    assert kept.recalled == []

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(kept.keeper.run())
        await until(lambda: kept.status.state == "ok")
        await kept.deliver()
        running.cancel()
    await kept.keeper.close()

    assert [(entry.device, entry.stored_next) for entry in kept.recalled] == [("a", 10)]
    assert len(kept.delivered) == 10


async def test_while_a_damaged_store_cannot_be_mended_nothing_gathers_in_memory(
    tmp_path: Path,
) -> None:
    kept = KeptStore(tmp_path)
    in_the_way = tmp_path / "outbox.db.new"
    async with kept.running():
        await kept.put_and_store([samples(kept, "a", 0, 10)])
        while (batch := await kept.outbox.take()).kind is BatchKind.PREVIEW:
            pass
        in_the_way.mkdir()
        kept.keeper._is_damaged = True  # noqa: SLF001 - as when rows cannot be read
        await until(lambda: kept.status.state == "failing")
        kept.outbox.delivered(batch)
        for seq in range(10, 500):
            kept.put(samples(kept, "a", seq, 1))
        await kept.deliver()
        assert len(kept.outbox.settled) > 400
        failures = kept.status.failures
        await until(lambda: kept.status.failures == failures + 2)
        assert not kept.outbox.settled
        in_the_way.rmdir()
        await until(lambda: kept.status.state == "ok")

    assert rows(kept) == 0


async def test_watermarks_are_noted_as_soon_as_the_disk_works_again(tmp_path: Path) -> None:
    kept = KeptStore(tmp_path)
    async with kept.running():
        with unwritable_ledger(kept):
            kept.put(samples(kept, "a", 0, 10))
            kept.moved.append(("a", 1, 7, 10))
            kept.keeper._marked_s = float("-inf")  # noqa: SLF001 - a minute is over
            await until(lambda: kept.status.failures == 2)
        await until(lambda: kept.status.state == "ok")
        kept.copy(tmp_path / "killed")

    killed = KeptStore(tmp_path / "killed")
    async with killed.running():
        pass
    assert [entry.safe_next for entry in killed.recalled] == [7]


async def test_a_commit_is_bounded_and_the_rest_follows_at_once(tmp_path: Path) -> None:
    kept = KeptStore(tmp_path, KeeperOptions(spill_after_s=0.1))
    async with kept.running():
        for seq in range(2 * COMMIT_PARCELS + 1):
            kept.put(samples(kept, "a", seq, 1))
        begun = kept.status.commits
        await until(lambda: not kept.outbox.unsaved)
        assert kept.status.commits >= begun + 3

    assert rows(kept) == 2 * COMMIT_PARCELS + 1


async def test_files_that_cannot_be_written_are_made_anew_once_all_in_them_is_delivered(
    tmp_path: Path,
) -> None:
    kept = KeptStore(tmp_path)
    async with kept.running():
        await kept.put_and_store([samples(kept, "a", 0, 10), samples(kept, "b", 0, 10)])
        make_wal_unwritable(kept)
        kept.put(samples(kept, "a", 10, 10))
        await until(lambda: kept.status.failures >= 3)
        assert kept.status.state == "failing"
        assert rows(kept) == 2
        await kept.deliver()
        await until(lambda: kept.status.state == "ok")
        assert rows(kept) == 0
        await kept.put_and_store([samples(kept, "a", 20, 10)])
        kept.copy(tmp_path / "killed")

    killed = KeptStore(tmp_path / "killed")
    async with killed.running():
        await killed.deliver()
    assert [number for number, _ in killed.delivered.items()] == [
        ("a", 1, seq) for seq in range(20, 30)
    ]


async def test_a_row_of_a_commit_that_was_told_to_fail_does_not_stay(tmp_path: Path) -> None:
    kept = KeptStore(tmp_path)
    async with kept.running():
        await kept.put_and_store([samples(kept, "b", 0, 1)])
        kept.put(samples(kept, "a", 0, 10))
        with unwritable_ledger(kept):  # the transaction succeeds; noting it does not
            await until(lambda: kept.status.failures >= 2)
            assert rows(kept) == 2
            await kept.deliver()
        await until(lambda: kept.status.state == "ok")
        await until(lambda: rows(kept) == 0)
