"""Databases of older versions come forward with a copy kept, and go back with an update."""

import json
import re
import sqlite3
import stat
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from gateway.clock import TimeBase
from gateway.errors import StoreBusyError, StoreError
from gateway.store import journal, registry, versions
from gateway.store.database import MIGRATIONS as OUTBOX
from gateway.store.database import Database
from gateway.store.jobs import Limits
from gateway.store.rows import Moment
from gateway.store.state_database import MIGRATIONS as STATE
from gateway.store.state_database import StateDatabase
from gateway.store.store import Store
from gateway.store.versions import copies_in, give_back, migrate, trust

VECTORS = Path(__file__).parents[1] / "vectors" / "store"
"""What older programs wrote, as SQL."""

NEWER = ("CREATE TABLE newer (n INTEGER)", "INSERT INTO newer VALUES (1)")
"""What a program to come does to a database."""

MOMENT = Moment(1, TimeBase(0.0, "unsynced"), 1.0)


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return [*connection.iterdump(), f"PRAGMA user_version = {version};"]


def tables(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
        return connection.execute(query).fetchall()


def of_version(name: str, version: int, folder: Path) -> Path:
    """Make the database an older program left."""
    path = folder / name
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript((VECTORS / f"{name}.version-{version}.sql").read_text())
    return path


def of_today(folder: Path) -> Path:
    """Make the state database this program leaves."""
    path = of_version("gateway.db", 1, folder)
    StateDatabase(path).close()
    (folder / "gateway.db.version-1").unlink()
    return path


def brought_forward(path: Path, migrations: Sequence[Sequence[str]]) -> int:
    """Let a program to come open a database; return its version."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, [*migrations, NEWER])
    return len(migrations) + 1


def names(folder: Path) -> set[str]:
    """Return what is there, but for what SQLite has beside a database."""
    return {path.name for path in folder.iterdir() if path.suffix not in {".db-wal", ".db-shm"}}


@pytest.mark.parametrize(("name", "last"), [("gateway.db", len(STATE)), ("outbox.db", len(OUTBOX))])
def test_there_is_a_file_of_each_older_version(name: str, last: int) -> None:
    """Who appends a migration adds one: `sqlite3.Connection.iterdump` of what a gateway wrote."""
    there = {path.name for path in VECTORS.glob(f"{name}.*")}

    assert there >= {f"{name}.version-{version}.sql" for version in range(1, last)}


@pytest.mark.parametrize("version", range(1, len(STATE)))
def test_a_state_database_of_an_older_version_has_all_it_had_and_a_copy_is_kept(
    version: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = of_version("gateway.db", version, tmp_path)
    before = dump(path)
    (tmp_path / "fresh").mkdir()
    StateDatabase(tmp_path / "fresh" / "gateway.db").close()

    with closing(StateDatabase(path)) as state:
        registered = registry.load(state.select)
        commands = journal.load(state.select)

    assert set(registered.devices) == {"light-0000", "light-0001"}
    assert registered.devices["light-0001"]["name"] == "Attic lamp"
    assert len(registered.topics) == 16
    assert [entry.number for entry in commands] == ([7] if version > 1 else [])
    assert tables(path) == tables(tmp_path / "fresh" / "gateway.db")
    copy = tmp_path / f"gateway.db.version-{version}"
    assert names(tmp_path) == {"fresh", path.name, copy.name}
    assert dump(copy) == before
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    told = f"version {version} becomes version {len(STATE)}; a copy of it is {copy.name}"
    assert told in caplog.text


def test_an_outbox_of_the_first_release_is_read(tmp_path: Path) -> None:
    path = of_version("outbox.db", 1, tmp_path)

    with Database(path) as database:
        rows = list(database.rows())

    assert [row.first_seq for row in rows if row.device == "light-0001"] == [34, 35, 36, 37]
    assert json.loads(rows[0].body)["records"][0][2] == {"number": 34, "temperature": 22.58}


def test_of_the_copies_there_is_one(tmp_path: Path) -> None:
    path = of_version("gateway.db", 1, tmp_path)
    StateDatabase(path).close()
    brought_forward(path, STATE)

    assert names(tmp_path) == {"gateway.db", f"gateway.db.version-{len(STATE)}"}


def test_a_copy_that_cannot_be_made_holds_up_no_migration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = of_version("gateway.db", 1, tmp_path)
    (tmp_path / "gateway.db.copy").mkdir()  # as good as a disk without room

    with closing(StateDatabase(path)) as state:
        assert registry.load(state.select).devices

    assert "no copy of it could be kept" in caplog.text
    assert not list(tmp_path.glob("*.version-*"))


def test_an_older_program_goes_on_with_the_copy_while_the_update_is_young(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An update that did not come up is taken back, and may have been cut off on the way."""
    path = of_today(tmp_path)
    before = dump(path)
    newer = brought_forward(path, STATE)
    after = dump(path)

    with closing(StateDatabase(path)) as state:
        assert registry.load(state.select).devices

    assert dump(path) == before
    assert dump(tmp_path / f"gateway.db.version-{newer}") == after
    assert names(tmp_path) == {path.name, f"gateway.db.version-{newer}"}
    assert f"was written by a newer edge-gateway and is gateway.db.version-{newer}" in caplog.text


def test_an_outbox_goes_back_as_well_and_its_newer_rows_are_not_salvaged(tmp_path: Path) -> None:
    path = of_version("outbox.db", len(OUTBOX), tmp_path)
    before = dump(path)
    brought_forward(path, OUTBOX)
    store = Store(path, Limits())
    store.open_ledger()

    opened = store.open(MOMENT)
    store.close()

    assert sum(stock.records for stock in opened.stock) == 8
    assert dump(path) == before


def as_a_kill_leaves_it(path: Path) -> Path:
    """Have something in the WAL; return the database in a folder of its own."""
    killed = path.parent / "killed"
    killed.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM devices")
        for left in path.parent.glob("gateway.db*"):
            (killed / left.name).write_bytes(left.read_bytes())
    assert Path(f"{killed / path.name}-wal").stat().st_size
    return killed / path.name


def test_what_a_kill_left_in_the_wal_of_the_newer_one_does_not_reach_the_copy(
    tmp_path: Path,
) -> None:
    path = of_today(tmp_path)
    before = dump(path)
    brought_forward(path, STATE)
    path = as_a_kill_leaves_it(path)

    StateDatabase(path).close()

    assert dump(path) == before


def trusted(folder: Path) -> Path:
    """Have an update behind us that has proven itself."""
    path = of_today(folder)
    brought_forward(path, STATE)
    trust([path, folder / "outbox.db"])
    return path


def test_later_an_older_program_refuses_and_what_it_says_helps(tmp_path: Path) -> None:
    path = trusted(tmp_path)
    assert names(tmp_path) == {path.name, f"gateway.db.version-{len(STATE)}.kept"}
    path = as_a_kill_leaves_it(path)

    with pytest.raises(StoreError, match="written by a newer edge-gateway") as caught:
        StateDatabase(path)
    command = re.search(r"(mv .*?) \(as it was", str(caught.value))
    assert command is not None
    subprocess.run(["sh", "-c", command[1]], check=True)

    with closing(StateDatabase(path)) as state:
        assert len(registry.load(state.select).devices) == 2
    assert names(path.parent) == {"gateway.db", "gateway.db.newer"}


def test_a_newer_outbox_that_is_refused_is_neither_salvaged_nor_changed(tmp_path: Path) -> None:
    path = of_version("outbox.db", len(OUTBOX), tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE records RENAME COLUMN body TO content")
        connection.execute("PRAGMA user_version = 99")
    before = dump(path)
    store = Store(path, Limits())
    store.open_ledger()

    with pytest.raises(StoreError, match=f"version 99 .* this one knows {len(OUTBOX)}") as caught:
        store.open(MOMENT)
    store.close()

    assert f"mv {path} {path}.newer" in str(caught.value)
    assert dump(path) == before
    assert not list(tmp_path.glob("*.damaged*"))


def test_a_folder_of_databases_is_given_back_and_what_was_not_migrated_is_left(
    tmp_path: Path,
) -> None:
    path = of_today(tmp_path)
    other = of_version("outbox.db", len(OUTBOX), tmp_path)
    before, untouched = dump(path), dump(other)
    newer = brought_forward(path, STATE)
    (tmp_path / "outbox.ledger.version-7").write_bytes(b"no database")

    lines = give_back(tmp_path)
    again = give_back(tmp_path)

    assert [line.partition(",")[0] for line in lines] == [str(path)]
    assert again == []
    assert (dump(path), dump(other)) == (before, untouched)
    assert (tmp_path / f"gateway.db.version-{newer}").exists()


def test_what_an_update_before_did_is_not_taken_back_with_a_later_one(tmp_path: Path) -> None:
    """Its copy is there for ten minutes, and the version that comes back knows what it did."""
    path = of_today(tmp_path)
    brought_forward(path, STATE)
    spared = copies_in(tmp_path)
    before = dump(path)

    assert give_back(tmp_path, spared) == []
    assert dump(path) == before

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, [*STATE, NEWER, ("CREATE TABLE newest (n INTEGER)",)])
    lines = give_back(tmp_path, spared)

    assert len(lines) == 1
    assert dump(path) == before


def test_a_state_that_is_not_there_needs_no_giving_back(tmp_path: Path) -> None:
    assert copies_in(tmp_path / "none") == frozenset()
    assert give_back(tmp_path / "none") == []


def test_nothing_is_given_back_while_somebody_has_it_open(tmp_path: Path) -> None:
    path = of_today(tmp_path)
    brought_forward(path, STATE)
    before = names(tmp_path)

    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT * FROM newer").fetchall()
        with pytest.raises(StoreBusyError, match="open in another program"):
            give_back(tmp_path)

    assert before <= names(tmp_path)
    assert dump(path)[-1] == f"PRAGMA user_version = {len(STATE) + 1};"


def test_an_update_that_failed_within_a_step_has_changed_nothing(tmp_path: Path) -> None:
    path = of_version("gateway.db", 1, tmp_path)
    before = dump(path)

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        wrong = [*STATE[:1], ("CREATE TABLE half (n)", "NO SQL")]
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, path, wrong)

    assert dump(path) == before


def test_a_database_that_cannot_be_read_is_left_to_who_mends_it(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_bytes(b"no database" * 1000)

    versions.admit(tmp_path / "gateway.db", 1)
    versions.admit(tmp_path / "none.db", 1)

    assert names(tmp_path) == {"gateway.db"}
