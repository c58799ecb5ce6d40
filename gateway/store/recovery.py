"""Whether the store holds all it should, and a new one made of what a damaged one still has.

The ledger says which samples must be there, the rows say which are. What is missing becomes a gap
with the cause `corrupt_store`, in its place in the order of its device.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

from gateway.clock import TimeBase
from gateway.errors import StoreDamagedError, StoreError
from gateway.model import Gap, GapCause
from gateway.store import salvage
from gateway.store.database import Database, remove, sync_folder
from gateway.store.ledger import Entry
from gateway.store.missing import missing
from gateway.store.outstanding import Epoch
from gateway.store.readable_file import ReadableFile
from gateway.store.rows import Moment, Row, gap_row

Ranges: TypeAlias = dict[Epoch, list[tuple[int, int]]]
"""The numbers found of each epoch, inclusive, in the order of their arrival."""

_ROWS_A_COMMIT = 1000
_KEPT = 2
"""Damaged stores kept for their owner to look at."""


class Recovered(NamedTuple):
    """What became of a damaged store."""

    rows: int
    """Rows that are still there."""
    gaps: list[Gap]
    """What is gone."""
    set_aside: Path
    """Where the damaged file is now."""


def check(path: Path, entries: Iterable[Entry]) -> None:
    """Read every page, and change nothing.

    Raises:
        StoreDamagedError: a page is wrong, or a row is missing.
        StoreError: the disk fails.
    """
    found: Ranges = {}
    if _is_empty(path) and not _is_empty(_wal(path)):
        raise StoreDamagedError(f"{path} is empty, and its WAL is not")
    if path.exists():
        with Database(path, read_only=True) as database:
            if database.check():
                found = _ranges(database.numbers())
    if gone := all_gone(entries, found):
        raise StoreDamagedError(f"{path}: samples of {len(gone)} boots are missing")


def all_gone(entries: Iterable[Entry], found: Ranges) -> dict[Epoch, list[tuple[int, int]]]:
    """Return the numbers that must be there and are not, by epoch."""
    gone: dict[Epoch, list[tuple[int, int]]] = {}
    for entry in entries:
        epoch = (entry.device, entry.boot)
        if ranges := missing(entry, found.get(epoch, ())):
            gone[epoch] = ranges
    return gone


def rebuild(
    path: Path,
    entries: Mapping[Epoch, Entry],
    in_memory: Iterable[Row],
    moment: Moment,
    progress: Callable[[int, int], None] | None = None,
) -> Recovered:
    """Make a new store of all that can be read of the one at `path`, and of the rows in memory.

    The damaged files are set aside, not removed. When the disk fails on the way, all is as before
    and it may be tried again.

    Raises:
        StoreError: the disk is full or fails.
    """
    fresh = path.with_name(f"{path.name}.new")
    with _as_store_error(path):
        remove(fresh)
    bases = _bases_of(path)
    with Database(fresh) as database:
        with _as_store_error(path):
            _copy(path, entries, database, progress)
        database.write(in_memory, (), bases)
        found = _ranges(database.numbers())
        gaps = _note_gone(database, all_gone(entries.values(), found), moment)
        rows = sum(stock.rows for stock in database.stock())
    with _as_store_error(path):
        set_aside = _set_aside(path)
        fresh.rename(path)
        sync_folder(path)
        _keep_few(path)
    return Recovered(rows, gaps, set_aside)


def finish_renaming(path: Path) -> None:
    """Complete what a power cut may have interrupted in `rebuild`.

    Raises:
        StoreError: the disk fails.
    """
    fresh = path.with_name(f"{path.name}.new")
    with _as_store_error(path):
        if fresh.exists():
            if path.exists():
                remove(fresh)  # perhaps not complete; the damaged one still is what it was
            else:
                fresh.rename(path)


def _copy(
    path: Path,
    entries: Mapping[Epoch, Entry],
    into: Database,
    progress: Callable[[int, int], None] | None,
) -> None:
    with ReadableFile(path) as database, ReadableFile(_wal(path)) as wal:
        batch: list[Row] = []
        for row in salvage.rows(database, wal, progress):
            entry = entries.get((row.device, row.boot))
            if entry is not None and row.last_seq < entry.settled_next:
                continue  # an old page still has it, but the broker has it too
            batch.append(row)
            if len(batch) >= _ROWS_A_COMMIT:
                into.write(batch, (), {})
                batch = []
        into.write(batch, (), {})


def _note_gone(
    database: Database,
    gone: Mapping[Epoch, list[tuple[int, int]]],
    moment: Moment,
) -> list[Gap]:
    gaps: list[Gap] = []
    for (device, boot), ranges in gone.items():
        for first_seq, last_seq in ranges:
            gap = Gap(device, boot, first_seq, last_seq, GapCause.CORRUPT_STORE, moment.now_s)
            n = database.free_n(device, boot, first_seq)
            database.write((gap_row(gap, n, moment),), (), {})
            gaps.append(gap)
    return gaps


def _ranges(numbers: Iterable[tuple[str, int, int, int]]) -> Ranges:
    found: Ranges = {}
    for device, boot, first_seq, last_seq in numbers:
        ranges = found.setdefault((device, boot), [])
        if ranges and ranges[-1][1] + 1 == first_seq:
            ranges[-1] = (ranges[-1][0], last_seq)
        else:
            ranges.append((first_seq, last_seq))
    return found


def _bases_of(path: Path) -> dict[int, TimeBase]:
    """Return the offsets of the machine's boots, if they can still be read; rows have their own."""
    if _is_empty(path):
        return {}  # SQLite would remove the WAL, though it is to read only
    with suppress(StoreError), Database(path, read_only=True) as database:
        return database.bases()
    return {}


def _wal(path: Path) -> Path:
    return Path(f"{path}-wal")


def _is_empty(path: Path) -> bool:
    return not path.exists() or not path.stat().st_size


def _set_aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("-wal", ""):
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    Path(f"{path}-shm").unlink(missing_ok=True)
    return aside


def _keep_few(path: Path) -> None:
    names = sorted(each for each in path.parent.glob(f"{path.name}.damaged-*Z"))
    for old in names[:-_KEPT]:
        remove(old)


@contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror or exc}") from exc
