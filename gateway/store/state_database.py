"""The state database's file: importer of sqlite3 beside `database`, called from one thread."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway import files
from gateway.errors import StoreBusyError, StoreDamagedError, StoreError
from gateway.store import journal, registry, rollouts, versions
from gateway.store.database import make_private
from gateway.store.state_changes import Change

KEPT_DAMAGED = 2
"""Damaged files that are kept, the newest ones, for somebody who may want to look at them."""

_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 250;
PRAGMA journal_size_limit = 1048576;
PRAGMA cache_size = -500;
PRAGMA temp_store = MEMORY;
PRAGMA secure_delete = OFF;
"""
# A WAL of 1 MB holds a day of renamings, and some hundred commands.

MIGRATIONS: tuple[Sequence[str], ...] = (
    registry.VERSION_1,
    journal.VERSION_2,
    rollouts.VERSION_3,
)
"""Each brings the file from one `user_version` to the next, in one transaction.

They are kept where their tables are: a new one is appended here, and none is ever changed.
"""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_SUCH_TABLE = sqlite3.SQLITE_ERROR
"""Statements are ours and tested: where one does not fit the tables, the tables are wrong."""


class StateDatabase:
    """Changes in, rows out.

    Every method may raise StoreError, and StoreDamagedError when only a new file helps.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, made if need be, read all of its pages, and bring it up to date."""
        self.path = path
        with _told(path):
            files.make_folder(path.parent)
            versions.admit(path, len(MIGRATIONS))
            make_private(path)
            self._connection = sqlite3.connect(
                path, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            try:
                self._check()
                self._connection.executescript(_PRAGMAS)
                versions.migrate(self._connection, path, MIGRATIONS)
            except BaseException:
                self._connection.close()
                raise

    def write(self, changes: Iterable[Change]) -> None:
        """Do changes in their order: one commit, on the disk when this returns."""
        with _told(self.path), versions.transaction(self._connection):
            for change in changes:
                for sql, rows in change:
                    self._connection.executemany(sql, rows)

    def select(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with _told(self.path):
            return self._connection.execute(query, parameters).fetchall()

    def copy_to(self, path: Path) -> None:
        """Write a copy of the file as it stands; `path` must not exist yet."""
        with _told(path):
            self._connection.execute("VACUUM INTO ?", (str(path),))

    def close(self) -> None:
        """Fold the WAL into the file and let go of it."""
        with _told(self.path):
            self._connection.close()

    def _check(self) -> None:
        (verdict,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise StoreDamagedError(f"{self.path}: {' '.join(verdict.split())}")


def put_aside(path: Path) -> Path:
    """Rename a damaged file, so that a new one can be made, and return its new name.

    Nobody has it open any more.

    Raises:
        StoreError: it cannot be renamed.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    with _told(path):
        for suffix in ("-wal", ""):
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
        Path(f"{path}-shm").unlink(missing_ok=True)
        for old in sorted(path.parent.glob(f"{path.name}.damaged-*Z"))[:-KEPT_DAMAGED]:
            for suffix in ("-wal", ""):
                Path(f"{old}{suffix}").unlink(missing_ok=True)
        files.sync_folder(path.parent)
    return aside


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell errors of SQLite and of the system in the store's own words; bugs of ours pass."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGE:
            raise StoreDamagedError(f"{path}: {exc}") from exc
        if not isinstance(exc, sqlite3.OperationalError):
            raise
        if code in {0, _NO_SUCH_TABLE}:  # 0: Python stumbled over text that is no UTF-8
            raise StoreDamagedError(f"{path}: {exc}") from exc
        if code in _BUSY:
            raise StoreBusyError(f"{path}: {exc}") from exc
        raise StoreError(f"{path}: {exc}") from exc
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror or exc}") from exc
