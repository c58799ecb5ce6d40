"""The SQLite file: the one importer of sqlite3, called from the store's one thread."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from gateway import files
from gateway.clock import TimeBase, TimeQuality
from gateway.errors import StoreBusyError, StoreDamagedError, StoreError
from gateway.store import versions
from gateway.store.row_crc import row_crc
from gateway.store.rows import Row

PAGE_BYTES = 4096

WAL_PAGES = 1000
"""The WAL is folded into the file when it has as many, SQLite's default; fewer on a small disk."""

_WAL_SHARE = 16
"""On a small disk the WAL takes no more than this part of it: it must not fill the disk alone."""

MOST_LOOKED_AT = 1000
"""Rows of one device that are searched for a sample with values."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# secure_delete, which Debian's SQLite has on, would fill deleted rows with zeros: 6.6 MB of WAL
# instead of 0.4 MB for the deletion of 1,000 rows of 6 KB.
_PRAGMAS = f"""
PRAGMA page_size = {PAGE_BYTES};
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -2000;
PRAGMA temp_store = MEMORY;
PRAGMA secure_delete = OFF;
"""

MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        """CREATE TABLE records (
    n INTEGER PRIMARY KEY, device TEXT, boot INTEGER, first_seq INTEGER, last_seq INTEGER,
    count INTEGER, machine_boot INTEGER, taken_s REAL, body BLOB, crc INTEGER
)""",
        "CREATE INDEX records_by_device ON records (device, n, count)",
        "CREATE TABLE boots (machine_boot INTEGER PRIMARY KEY, offset_s REAL, quality TEXT)",
    ),
)
"""Each brings the file from one `user_version` to the next, in one transaction; a new one is
appended here, and none is ever changed."""

_COLUMNS = "n, device, boot, first_seq, last_seq, count, machine_boot, taken_s, body, crc"


class Stock(NamedTuple):
    """What the file holds of one device."""

    device: str
    rows: int
    records: int
    first_n: int
    last_n: int


class Database:
    """Rows in, rows out.

    Every method may raise StoreError, and StoreDamagedError for what only salvage can mend.
    """

    def __init__(self, path: Path, *, read_only: bool = False, is_draft: bool = False) -> None:
        """Open the file; unless `read_only`, it is made and brought up to date as needed.

        A file opened to be read only is left as it is, with its WAL, also when it is closed: what
        SQLite would fold into a damaged file, or drop, salvage may still read. Of a draft nothing
        is durable before it is closed.
        """
        self.path = path
        self._is_draft = is_draft
        self._connection = _connect(path, read_only=read_only)
        with _told(path):
            try:
                if not read_only:
                    self._connection.executescript(_PRAGMAS + _wal_pragmas(path))
                    if is_draft:
                        self._connection.execute("PRAGMA synchronous = OFF")
                    versions.migrate(self._connection, path, MIGRATIONS)
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Fold the WAL into the file and let go of it."""
        with _told(self.path):
            self._connection.close()
            if self._is_draft:
                _sync(self.path)

    def abandon(self) -> None:
        """Let go of a damaged file and leave its WAL as it is, for salvage to read."""
        # SQLite folds the WAL when nobody else has the file open, and pages of either may be wrong.
        with (
            suppress(sqlite3.Error, StoreError),
            closing(_connect(self.path, read_only=True)) as witness,
        ):
            witness.execute("PRAGMA user_version").fetchone()
            self._connection.close()
        with suppress(sqlite3.Error):
            self._connection.close()

    def check(self) -> bool:
        """Read all pages; tell whether there are tables yet.

        What is in the rows is looked at when they are read: a million of them take seconds.

        Raises:
            StoreDamagedError: something is wrong anywhere.
        """
        with _told(self.path):
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            (verdict,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise StoreDamagedError(f"{self.path}: {' '.join(verdict.split())}")
            return bool(version)

    def write(
        self, rows: Iterable[Row], settled: Iterable[int], bases: dict[int, TimeBase]
    ) -> None:
        """Add rows, forget settled ones, note offsets of the machine's boots: one commit."""
        with _told(self.path), versions.transaction(self._connection):
            self._insert(rows)
            self._connection.executemany("DELETE FROM records WHERE n = ?", ((n,) for n in settled))
            self._connection.executemany(
                "INSERT OR REPLACE INTO boots VALUES (?, ?, ?)",
                ((number, base.offset_s, base.quality) for number, base in bases.items()),
            )

    def replace(self, rows: Sequence[Row], dropped: Sequence[int]) -> None:
        """Put rows in the place of others: one commit."""
        with _told(self.path), versions.transaction(self._connection):
            self._connection.executemany("DELETE FROM records WHERE n = ?", ((n,) for n in dropped))
            self._insert(rows)

    def read(self, device: str, after_n: int, last_n: int, records: int) -> list[Row]:
        """Return the next rows of a device, up to and including `last_n`: about `records`."""
        query = (
            f"SELECT {_COLUMNS} FROM records "  # noqa: S608 - constants
            "WHERE device = ? AND n > ? AND n <= ? ORDER BY n"
        )
        rows: list[Row] = []
        with self._selected(query, device, after_n, last_n) as selected:
            for raw in selected:
                rows.append(self._checked(raw))
                records -= rows[-1].size
                if records <= 0:
                    break
        return rows

    def rows(self) -> Iterator[Row]:
        """Return all rows in the order of their arrival."""
        query = f"SELECT {_COLUMNS} FROM records ORDER BY n"  # noqa: S608 - constants
        with self._selected(query) as selected:
            for raw in selected:
                yield self._checked(raw)

    def numbers(self) -> Iterator[tuple[str, int, int, int]]:
        """Return device, boot, first and last number of all rows, in the order of their arrival."""
        query = "SELECT device, boot, first_seq, last_seq FROM records ORDER BY n"
        with self._selected(query) as selected:
            yield from selected

    def newest(self, device: str, after_n: int) -> Row | None:
        """Return the newest row of a device after `after_n` in which a sample has values.

        Only the newest MOST_LOOKED_AT rows are looked at.
        """
        query = (
            f"SELECT {_COLUMNS} FROM records WHERE device = ? AND n > ? "  # noqa: S608 - constants
            "ORDER BY n DESC LIMIT ?"
        )
        with self._selected(query, device, after_n, MOST_LOOKED_AT) as selected:
            return next((row for raw in selected if (row := self._checked(raw)).has_values), None)

    def oldest(self) -> tuple[int, float] | None:
        """Return the machine's boot and the monotonic time of the row that came first."""
        with _told(self.path):
            query = "SELECT machine_boot, taken_s FROM records ORDER BY n LIMIT 1"
            found: tuple[int, float] | None = self._connection.execute(query).fetchone()
            return found

    def stock(self) -> list[Stock]:
        """Return what there is of each device."""
        query = "SELECT device, COUNT(*), SUM(count), MIN(n), MAX(n) FROM records GROUP BY device"
        with self._selected(query) as selected:
            return [Stock(*raw) for raw in selected]

    def bases(self) -> dict[int, TimeBase]:
        """Return the offsets of the machine's boots."""
        with self._selected("SELECT machine_boot, offset_s, quality FROM boots") as selected:
            return {
                number: TimeBase(offset_s, _quality(quality))
                for number, offset_s, quality in selected
            }

    def rows_of(self, device: str) -> Iterator[tuple[int, int, int]]:
        """Return n, boot and first number of all rows of a device, in the order of arrival."""
        query = "SELECT n, boot, first_seq FROM records WHERE device = ? ORDER BY n"
        with self._selected(query, device) as selected:
            yield from selected

    def first_n(self, device: str, boot: int) -> int:
        """Return the number of the first row of an epoch, which has one."""
        with _told(self.path):
            query = "SELECT MIN(n) FROM records WHERE device = ? AND boot = ?"
            (n,) = self._connection.execute(query, (device, boot)).fetchone()
            return int(n)

    def ranges_of(self, device: str, boot: int) -> list[tuple[int, int, int]]:
        """Return first and last number and n of all rows of an epoch."""
        with _told(self.path):
            query = "SELECT first_seq, last_seq, n FROM records WHERE device = ? AND boot = ?"
            return self._connection.execute(query, (device, boot)).fetchall()

    def free_n_below(self, end_n: int) -> int:
        """Return the highest arrival number below another that no row has; 0 if there is none."""
        free = end_n - 1
        query = "SELECT n FROM records WHERE n < ? ORDER BY n DESC"
        with self._selected(query, end_n) as selected:
            for (n,) in selected:
                if n != free:
                    break
                free -= 1
        return max(free, 0)

    def last_n(self) -> int:
        """Return the highest arrival number, 0 when there is none."""
        with _told(self.path):
            (n,) = self._connection.execute("SELECT MAX(n) FROM records").fetchone()
            return n or 0

    def size_bytes(self) -> int:
        """Return how much of the file is in use, the WAL not counted."""
        with _told(self.path):
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            return int(pages - free) * PAGE_BYTES

    def copy_to(self, path: Path) -> None:
        """Write a copy of the file as it stands; `path` must not exist yet."""
        with _told(path):
            self._connection.execute("VACUUM INTO ?", (str(path),))

    def shrink(self) -> None:
        """Give unused pages back to the file system; cheap when little is stored."""
        with _told(self.path):
            self._connection.execute("VACUUM")

    @contextmanager
    def _selected(self, query: str, *parameters: object) -> Iterator[sqlite3.Cursor]:
        # Closed, because an exception that is kept anywhere would keep the file open with it.
        with _told(self.path), closing(self._connection.execute(query, parameters)) as cursor:
            yield cursor

    def _insert(self, rows: Iterable[Row]) -> None:
        # OR REPLACE: a commit that failed may have succeeded all the same, and is tried again.
        self._connection.executemany(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((*row, row_crc(*row)) for row in rows),
        )

    def _checked(self, raw: Sequence[Any]) -> Row:
        row = Row._make(raw[:-1])
        try:
            is_right = row_crc(*row) == raw[-1]
        except (TypeError, AttributeError, ValueError, OverflowError):
            is_right = False
        if not is_right:
            raise StoreDamagedError(f"{self.path}: row {raw[0]} is damaged")
        return row


def make_private(path: Path) -> None:
    """Have a database, made if need be, and what belongs to it for the owner's eyes only.

    SQLite would go by the umask; its own WAL gets the rights of the database.

    Raises:
        OSError: it cannot be made.
    """
    for suffix in ("", "-wal", "-shm"):
        files.make_private(Path(f"{path}{suffix}"), is_made=not suffix)


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    with _told(path):
        if not read_only:
            make_private(path)
        return sqlite3.connect(
            uri, uri=True, timeout=1.0, isolation_level=None, check_same_thread=False
        )


def _wal_pragmas(path: Path) -> str:
    disk = os.statvfs(path.parent)
    most = disk.f_blocks * disk.f_frsize // _WAL_SHARE // PAGE_BYTES
    pages = max(1, min(most, WAL_PAGES))
    return (
        f"PRAGMA wal_autocheckpoint = {pages};\nPRAGMA journal_size_limit = {pages * PAGE_BYTES};"
    )


def _quality(text: str) -> TimeQuality:
    return "synced" if text == "synced" else "unsynced"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell errors of SQLite and of the system in the store's own words."""
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        # Without a code it is Python that stumbles: over text that is no UTF-8, for example.
        if code in _DAMAGE or not isinstance(exc, sqlite3.OperationalError) or code == 1:
            raise StoreDamagedError(f"{path}: {exc}") from exc
        if code in _BUSY:
            raise StoreBusyError(f"{path}: {exc}") from exc
        raise StoreError(f"{path}: {exc}") from exc
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror or exc}") from exc


def copy(path: Path, to: Path) -> None:
    """Write a copy of a database as it stands, while its owner goes on reading and writing it.

    Raises:
        StoreError: there is none, it is damaged, or the disk is full; `to` is removed then.
    """
    with _told(path):
        path.stat()
    try:
        with Database(path, read_only=True) as database:
            database.copy_to(to)
    except BaseException:
        to.unlink(missing_ok=True)
        raise


def roll_back(path: Path) -> None:
    """Undo what a power cut left half done before the file had a WAL: its very first writes.

    Raises:
        StoreError: that is not possible now.
    """
    if Path(f"{path}-journal").exists():  # who only reads may not do it, and could read nothing
        with _told(path), closing(_connect(path, read_only=False)) as connection:
            connection.execute("PRAGMA user_version").fetchone()


def remove(path: Path) -> None:
    """Remove a database with what belongs to it."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
