"""A new store made of a damaged one: what is found, what is told as gone, and where."""

import shutil
import sqlite3
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import TimeBase
from gateway.model import Gap, GapCause, Record, Sample
from gateway.store import recovery
from gateway.store.database import Database
from gateway.store.keeper import KeeperOptions
from gateway.store.ledger import Entry
from gateway.store.outstanding import Epoch
from gateway.store.parcels import Parcel
from gateway.store.recovery import InMemory
from gateway.store.rows import Moment, Row, parcel_of, row_of
from tests.support.effort import examples
from tests.support.kept_store import KeptStore, fates, until
from tests.support.memory_folder import memory_folder

MOMENT = Moment(1, TimeBase(1_700_000_000.0, "synced"), 5.0)


def row(n: int, device: str, boot: int, first_seq: int, count: int) -> Row:
    seqs = range(first_seq, first_seq + count)
    samples = [Sample(device, boot, seq, float(seq), {"n": seq}) for seq in seqs]
    return row_of(Parcel(n, device, samples, None, 0.0), MOMENT)


def make_store(path: Path, rows: Sequence[Row]) -> None:
    with Database(path) as database:
        database.write(rows, (), {})


def remove_rows(path: Path, numbers: set[int]) -> None:
    """Take rows away without a trace, as if the pages they were on could not be read."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany("DELETE FROM records WHERE n = ?", [(n,) for n in numbers])
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def ledger_of(rows: Sequence[Row], settled: AbstractSet[int] = frozenset()) -> dict[Epoch, Entry]:
    """Return what the ledger says when all of these were stored, and some were delivered."""
    entries: dict[Epoch, Entry] = {}
    for each in rows:
        epoch = (each.device, each.boot)
        entry = entries.get(epoch) or Entry(*epoch, 0, 0, 0, each.first_seq, each.n)
        next_seq = each.last_seq + 1
        entries[epoch] = entry._replace(
            stored_next=next_seq,
            settled_next=next_seq if each.n in settled else entry.settled_next,
        )
    return entries


def told(path: Path) -> dict[str, list[tuple[int, int, bool]]]:
    """Return boot, number, and whether it is lost, of each device, as they will be published."""
    found: dict[str, list[tuple[int, int, bool]]] = {}
    with Database(path) as database:
        for each in database.rows():
            numbers = found.setdefault(each.device, [])
            for record in parcel_of(each, MOMENT, {}).records:
                if isinstance(record, Gap):
                    assert record.cause is GapCause.CORRUPT_STORE
                    seqs = range(record.first_seq, record.last_seq + 1)
                    numbers += [(each.boot, seq, True) for seq in seqs]
                else:
                    numbers.append((each.boot, record.seq, False))
    return found


@dataclass(frozen=True)
class Story:
    """What became of the rows of a store."""

    rows: list[Row]
    settled: set[int]
    """Delivered, and gone for good; of each device the oldest."""
    lost: set[int]
    is_running: bool
    """Whether the damage is found while the store is in use."""

    @property
    def cursors(self) -> dict[str, int]:
        return {each.device: each.n for each in self.rows if each.n in self.settled}


@st.composite
def stories(draw: st.DrawFn) -> Story:
    lives = {device: [0, 0] for device in "abc"}  # boot and next seq
    rows: list[Row] = []
    for n, device in enumerate(draw(st.text("abc", min_size=8, max_size=40)), 1):
        if draw(st.booleans()):
            lives[device] = [lives[device][0] + 1, 0]
        boot, seq = lives[device]
        rows.append(row(n, device, 50 - boot, seq, count := draw(st.integers(1, 3))))
        lives[device][1] += count
    settled: set[int] = set()
    for device in "abc":
        mine = [each.n for each in rows if each.device == device]
        settled.update(mine[: draw(st.integers(0, len(mine)))])
    left = [each.n for each in rows if each.n not in settled]
    lost = draw(st.sets(st.sampled_from(left))) if left else set()
    return Story(rows, settled, lost, draw(st.booleans()))


@given(stories())
@settings(max_examples=examples(300), deadline=None)
def test_gaps_stand_where_their_samples_stood(story: Story) -> None:
    end_n = len(story.rows) + 1
    with memory_folder() as folder:
        path = folder / "outbox.db"
        make_store(path, story.rows)
        remove_rows(path, story.lost | story.settled)
        in_memory = InMemory((), story.cursors, end_n) if story.is_running else InMemory()

        report = recovery.rebuild(path, ledger_of(story.rows, story.settled), MOMENT, in_memory)

        expected: dict[str, list[tuple[int, int, bool]]] = {}
        for each in story.rows:
            if each.n not in story.settled:
                numbers = expected.setdefault(each.device, [])
                seqs = range(each.first_seq, each.last_seq + 1)
                numbers += [(each.boot, seq, each.n in story.lost) for seq in seqs]
        assert told(path) == expected
        lost = sum(each.size for each in story.rows if each.n in story.lost)
        assert sum(gap.count for gap in report.gaps) == lost
        if story.is_running:
            with Database(path) as database:
                assert database.last_n() < end_n, "those are the numbers of parcels in memory"
                for device, cursor in story.cursors.items():
                    assert all(n > cursor for n, *_ in database.rows_of(device)), "never read"


def test_a_row_hidden_by_another_of_its_number_is_found(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    hidden, before, hiding = row(2, "a", 1, 5, 5), row(1, "a", 1, 0, 5), row(2, "b", 1, 0, 5)
    with Database(path) as database:
        database.write((before, hidden), (), {})
        database.write((), (2,), {})
        database.write((hiding,), (), {})  # the WAL still has the other
        shutil.copytree(tmp_path, tmp_path / "killed")
    killed = tmp_path / "killed" / "outbox.db"

    report = recovery.rebuild(killed, ledger_of((before, hidden, hiding)), MOMENT)

    assert report.gaps == []
    assert told(killed) == {
        "a": [(1, seq, False) for seq in range(10)],
        "b": [(1, seq, False) for seq in range(5)],
    }


@pytest.mark.parametrize("renamed", [(), ("-wal",), ("-wal", "")])
def test_a_kill_between_the_renamings_loses_nothing(tmp_path: Path, renamed: Sequence[str]) -> None:
    path, rows = tmp_path / "outbox.db", [row(n, "a", 1, n, 1) for n in range(1, 50)]
    with Database(path) as database:
        database.write(rows, (), {})
        shutil.copytree(tmp_path, tmp_path / "killed")
    killed = tmp_path / "killed" / "outbox.db"
    with Database(killed.with_name("outbox.db.whole")) as whole:
        whole.write(rows, (), {})
    for suffix in renamed:
        Path(f"{killed}{suffix}").rename(f"{killed}.damaged-20261122T120000.000000Z{suffix}")

    recovery.finish_renaming(killed)

    recovery.check(killed, ledger_of(rows).values())
    assert told(killed) == {"a": [(1, n, False) for n in range(1, 50)]}
    assert not Path(f"{killed}-wal").exists()
    assert len(list(killed.parent.glob("outbox.db.damaged-*Z"))) == 1


async def test_what_was_delivered_while_older_ones_were_held_is_not_missed_after_a_kill(
    tmp_path: Path,
) -> None:
    def samples(first: int) -> list[Record]:
        return [Sample("a", 1, seq, float(seq), {"n": seq}) for seq in range(first, first + 100)]

    kept = KeptStore(tmp_path / "alive", KeeperOptions(spill_after_s=0.3))
    async with kept.running():
        kept.put(samples(0))
        kept.put(samples(100))
        refused, taken = await kept.outbox.take(), await kept.outbox.take()
        kept.outbox.hold("a")
        kept.outbox.returned(refused)
        kept.outbox.delivered(taken)
        await kept.put_and_store([samples(200)])
        kept.copy(tmp_path / "killed")

    killed = KeptStore(tmp_path / "killed")
    async with killed.running():
        await killed.deliver()

    put = dict(fates([*samples(0), *samples(200)], kept.base.offset_s))
    assert killed.delivered == put


async def test_a_gap_for_which_no_number_is_free_and_what_is_not_stored_yet_both_remain(
    tmp_path: Path,
) -> None:
    kept = KeptStore(tmp_path / "alive")
    (tmp_path / "alive").mkdir()
    now_s = kept.clock.monotonic_s()
    async with kept.running():
        rows = [[Sample("b", 1, seq, now_s, {})] for seq in range(3)]  # their numbers are 1 to 3
        await kept.put_and_store(rows)
        accounts = kept.store._accounts  # noqa: SLF001 - what it says was lost long ago
        assert accounts is not None
        ledger = accounts._ledger  # noqa: SLF001 - as above
        ledger.put([Entry("a", 1, 0, 10, 10, 0)])
        kept.keeper._is_damaged = True  # noqa: SLF001 - as when a row cannot be read
        for seq in range(2):
            kept.put([Sample("c", 1, seq, now_s, {})])
        await until(lambda: not kept.outbox.unsaved)
        await kept.deliver()

    came = {device: [n for n in kept.delivered if n[0] == device] for device in "ac"}
    assert came == {
        "a": [("a", 1, seq) for seq in range(10)],
        "c": [("c", 1, seq) for seq in range(2)],
    }
    assert {kept.delivered[number] for number in came["a"]} == {GapCause.CORRUPT_STORE}
