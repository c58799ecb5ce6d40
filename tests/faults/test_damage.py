"""A damaged store opens, gives what is intact, and says of the rest that it is gone.

The database and its WAL are cut at every sector and their bits are flipped; each time the numbers
that were safe and that the broker does not have come out as they were put, or as lost, in order.
Without SOAK that is a sample: each kind of damage to each file, at fewer places.
"""

import asyncio
import logging
import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.clock import TimeBase
from gateway.model import Gap, GapCause, Record, Sample, Value
from gateway.simulate.faults.disk import SECTOR, cut, flip_bits, flipped
from gateway.store.jobs import Limits
from gateway.store.keeper import KeeperOptions
from gateway.store.ledger_slots import SLOT_BYTES
from gateway.store.recovery import check
from gateway.store.store import Store
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.figures import Figures
from tests.support.kept_store import Fate, KeptStore, Number, fates
from tests.support.memory_folder import memory_folder
from tests.support.sqlite_files import Parts, Span, SqliteFiles, parts_of, survivors
from tests.support.subscriber import Received, Subscriber

DATABASE, WAL, LEDGER = "outbox.db", "outbox.db-wal", "outbox.ledger"

SOAK = bool(os.environ.get("SOAK"))
pytestmark = pytest.mark.timeout(1200 if SOAK else 120)

FLIPS = 3000 if SOAK else 80
EVERY = 1 if SOAK else 5
"""Of so many sectors one is cut at: without SOAK, 5 has no divisor in common with the 8 sectors of
a page, so that pages are cut at each of their sectors."""
HEADER_BYTES = 20
"""What the ledger begins with; zeros follow up to the first slot."""

EACH_KIND = (0, 1, 2, 12)
"""Seeds of a flipped bit in the WAL and in the database, a cut of the database and of the WAL."""

FOR_EVER = 1 << 40


@dataclass(frozen=True)
class Life:
    """A store as a kill leaves it, and what is known of it."""

    folder: Path
    waiting: dict[Number, Fate]
    """What was safe and the broker does not have."""
    settled: dict[Number, Fate]
    """What the broker has."""
    given_up: set[Number]
    """What had to make room; it comes out as lost, or as it was put if it is found after all."""
    files: SqliteFiles
    places: dict[int, Parts]
    """Where each row that waits lies, by its n."""
    numbers: dict[int, set[Number]]
    """What each of them holds."""

    def intact(self, damage: list[Span]) -> set[Number]:
        """Return the numbers of which a whole copy is left."""
        whole = survivors(self.files, self.places, damage)
        return {number for n in whole for number in self.numbers[n]}


class Boards:
    """Boards that take samples, each unlike the others."""

    def __init__(self, seed: int) -> None:
        self._next: Counter[tuple[str, int]] = Counter()
        self._rng = random.Random(seed)

    def rows(
        self, device: str, boot: int, sizes: Iterator[int] | list[int], values: int = 1
    ) -> Iterator[list[Record]]:
        """Yield what comes at a time: `sizes` samples of so many values."""
        for size in sizes:
            records: list[Record] = []
            for _ in range(size):
                seq = self._next[device, boot]
                self._next[device, boot] += 1
                taken: dict[str, Value] = {
                    f"v{each}": self._rng.randrange(10_000) / 100 for each in range(values)
                }
                records.append(Sample(device, boot, seq, boot * 10_000 + seq * 0.25, taken))
            yield records

    def overflow(self, device: str, boot: int, lost: int) -> list[Record]:
        """Return what a board says whose ring ran over."""
        seq = self._next[device, boot]
        self._next[device, boot] += lost
        return [Gap(device, boot, seq, seq + lost - 1, GapCause.RING_OVERFLOW, 1.0)]


