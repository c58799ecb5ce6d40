"""Databases of other versions: brought forward, with a copy kept, and back under an older program.

`outbox.db.version-1` is the copy a migration made of version 1. Until the program that migrated has
run for TRUSTED_S, an older one that finds the newer file goes on with that copy: an update that is
taken back needs no hand, nor does one that a power cut interrupts. Later it is called
`outbox.db.version-1.kept`, and only a person uses it. Of each there is one.
"""

import logging
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from gateway import files
from gateway.errors import StoreBusyError, StoreError

_log = logging.getLogger(__name__)

TRUSTED_S: Final = 600.0
"""After so long an update is not taken back any more by itself."""

_COPY: Final = re.compile(r"(?P<name>.+)\.version-(?P<version>\d+)")
_KEPT: Final = ".kept"


class Copy(NamedTuple):
    """Tells a copy from a later one of the same name."""

    name: str
    inode: int
    changed_ns: int


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do what is in the block wholly or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def migrate(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]]
) -> None:
    """Bring a database up to date: each step is a transaction; a copy of what it was is kept.

    Raises:
        StoreError: a newer program wrote it.
        sqlite3.Error: it cannot be read or written.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise StoreError(_refusal(path, version, len(migrations)))
    if 0 < version < len(migrations):
        _keep_copy(connection, path, version, len(migrations))
    for number in range(version, len(migrations)):
        with transaction(connection):
            for statement in migrations[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def admit(path: Path, known: int) -> None:
    """Look at a database before it is opened: one of a newer program gives way to a copy we know.

    The newer file is put aside as the copy of its own version.

    Raises:
        StoreError: it is newer, and there is no such copy.
    """
    version = _version_of(path)
    if version is None or version <= known:
        return
    copies = dict(_copies(path))
    usable = [number for number in copies if number <= known]
    if not usable:
        _fold(path)  # who moves it away as we say must not leave a WAL behind
        raise StoreError(_refusal(path, version, known))
    line = _put_back(path, copies[max(usable)], version)
    _log.error("%s; what was stored since then is in the other one", line)


def copies_in(folder: Path) -> frozenset[Copy]:
    """Return which copies there are, for `give_back` to leave alone; none if nobody may look."""
    try:
        return frozenset(_identity(each) for each in _all_copies(folder))
    except OSError:
        return frozenset()


def give_back(folder: Path, spared: Collection[Copy] = ()) -> list[str]:
    """Undo the migrations of an update that is taken back; nobody has the databases open.

    Args:
        folder: Where they are; it need not be there.
        spared: Copies that were there before the update: an earlier one made them, and the version
            that comes back knows what it did.

    Returns:
        What was done, a line each; nothing where no database was migrated.

    Raises:
        StoreError: a file cannot be read or renamed.
    """
    lines = []
    try:
        made = [each for each in _all_copies(folder) if _identity(each) not in spared]
    except OSError as exc:
        raise StoreError(f"{folder}: {exc.strerror or exc}") from exc
    for copy in made:
        name, _, number = copy.name.rpartition(".version-")
        path = folder / name
        version = _version_of(path)
        if version is not None and version > int(number):
            lines.append(_put_back(path, copy, version))
    return lines


def trust(paths: Iterable[Path]) -> None:
    """Note that an update of these databases has proven itself: a person alone takes it back now.

    Raises:
        OSError: a copy cannot be renamed.
    """
    for path in paths:
        version = _version_of(path)
        for number, copy in _copies(path):
            if version is not None and number < version:
                for old in range(number):
                    Path(f"{_copy_path(path, old)}{_KEPT}").unlink(missing_ok=True)
                files.rename(copy, Path(f"{copy}{_KEPT}"))


def _keep_copy(connection: sqlite3.Connection, path: Path, version: int, to: int) -> None:
    copy = _copy_path(path, version)
    draft = path.with_name(f"{path.name}.copy")
    try:
        draft.unlink(missing_ok=True)
        files.make_private(draft)
        connection.execute("VACUUM INTO ?", (str(draft),))
        for _, old in _copies(path):
            old.unlink()
        files.put_in_place(draft, copy)
    except (sqlite3.Error, OSError) as exc:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        _log.error(
            "%s: version %d becomes version %d, and no copy of it could be kept (%s): an older "
            "edge-gateway will not read it any more",
            *(path, version, to, exc),
        )
    else:
        _log.warning(
            "%s: version %d becomes version %d; a copy of it is %s",
            *(path, version, to, copy.name),
        )


def _put_back(path: Path, copy: Path, version: int) -> str:
    aside = _copy_path(path, version)
    try:
        _fold(path)
        aside.unlink(missing_ok=True)
        aside.hardlink_to(path)  # so that at every moment there is a file at `path`
        files.rename(copy, path)
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror or exc}") from exc
    return (
        f"{path}, version {version}, was written by a newer edge-gateway and is {aside.name} now: "
        f"{copy.name}, the copy from before its update, is used again"
    )


def _fold(path: Path) -> None:
    """Have all of a database in its file: another one that takes its name must not find its WAL.

    Raises:
        StoreError: another program has it open, or it cannot be written.
    """
    try:
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as exc:
        raise StoreError(f"{path}: {exc}") from exc
    if Path(f"{path}-wal").exists():
        raise StoreBusyError(f"{path} is open in another program")


def _copies(path: Path) -> Iterator[tuple[int, Path]]:
    """Yield the copies of a database that are not for persons alone, by their version."""
    for copy in list(path.parent.iterdir()):
        found = _COPY.fullmatch(copy.name)
        if found is not None and found["name"] == path.name:
            yield int(found["version"]), copy


def _all_copies(folder: Path) -> list[Path]:
    """Return the copies of all databases in a folder."""
    if not folder.exists():
        return []
    return sorted(each for each in folder.iterdir() if _COPY.fullmatch(each.name))


def _identity(copy: Path) -> Copy:
    found = copy.stat()
    return Copy(copy.name, found.st_ino, found.st_mtime_ns)


def _copy_path(path: Path, version: int) -> Path:
    return path.with_name(f"{path.name}.version-{version}")


def _version_of(path: Path) -> int | None:
    """Return the version of a database; None if there is none, or it cannot be read."""
    if not path.exists() or not path.stat().st_size:
        return None  # SQLite would remove the WAL of an empty file, though it is to read only
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return None  # whoever opens it says why
    return int(version)


def _refusal(path: Path, version: int, known: int) -> str:
    kept = next(
        (
            copy
            for number in range(known, 0, -1)
            if (copy := Path(f"{_copy_path(path, number)}{_KEPT}")).exists()
        ),
        None,
    )
    away = f"mv {path} {path}.newer"
    instead = f"{away} && mv {kept} {path} (as it was before the update)" if kept else away
    return (
        f"{path} was written by a newer edge-gateway (version {version} of the file, this one "
        f"knows {known}): update edge-gateway; or, to go on without what is in it, stop this one "
        f"and: {instead}"
    )
