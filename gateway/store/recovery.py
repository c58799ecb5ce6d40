"""Whether the store holds all it should, and a new one made of what a damaged one still has.

The ledger says which samples must be there, the rows say which are. What is missing becomes a gap
with the cause `corrupt_store`, in its place in the order of its device.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from gateway.clock import TimeBase
from gateway.errors import StoreDamagedError, StoreError
from gateway.files import sync_folder
from gateway.model import Gap, GapCause
from gateway.store import salvage
from gateway.store.database import Database, remove
from gateway.store.ledger import Entry
from gateway.store.missing import missing
from gateway.store.outstanding import Epoch
from gateway.store.places import places
from gateway.store.readable_file import ReadableFile
from gateway.store.rows import Moment, Row, gap_row

Ranges: TypeAlias = dict[Epoch, list[tuple[int, int]]]
"""The numbers found of each epoch, inclusive, in the order of their arrival."""

_ROWS_A_COMMIT = 1000
_KEPT = 2
"""Damaged stores kept for their owner to look at."""


class Recovered(NamedTuple):
    """What became of a damaged store."""

    found: Ranges
    """What is there now, gaps included."""
    rows: int
    """Rows that are still there."""
    gaps: list[Gap]
    """What is gone."""
    set_aside: Path
    """Where the damaged file is now."""


class InMemory(NamedTuple):
    """What the outbox has of a store that turned out to be damaged while it was in use."""

    rows: Sequence[Row] = ()
    """Stored ones that wait in memory: they are written anew."""
    cursors: Mapping[str, int] = MappingProxyType({})
    """Up to which number the rows of devices were read back."""
    end_n: int | None = None
    """From this number on they belong to what is not stored yet; None if nothing has one."""


NOTHING = InMemory()


def check(path: Path, entries: Iterable[Entry]) -> Ranges:
    """Read every page, and change nothing; return what is there.

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
    return found


def all_gone(entries: Iterable[Entry], found: Ranges) -> Ranges:
    """Return the numbers that must be there and are not."""
    gone: Ranges = {}
    for entry in entries:
        epoch = (entry.device, entry.boot)
        if ranges := missing(entry, found.get(epoch, ())):
            gone[epoch] = ranges
    return gone


def rebuild(
    path: Path,
    entries: Mapping[Epoch, Entry],
    moment: Moment,
    in_memory: InMemory = NOTHING,
    progress: Callable[[int, int], None] | None = None,
) -> Recovered:
    """Make a new store of all that can be read of the one at `path`, and of the rows in memory.

    The damaged files are set aside, not removed. When the disk fails on the way, all is as before
    and it may be tried again.

    Raises:
        StoreError: the disk is full or fails.
    """
    draft, whole = path.with_name(f"{path.name}.new"), _whole(path)
    with _as_store_error(path):
        remove(draft)
    bases = _bases_of(path)
    with Database(draft, is_draft=True) as database:
        _copy(path, entries, database, progress)
        database.write(in_memory.rows, (), bases)
        _drop_repeated(database, {row.n for row in in_memory.rows})
        gaps = _fill(path, entries, database, in_memory, moment)
        found = _ranges(database.numbers())
        rows = sum(stock.rows for stock in database.stock())
    with _as_store_error(path):
        draft.rename(whole)
        sync_folder(path.parent)
        set_aside = _set_aside(path)
        whole.rename(path)
        sync_folder(path.parent)
        _keep_few(path)
    return Recovered(found, rows, gaps, set_aside)


def finish_renaming(path: Path) -> None:
    """Complete what was interrupted when `rebuild` had all but renamed the files.

    Raises:
        StoreError: the disk fails.
    """
    whole = _whole(path)
    with _as_store_error(path):
        if whole.exists():
            _set_aside(path)
            whole.rename(path)
            sync_folder(path.parent)


def _whole(path: Path) -> Path:
    """Return the name of a new store once it is complete."""
    return path.with_name(f"{path.name}.whole")