async def live(folder: Path, seed: int) -> tuple[dict[Number, Fate], dict[Number, Fate]]:
    """Let a store live through two boots of the machine, into `folder`.

    Returns:
        What waits there, and what the broker has.
    """
    boards = Boards(seed)
    put: dict[Number, Fate] = {}

    async def store(kept: KeptStore, *readings: list[Record]) -> None:
        for records in readings:
            put.update(fates(records, kept.base.offset_s))
        await kept.put_and_store(readings)

    first = KeptStore(folder / "alive", boot_id="first")
    async with first.running():
        await store(
            first,
            *boards.rows("attic", 1, [100] * 3),
            *boards.rows("barn", 1, [1] * 90),
            *boards.rows("eaves", 1, [100] * 2, values=5),  # rows of several pages
            *boards.rows("dock", 1, [100] * 3),
        )
        await store(first, *boards.rows("attic", 1, [1, 2, 3] * 10))
        await first.deliver(300, held=("barn", "eaves", "dock"))
    second = KeptStore(folder / "alive", boot_id="second", base=TimeBase(1_700_100_000.0, "synced"))
    async with second.running():
        await store(
            second,
            *boards.rows("barn", 1, [1] * 40),
            boards.overflow("barn", 1, 7),
            *boards.rows("cellar", 1, [3, 7, 70] * 6),
            *boards.rows("attic", 2, [100] * 2),
        )
        await second.deliver(300, held=("attic", "barn", "eaves"))
        await second.forget()
        second.checkpoint("PASSIVE")  # the WAL stays as long as it is, and begins anew
        await store(
            second,
            *boards.rows("eaves", 1, [100], values=5),
            *boards.rows("barn", 2, [1] * 40),
            *boards.rows("attic", 2, [30, 40, 50]),
        )
        await second.deliver(150, held=("attic", "eaves", "cellar", "dock"))
        await second.forget()
        await store(
            second,
            *boards.rows("dock", 1, [100]),
            *boards.rows("cellar", 1, [9, 11] * 4),
            *boards.rows("barn", 2, [2] * 30),
        )
        second.copy(folder / "killed")
    settled = first.delivered | second.delivered
    assert settled.items() <= put.items()
    safe = first.safe | second.safe
    return {number: fate for number, fate in put.items() if number in safe - set(settled)}, settled


async def live_beyond_the_limit(folder: Path) -> tuple[dict[Number, Fate], dict[Number, Fate]]:
    """Be `live`, with more than there is room for."""
    boards = Boards(2)
    put: dict[Number, Fate] = {}
    options = KeeperOptions(spill_after_s=0.02, limits=Limits(max_bytes=60_000))
    kept = KeptStore(folder / "alive", options)
    async with kept.running():
        for _ in range(12):
            readings = [
                *boards.rows("attic", 1, [100, 20, 3]),
                *boards.rows("barn", 1, [1] * 20),
                *boards.rows("eaves", 1, [60], values=6),
            ]
            put.update(number for records in readings for number in fates(records, 1.7e9))
            await kept.put_and_store(readings)
        await kept.deliver(200, held=("eaves",))
        await kept.forget()
        assert kept.counts["samples_dropped"] > 500
        kept.copy(folder / "killed")
    return {number: put[number] for number in kept.safe - set(kept.delivered)}, kept.delivered


async def given_up_in(folder: Path) -> set[Number]:
    """Return what a sound store tells as lost for want of room."""
    with TemporaryDirectory() as name:
        shutil.copytree(folder, name, dirs_exist_ok=True)
        kept = KeptStore(Path(name))
        async with kept.running():
            await kept.deliver()
    return {n for n, fate in kept.delivered.items() if fate is GapCause.STORE_OVERFLOW}


def examine(folder: Path, waiting: dict[Number, Fate], settled: dict[Number, Fate]) -> Life:
    """Look where each row lies."""
    path = folder / "outbox.db"
    database, wal = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    with TemporaryDirectory() as name:
        shutil.copytree(folder, name, dirs_exist_ok=True)
        with closing(sqlite3.connect(Path(name) / "outbox.db")) as connection:
            rows = {row[0]: row[:9] for row in connection.execute("SELECT * FROM records")}
    files = SqliteFiles(database, wal, rows, rows)
    places = {n: parts_of(files, row) for n, row in rows.items()}
    numbers = {
        n: {(row[1], row[2], seq) for seq in range(row[3], row[4] + 1)} for n, row in rows.items()
    }
    assert set().union(*numbers.values()) == set(waiting)
    given_up = {number for number, fate in settled.items() if fate is GapCause.STORE_OVERFLOW}
    given_up |= asyncio.run(given_up_in(folder))
    return Life(folder, waiting, settled, given_up, files, places, numbers)


@pytest.fixture(scope="module")
def quick_folder() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def told_in_brief() -> Iterator[None]:
    """Keep what a thousand damaged stores say out of the report of one that fails."""
    loggers = [logging.getLogger(f"gateway.store.{name}") for name in ("store", "keeper")]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger in loggers:
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def life(quick_folder: Path) -> Life:
    waiting, settled = asyncio.run(live(quick_folder / "life", seed=1))
    return examine(quick_folder / "life" / "killed", waiting, settled)


@pytest.fixture(scope="module")
def full_life(quick_folder: Path) -> Life:
    waiting, settled = asyncio.run(live_beyond_the_limit(quick_folder / "full_life"))
    return examine(quick_folder / "full_life" / "killed", waiting, settled)


