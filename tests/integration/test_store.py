"""The outbox with its keeper, on a real SQLite file."""

import asyncio
import os
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.clock import Clock, TimeBase
from gateway.errors import ConfigError, StoreError
from gateway.model import Batch, BatchKind, Gap, GapCause, Readings, Record, Sample
from gateway.status import StoreStatus
from gateway.store.jobs import Limits
from gateway.store.keeper import Keeper, KeeperOptions
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.store.rows import Moment
from gateway.store.store import Store

SPILL_AFTER_S = 0.1


@dataclass
class Rig:
    """An outbox whose store is in `folder`."""

    folder: Path
    keeper_options: KeeperOptions = field(
        default_factory=lambda: KeeperOptions(spill_after_s=SPILL_AFTER_S)
    )
    drain_rate: float = 1_000_000.0
    clock: Clock = field(default_factory=Clock)
    base: TimeBase = field(default_factory=lambda: TimeBase(1_700_000_000.0, "synced"))

    def __post_init__(self) -> None:
        self.status = StoreStatus()
        self.counts: Counter[str] = Counter()
        self.safe: list[tuple[str, int, int]] = []
        self.outbox = Outbox(
            OutboxOptions(
                live_s=self.keeper_options.spill_after_s,
                drain_rate=self.drain_rate,
                always_stores=self.keeper_options.always_stores,
            ),
            self.counts,
            self.clock,
        )
        self.store = Store(self.path, self.keeper_options.limits)
        self.keeper = Keeper(
            self.store,
            self.outbox,
            self.keeper_options,
            clock=self.clock,
            time_base=lambda: self.base,
            status=self.status,
        )

    @property
    def path(self) -> Path:
        return self.folder / "outbox.db"

    def put(self, device: str, seqs: Sequence[int], boot: int = 1) -> None:
        now_s = self.clock.monotonic_s()
        records = tuple(Sample(device, boot, seq, now_s, {"n": seq}) for seq in seqs)
        readings = Readings(device, records, lambda: self.safe.append((device, seqs[0], seqs[-1])))
        self.outbox.put(readings)

    async def until(self, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)

    async def take_all(self) -> list[Batch]:
        """Take and deliver until nothing is left."""
        batches = []
        async with asyncio.timeout(20):
            while self.outbox.size:
                batch = await self.outbox.take()
                if batch.kind is not BatchKind.PREVIEW:
                    self.outbox.delivered(batch)
                batches.append(batch)
        return batches

    def rows(self) -> int:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM records").fetchone()[0])

    def checkpoint(self) -> None:
        """Fold the WAL into the file."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@asynccontextmanager
async def kept(rig: Rig, *, is_claimed: bool = False) -> AsyncIterator[Rig]:
    """Run the keeper, and stop it in order."""
    if not is_claimed:
        await rig.keeper.open_ledger()
    running = asyncio.ensure_future(rig.keeper.run())  # noqa: TID251 - cancelled below
    try:
        await rig.until(lambda: rig.status.state == "ok" or running.done())
        yield rig
    finally:
        running.cancel()
        await asyncio.wait([running])
        await rig.keeper.close()
        if not running.cancelled():
            running.result()


def numbers(batches: Sequence[Batch], device: str) -> list[int]:
    return [seq for batch in batches if batch.device == device for seq in seqs_of(batch.records)]


def seqs_of(records: Sequence[Record]) -> list[int]:
    return [
        seq
        for record in records
        for seq in (
            range(record.first_seq, record.last_seq + 1)
            if isinstance(record, Gap)
            else [record.seq]
        )
    ]


def published(batches: Sequence[Batch]) -> list[Batch]:
    return [batch for batch in batches if batch.kind is not BatchKind.PREVIEW]


async def test_what_the_broker_takes_at_once_never_reaches_the_disk(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)) as rig:
        for seq in range(50):
            rig.put("a", [seq])
            await rig.take_all()
        await asyncio.sleep(SPILL_AFTER_S * 3)  # longer than anything would wait for its commit

        assert rig.status.stored == 0
        assert len(rig.safe) == 50


async def test_what_waits_is_committed_then_safe_and_read_back_in_order(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)) as rig:
        for seq in range(0, 3000, 10):
            rig.put("a", range(seq, seq + 10))
        rig.put("b", [7])
        await rig.until(lambda: rig.outbox.on_disk == 3001)
        assert rig.rows() == 301
        assert len(rig.safe) == 301, "committed, so safe, though no broker has it"
        assert rig.outbox.in_memory == 0

        batches = await rig.take_all()

        assert numbers(published(batches), "a") == list(range(3000))
        assert numbers(published(batches), "b") == [7]
        assert all(batch.kind is BatchKind.BACKLOG for batch in published(batches))
        await rig.until(lambda: rig.rows() == 0)


async def test_a_killed_gateway_finds_all_that_was_safe(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path / "first")) as rig:
        for seq in range(500):
            rig.put(f"device-{seq % 5}", [seq // 5])
        await rig.until(lambda: len(rig.safe) == 500)
        shutil.copytree(tmp_path / "first", tmp_path / "killed")  # as a kill would leave the files

    async with kept(Rig(tmp_path / "killed")) as again:
        again.put("device-0", [100])
        batches = published(await again.take_all())

    for device in range(5):
        expected = list(range(101 if device == 0 else 100))
        assert numbers(batches, f"device-{device}") == expected


async def test_a_clean_stop_commits_everything(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)) as rig:
        rig.put("a", [1, 2, 3])
    assert rig.safe == [("a", 1, 3)]

    async with kept(Rig(tmp_path)) as again:
        batches = published(await again.take_all())

    assert numbers(batches, "a") == [1, 2, 3]


async def test_in_always_mode_nothing_is_handed_out_before_its_commit(tmp_path: Path) -> None:
    options = KeeperOptions(60.0, always_stores=True)
    async with kept(Rig(tmp_path, options)) as rig:
        for seq in range(100):
            rig.put("a", [seq])
            assert not rig.outbox.has_waiting or rig.rows()
            async with asyncio.timeout(5):
                batch = await rig.outbox.take()
            assert len(rig.safe) == seq + 1, "safe before it is handed out"
            assert batch.kind is BatchKind.LIVE
            rig.outbox.delivered(batch)
        await rig.until(lambda: rig.rows() == 0)


async def test_in_always_mode_nothing_passes_a_store_that_is_being_opened(tmp_path: Path) -> None:
    rig = Rig(tmp_path, KeeperOptions(60.0, always_stores=True))
    rig.put("a", [0])
    async with asyncio.TaskGroup() as tasks:
        taking = tasks.create_task(rig.outbox.take())
        await rig.keeper.open_ledger()
        assert not taking.done()
        async with kept(rig, is_claimed=True):
            await rig.until(taking.done)
            assert rig.rows() == 1
            assert rig.safe == [("a", 0, 0)]


async def test_in_always_mode_a_store_that_takes_long_to_open_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = KeeperOptions(60.0, always_stores=True, opening_s=0.05)
    rig = Rig(tmp_path, options)
    await rig.keeper.open_ledger()
    rig.put("a", [0])
    may_open = threading.Event()
    holding_up = rig.keeper._thread.start(may_open.wait)  # noqa: SLF001 - the thread has other work
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(rig.keeper.run())
        batch = await rig.outbox.take()
        assert rig.status.state == "opening"
        may_open.set()
        await holding_up
        await rig.until(lambda: rig.status.state == "ok")
        rig.outbox.delivered(batch)
        rig.put("a", [1])
        assert seqs_of((await rig.outbox.take()).records) == [1]
        assert rig.safe == [("a", 0, 0), ("a", 1, 1)]
        running.cancel()
    await rig.keeper.close()

    assert "the store is still being opened" in caplog.text


async def test_the_newest_sample_goes_first_and_again_in_its_place(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)) as rig:
        for seq in range(300):
            rig.put("a", [seq])
        await rig.until(lambda: rig.outbox.on_disk == 300)
        rig.outbox.reconnected()

        batches = await rig.take_all()

        assert batches[0].kind is BatchKind.PREVIEW
        assert seqs_of(batches[0].records) == [299]
        assert numbers(published(batches), "a") == list(range(300))


async def test_after_a_restart_the_newest_is_found_on_disk(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)) as rig:
        rig.put("a", range(50))
        rig.put("b", range(5))

    async with kept(Rig(tmp_path)) as again:
        again.outbox.reconnected()
        async with asyncio.timeout(5):
            first, second = await again.outbox.take(), await again.outbox.take()

        assert {(batch.device, *seqs_of(batch.records)) for batch in (first, second)} == {
            ("a", 49),
            ("b", 4),
        }
        assert first.kind is second.kind is BatchKind.PREVIEW


async def test_the_newest_on_disk_is_the_newest_that_has_values(tmp_path: Path) -> None:
    def empty(seq: int) -> Readings:
        return Readings("a", (Sample("a", 1, seq, 0.0, {}),))

    async with kept(Rig(tmp_path)) as rig:
        rig.put("a", [0, 1])
        gap = Gap("a", 1, 3, 3, GapCause.RING_OVERFLOW, 0.0)
        rig.outbox.put(Readings("a", (*empty(2).records, gap)))
        for seq in range(4, 9):
            rig.outbox.put(empty(seq))
        await rig.until(lambda: rig.status.stored == 9)

    async with kept(Rig(tmp_path)) as again:
        batches = await again.take_all()

    assert batches[0].kind is BatchKind.PREVIEW
    assert seqs_of(batches[0].records) == [1]
    assert numbers(published(batches), "a") == list(range(9))


async def test_what_nobody_wants_is_no_loss_between_what_is_stored(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)) as rig:
        rig.put("a", [0, 1])
        await rig.until(lambda: rig.status.stored == 2)
        rig.outbox.pass_over(Readings("a", (Sample("a", 1, 2, 0.0, {"n": 2}),)))
        rig.put("a", [3])
        await rig.until(lambda: rig.status.stored == 3)

    async with kept(Rig(tmp_path)) as again:
        batches = published(await again.take_all())

    assert numbers(batches, "a") == [0, 1, 3]


async def test_a_full_store_gives_up_the_oldest_and_says_so(tmp_path: Path) -> None:
    options = KeeperOptions(SPILL_AFTER_S, limits=Limits(max_bytes=70_000))
    async with kept(Rig(tmp_path, options)) as rig:
        for turn in range(40):
            rig.put("a", range(turn * 100, turn * 100 + 100))
            rig.put("b", [turn])
            stored = (turn + 1) * 2
            await rig.until(lambda stored=stored: len(rig.safe) == stored)
        assert rig.status.bytes < 80_000

        batches = published(await rig.take_all())

    assert numbers(batches, "a") == list(range(4000))
    assert numbers(batches, "b") == list(range(40))
    gaps = [r for batch in batches for r in batch.records if isinstance(r, Gap)]
    assert {gap.cause for gap in gaps} == {GapCause.STORE_OVERFLOW}
    lost = sum(gap.count for gap in gaps)
    assert lost == rig.counts["samples_dropped"] > 0


async def test_what_is_just_being_read_back_is_not_given_up_meanwhile(tmp_path: Path) -> None:
    """The gap would stand below what the device was read up to, and never be seen."""
    options = KeeperOptions(SPILL_AFTER_S, limits=Limits(max_bytes=70_000))
    async with kept(Rig(tmp_path, options)) as rig:
        turns = 0
        while rig.status.bytes < 65_000:
            rig.put("a", range(turns * 100, turns * 100 + 100))
            turns += 1
            await rig.until(lambda: not rig.outbox.in_memory)
        assert not rig.counts["samples_dropped"]
        assert (await rig.outbox.take()).kind is BatchKind.PREVIEW
        async with asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(rig.outbox.take())
            await asyncio.sleep(0)  # now rows are being read; nobody has them yet
            for turn in range(turns, turns + 6):
                rig.put("b", range(turn * 100, turn * 100 + 100))
            parcels = rig.outbox.begin_saving(float("inf"))
            committing = rig.keeper._submit(parcels)  # noqa: SLF001 - at this very moment
            await committing
        rig.outbox.delivered(taking.result())
        batches = published([taking.result(), *await rig.take_all()])

    assert rig.counts["samples_dropped"] > 0
    assert numbers(batches, "a") == list(range(turns * 100))


@pytest.mark.parametrize("name", ["outbox.db", "outbox.db-wal", "outbox.db.lock", "outbox.ledger"])
async def test_a_folder_in_place_of_a_file_is_told_with_what_to_do(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    store = Store(tmp_path / "outbox.db", Limits())
    moment = Moment(1, TimeBase(0.0, "synced"), 0.0)

    def open_all() -> None:
        store.open_ledger()
        store.open(moment)

    with pytest.raises(StoreError) as told:
        open_all()
    store.close()

    assert str(told.value) == (
        f"{tmp_path / name} is a folder, where the outbox needs a file: "
        "move it away, or set another path in [outbox]"
    )


async def test_a_file_in_place_of_the_folder_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state").touch()

    with pytest.raises(StoreError) as told:
        Store(tmp_path / "state" / "deeper" / "outbox.db", Limits()).open_ledger()

    assert str(told.value) == (
        f"{tmp_path / 'state'} is a file, where the outbox needs a folder for outbox.db: "
        "move it away, or set another path in [outbox]"
    )


async def test_two_gateways_do_not_share_a_store(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)):
        with pytest.raises(ConfigError, match="in use by another edge-gateway"):
            await Rig(tmp_path).keeper.open_ledger()


async def test_times_of_an_earlier_boot_of_the_machine_are_kept(tmp_path: Path) -> None:
    first = Clock(boot_id="first")
    async with kept(Rig(tmp_path, clock=first, base=TimeBase(100.0, "unsynced"))) as rig:
        rig.put("a", [1])
        await rig.until(lambda: rig.outbox.on_disk == 1)
        rig.base = TimeBase(5000.0, "synced")
        rig.put("a", [2])
        await rig.until(lambda: rig.outbox.on_disk == 2)

    second = Clock(boot_id="second")
    async with kept(Rig(tmp_path, clock=second, base=TimeBase(900.0, "unsynced"))) as again:
        batches = published(await again.take_all())

    assert [batch.time_base for batch in batches] == [TimeBase(5000.0, "synced")]


async def test_damage_while_it_runs_is_mended_from_memory_and_disk(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)) as rig:
        for seq in range(2000):
            rig.put("a", [seq])
        await rig.until(lambda: rig.outbox.on_disk == 2000)
        rig.checkpoint()
        raw = bytearray(rig.path.read_bytes())
        raw[4096 * 2 : 4096 * 3] = bytes(4096)  # the root of the index
        rig.path.write_bytes(raw)

        rig.put("a", [2000])

        batches = published(await rig.take_all())
        await rig.until(lambda: rig.status.failures and rig.status.state == "ok")
        await rig.until(lambda: rig.rows() == 0)

    assert numbers(batches, "a") == list(range(2001))
    assert any(name.startswith("outbox.db.damaged-") for name in os.listdir(tmp_path))


async def test_a_damaged_page_costs_its_samples_and_no_others(tmp_path: Path) -> None:
    async with kept(Rig(tmp_path)) as rig:
        for seq in range(3000):
            rig.put("a", [seq])
        await rig.until(lambda: rig.outbox.on_disk == 3000)
    raw = bytearray(rig.path.read_bytes())
    raw[4096 * 20 : 4096 * 21] = bytes(4096)
    rig.path.write_bytes(raw)

    async with kept(Rig(tmp_path)) as again:
        batches = published(await again.take_all())

    assert numbers(batches, "a") == list(range(3000))
    gaps = [r for batch in batches for r in batch.records if isinstance(r, Gap)]
    assert [gap.cause for gap in gaps] == [GapCause.CORRUPT_STORE]
    assert 10 < gaps[0].count < 100


async def test_what_comes_before_the_store_is_open_does_not_pass_what_is_in_it(
    tmp_path: Path,
) -> None:
    async with kept(Rig(tmp_path)) as rig:
        rig.put("a", range(100))

    again = Rig(tmp_path)
    await again.keeper.open_ledger()
    again.put("a", [100])
    again.put("b", [0])
    async with asyncio.timeout(5):
        early = [await again.outbox.take(), await again.outbox.take()]
    assert [(batch.device, batch.kind) for batch in early] == [
        ("a", BatchKind.PREVIEW),
        ("b", BatchKind.LIVE),
    ]
    again.outbox.delivered(early[1])
    async with kept(again, is_claimed=True):
        batches = published(await again.take_all())

    assert numbers(batches, "a") == list(range(101))