def _copy(
    path: Path,
    entries: Mapping[Epoch, Entry],
    into: Database,
    progress: Callable[[int, int], None] | None,
) -> None:
    def is_wanted(row: Row) -> bool:
        entry = entries.get((row.device, row.boot))
        # An old page still has rows the broker has, too.
        return entry is None or row.last_seq >= entry.settled_next

    rows = _salvaged(path, is_wanted, progress)
    while batch := list(islice(rows, _ROWS_A_COMMIT)):
        into.write(batch, (), {})


def _drop_repeated(database: Database, kept: AbstractSet[int]) -> None:
    """Drop rows that lie within others: retention had replaced them, or they were sent again."""
    for device, boot in _overlapping(database.numbers()):
        repeated: list[int] = []
        newest = -1
        ranges = database.ranges_of(device, boot)
        for _, last_seq, n in sorted(ranges, key=lambda one: (one[0], -one[1], one[2])):
            if last_seq <= newest and n not in kept:
                repeated.append(n)
            newest = max(newest, last_seq)
        database.replace((), repeated)


def _fill(
    path: Path,
    entries: Mapping[Epoch, Entry],
    database: Database,
    in_memory: InMemory,
    moment: Moment,
) -> list[Gap]:
    """Put in place of what is missing what was hidden, and gaps; return these."""
    found = _ranges(database.numbers())
    if not (gone := all_gone(entries.values(), found)):
        return []
    hidden = _hidden(path, gone)
    for row in hidden:
        found.setdefault((row.device, row.boot), []).append((row.first_seq, row.last_seq))
    gaps = [
        Gap(*epoch, first_seq, last_seq, GapCause.CORRUPT_STORE, moment.now_s)
        for epoch, ranges in all_gone(entries.values(), found).items()
        for first_seq, last_seq in ranges
    ]
    pieces: list[Row | Gap] = [*hidden, *gaps]
    first_n = {epoch: entry.first_n for epoch, entry in entries.items()}
    end_n = in_memory.end_n or database.last_n() + len(pieces) + 1
    lowest_n: dict[str, int] = {}
    for place in places(pieces, database.rows_of, first_n, in_memory.cursors):
        piece = place.piece
        before_n = min(place.before_n or end_n, lowest_n.get(piece.device, end_n))
        n = database.free_n_below(before_n)
        if n <= place.after_n:  # all are taken: out of its place, but not untold
            n = max(end_n, database.last_n() + 1)
        lowest_n[piece.device] = n
        row = piece._replace(n=n) if isinstance(piece, Row) else gap_row(piece, n, moment)
        database.write((row,), (), {})
    return gaps


def _hidden(path: Path, gone: Ranges) -> list[Row]:
    """Return rows of what is gone: another one, of the same number, was found before them."""

    def is_wanted(row: Row) -> bool:
        ranges = gone.get((row.device, row.boot), ())
        return any(first <= row.first_seq and row.last_seq <= last for first, last in ranges)

    rows: list[Row] = []
    newest: dict[Epoch, int] = {}
    found = _salvaged(path, is_wanted)
    for row in sorted(found, key=lambda row: (row.first_seq, -row.last_seq)):
        if row.first_seq > newest.get((row.device, row.boot), -1):
            newest[row.device, row.boot] = row.last_seq
            rows.append(row)
    return rows


def _salvaged(
    path: Path,
    is_wanted: Callable[[Row], bool],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Row]:
    with (
        _as_store_error(path),
        ReadableFile(path) as database,
        ReadableFile(_wal(path)) as wal,
    ):
        yield from salvage.rows(database, wal, progress, is_wanted)


def _overlapping(numbers: Iterable[tuple[str, int, int, int]]) -> set[Epoch]:
    """Return the epochs of which a row does not begin behind the others."""
    found: set[Epoch] = set()
    newest: dict[Epoch, int] = {}
    for device, boot, first_seq, last_seq in numbers:
        before = newest.get((device, boot), -1)
        if first_seq <= before:
            found.add((device, boot))
        newest[device, boot] = max(before, last_seq)
    return found


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