def check_order(delivered: list[Number], label: str) -> None:
    """Fail unless the numbers of each device come in order, boot after boot."""
    newest: dict[str, tuple[int, int]] = {}
    for device, boot, seq in delivered:
        assert newest.get(device, (0, -1)) < (boot, seq), f"{label}: {device}/{boot}/{seq}"
        newest[device] = boot, seq


def check_fates(life: Life, found: dict[Number, Fate], intact: set[Number], label: str) -> int:
    """Fail unless what comes out of a damaged copy is all it must be, and nothing else.

    Returns:
        How many numbers are gone.
    """
    put = life.waiting | life.settled
    gone = {number for number, fate in found.items() if fate is GapCause.CORRUPT_STORE}
    told = {number for number, fate in found.items() if fate is GapCause.STORE_OVERFLOW}
    seen = found.keys() - gone - (told & life.given_up)
    wrong = {number for number in seen if found[number] != put.get(number)}
    check_order(list(found), label)
    assert life.waiting.keys() - found.keys() == set(), f"{label}: neither delivered nor lost"
    assert wrong == set(), f"{label}: not what was put"
    assert gone - life.waiting.keys() == set(), f"{label}: delivered, and called lost"
    assert (intact & gone) - life.given_up == set(), f"{label}: intact, and called lost"
    return len(gone)


async def check_opens(life: Life, folder: Path, damage: list[Span], label: str) -> int:
    """Open a damaged copy, and be the broker; fail unless what comes out is right.

    Returns:
        How many numbers are gone.
    """
    kept = KeptStore(folder, boot_id="third", base=TimeBase(0.0, "unsynced"))
    async with kept.running():
        await kept.deliver()
    gone = check_fates(life, kept.delivered, life.intact(damage), label)

    store = Store(kept.path, Limits())
    try:
        check(kept.path, store.open_ledger())  # once mended it is sound
    finally:
        store.close()
    return gone


