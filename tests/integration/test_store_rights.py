"""What is stored is for its owner alone, whatever the umask says and whoever made the file."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.clock import TimeBase
from gateway.store.database import Database
from gateway.store.jobs import Limits
from gateway.store.rows import Moment
from gateway.store.state_database import StateDatabase
from gateway.store.store import Store

MOMENT = Moment(1, TimeBase(0.0, "unsynced"), 1.0)


@pytest.fixture
def generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def rights(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}


@pytest.mark.usefixtures("generous_umask")
def test_files_that_are_made_are_private(tmp_path: Path) -> None:
    store = Store(tmp_path / "outbox.db", Limits())
    store.open_ledger()
    store.open(MOMENT)
    state = StateDatabase(tmp_path / "gateway.db")

    found = rights(tmp_path)
    store.close()
    state.close()

    names = [
        *("outbox.db", "outbox.db-wal", "outbox.db-shm", "outbox.db.lock", "outbox.ledger"),
        *("gateway.db", "gateway.db-wal", "gateway.db-shm"),
    ]
    assert found == dict.fromkeys(names, "0o600")


@pytest.mark.usefixtures("generous_umask")
def test_files_that_everybody_could_read_are_so_no_more(tmp_path: Path) -> None:
    Database(tmp_path / "outbox.db").close()
    StateDatabase(tmp_path / "gateway.db").close()
    for path in tmp_path.iterdir():
        path.chmod(0o644)

    database, state = Database(tmp_path / "outbox.db"), StateDatabase(tmp_path / "gateway.db")
    found = rights(tmp_path)
    database.close()
    state.close()

    assert set(found.values()) == {"0o600"}