@contextmanager
def damaged(life: Life, beside: Path) -> Iterator[Path]:
    """Give a copy to be damaged."""
    copy = beside / "damaged"
    shutil.copytree(life.folder, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


@pytest.mark.parametrize("name", [DATABASE, WAL])
async def test_a_store_cut_at_any_sector_gives_what_is_intact_and_names_the_rest(
    name: str, life: Life, quick_folder: Path, figures: Figures
) -> None:
    gone: list[int] = []
    for offset in range(0, (life.folder / name).stat().st_size, SECTOR * EVERY):
        with damaged(life, quick_folder) as copy:
            cut(copy / name, offset)
            damage = [Span(name == WAL, offset, FOR_EVER)]
            gone.append(await check_opens(life, copy, damage, f"{name} cut at {offset}"))
    assert gone[0] > 100
    figures(f"{name} cut at sectors: opened", f"{len(gone)} times", "every time")
    figures(f"{name} cut at sectors: samples gone", f"{min(gone)} to {max(gone)}")


async def test_flipped_bits_cost_no_row_but_the_one_they_hit(
    life: Life, quick_folder: Path, figures: Figures
) -> None:
    names = [DATABASE, WAL]
    sizes = [(life.folder / name).stat().st_size for name in names]
    gone: list[int] = []
    for seed in range(FLIPS):
        rng = random.Random(seed)
        (name,) = rng.choices(names, sizes)
        with damaged(life, quick_folder) as copy:
            at = flip_one(copy / name, seed)
            damage = [Span(name == WAL, at, at + 1)]
            gone.append(await check_opens(life, copy, damage, f"flip {seed} in {name} at {at}"))
    assert any(gone)
    figures("bits flipped: opened", f"{len(gone)} times", "every time")
    figures("bits flipped: most samples gone", f"{max(gone)}")


async def test_much_damage_at_once_is_told_as_exactly(life: Life, quick_folder: Path) -> None:
    for seed in range(1000 if SOAK else 20):
        with damaged(life, quick_folder) as copy:
            damage = damage_at_random(copy, seed)
            await check_opens(life, copy, damage, f"seed {seed}: {damage}")


def damage_at_random(folder: Path, seed: int) -> list[Span]:
    """Flip bits, zero sectors and perhaps cut an end off; return where."""
    rng = random.Random(seed)
    damage: list[Span] = []
    for name in (DATABASE, WAL):
        content = bytearray((folder / name).read_bytes())
        for _ in range(rng.randrange(12)):
            at = rng.randrange(len(content))
            content[at] ^= 1 << rng.randrange(8)
            damage.append(Span(name == WAL, at, at + 1))
        for _ in range(rng.randrange(6)):
            at = rng.randrange(0, len(content), SECTOR)
            content[at : at + SECTOR] = bytes(min(SECTOR, len(content) - at))
            damage.append(Span(name == WAL, at, at + SECTOR))
        if rng.random() < 0.3:
            at = rng.randrange(0, len(content), SECTOR)
            del content[at:]
            damage.append(Span(name == WAL, at, FOR_EVER))
        (folder / name).write_bytes(content)
    return damage


async def test_what_had_to_make_room_is_not_told_twice_when_the_store_is_damaged(
    full_life: Life, quick_folder: Path
) -> None:
    assert len(full_life.given_up) > 500
    for name in (DATABASE, WAL):
        size = (full_life.folder / name).stat().st_size
        for offset in range(0, size, SECTOR * (1 if SOAK else 1 + size // SECTOR // 15)):
            with damaged(full_life, quick_folder) as copy:
                cut(copy / name, offset)
                damage = [Span(name == WAL, offset, FOR_EVER)]
                await check_opens(full_life, copy, damage, f"{name} cut at {offset}")
        for seed in range(200 if SOAK else 10):
            with damaged(full_life, quick_folder) as copy:
                at = flip_one(copy / name, seed)
                damage = [Span(name == WAL, at, at + 1)]
                await check_opens(full_life, copy, damage, f"flip {seed} in {name} at {at}")


def flip_one(path: Path, seed: int) -> int:
    """Flip a bit of a file; return where."""
    before = path.read_bytes()
    flip_bits(path, seed)
    after = path.read_bytes()
    (at,) = (at for at in range(len(before)) if before[at] != after[at])
    return at


async def test_a_damaged_ledger_loses_nothing_and_says_so(
    life: Life, quick_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = (life.folder / LEDGER).stat().st_size
    used = (life.folder / LEDGER).read_bytes().rstrip(b"\0")
    for offset in range(0, size, SLOT_BYTES if SOAK else size // 32):
        with damaged(life, quick_folder) as copy:
            cut(copy / LEDGER, offset)
            assert await check_opens(life, copy, [], f"ledger cut at {offset}") == 0
    for seed in range(200 if SOAK else 24):
        with damaged(life, quick_folder) as copy:
            content = flipped(used, seed)
            (copy / LEDGER).write_bytes(content.ljust(size, b"\0"))
            caplog.clear()
            assert await check_opens(life, copy, [], f"flip {seed} in the ledger") == 0
            at = next(at for at in range(len(used)) if content[at] != used[at])
            assert "damaged" in caplog.text or HEADER_BYTES <= at < SLOT_BYTES, f"flip {seed}"


@pytest.mark.parametrize("seed", range(20) if SOAK else EACH_KIND)
async def test_the_daemon_starts_on_a_damaged_store_and_tells_what_is_gone(
    seed: int, life: Life, quick_folder: Path, broker: Broker
) -> None:
    rng = random.Random(seed)
    name = rng.choice([DATABASE, WAL])
    found: dict[Number, Fate] = {}

    def has_all(messages: Sequence[Received]) -> bool:
        for message in messages[len(seen) :]:
            seen.append(message)
            found.update(published(message))
        return found.keys() >= life.waiting.keys()

    seen: list[Received] = []
    with damaged(life, quick_folder) as copy:
        size = (copy / name).stat().st_size
        if rng.random() < 0.5:
            at, end = rng.randrange(0, size, SECTOR), FOR_EVER
            cut(copy / name, at)
        else:
            at = flip_one(copy / name, seed)
            end = at + 1
        label = f"seed {seed}: {name} from {at} to {end}"
        async with (
            Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
            running_daemon(
                copy / "daemon",
                broker.port,
                f"{copy}/none*",
                more="[outbox]\ndrain_rate = 1000000\n",
                environment=os.environ | {"STATE_DIRECTORY": str(copy)},
            ) as daemon,
        ):
            await subscriber.wait_for(has_all)
            log = daemon.log()
    gone = check_fates(life, found, life.intact([Span(name == WAL, at, end)]), label)
    if gone:
        assert f"{gone} samples are gone" in log, label


def published(message: Received) -> dict[Number, Fate]:
    """Return what a message says of the past; a state says it again, in its place."""
    device, _, kind = message.topic.removeprefix("edge/test/").partition("/")
    if kind == "gap":
        gap = message.json()
        numbers = range(gap["from"], gap["to"] + 1)
        return {(device, gap["boot"], seq): GapCause(gap["cause"]) for seq in numbers}
    found: dict[Number, Fate] = {}
    for sample in message.json() if kind == "history" else ():
        _, boot, seq = sample.pop("id").split("/")
        unix_s = datetime.fromisoformat(sample.pop("time")).timestamp()
        sample.pop("time_quality")
        found[device, int(boot), int(seq)] = (unix_s, sample)
    return found
