"""Everything that writes files, one after the other: `python -m tests.support.cut_writers FOLDER`.

It says `begin NOUN N` before, and `done NOUN N` when the N-th change of a noun must outlive a power
cut. What is there then is told by the functions of this module.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from gateway import files
from gateway.admin.kept_files import KeptFiles
from gateway.clock import TimeBase
from gateway.config.source import Source
from gateway.install.actions import Action, Command
from gateway.install.plan import installation, upgrade
from gateway.model import Sample
from gateway.store import registry, versions
from gateway.store.jobs import Job, Limits, Settled
from gateway.store.joined import Joined, JoinedFile
from gateway.store.keys import KeyStore
from gateway.store.parcels import Parcel
from gateway.store.rows import Moment
from gateway.store.state_database import MIGRATIONS, StateDatabase
from gateway.store.store import Store
from tests.support.service_site import SERVICE, Site

VECTORS = Path(__file__).parents[1] / "vectors" / "store"
MOMENT = Moment(1, TimeBase(1_700_000_000.0, "synced"), 1.0)

CONFIGS = 8
OLD_DEVICES = {"light-0000", "light-0001"}
"""Of the database that is migrated."""
NEWER = ("CREATE TABLE newer (n INTEGER)", "DELETE FROM devices")
"""What a program to come does to it."""
ROWS = 6
SETTLED = 3
"""So many of the first rows are delivered in the end."""
BACKUP = b"a backup, whole or not at all\n" * 2000


def prepare(folder: Path) -> None:
    """Make what is there, and on the disk, before anything is written."""
    (folder / "etc").mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "site").mkdir()
    with closing(sqlite3.connect(folder / "state" / "gateway.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript((VECTORS / "gateway.db.version-1.sql").read_text())
    files.write_atomically(config_path(folder), config(0))
    configure(folder, 0)


def config_path(folder: Path) -> Path:
    return folder / "etc" / "gateway.toml"


def config(number: int) -> bytes:
    """Return the configuration as it was edited for the N-th time: longer, shorter, elsewhere."""
    devices = "".join(
        f'[[device]]\nid = "board-{each}"\nname = "{"Board " * (number + each % 3)}{each}"\n'
        for each in range(devices_of(number))
    )
    return (
        f'[gateway]\nname = "attic-{number}"\n[mqtt]\nhost = "127.0.0.1"\nport = {1 + number}\n'
        f'[serial]\npatterns = ["/nowhere/*"]\n[ble]\nenabled = false\n{devices}'
        f'[log]\nlevel = "info"\n'
    ).encode()


def devices_of(number: int) -> int:
    return (5, 40, 3, 120, 90, 2, 60, 1)[number]


def configure(folder: Path, number: int) -> None:
    """Be a gateway that starts with the configuration, which is the N-th."""
    os.environ["STATE_DIRECTORY"] = str(folder / "state")
    source = Source(config_path(folder))
    settings, _ = source.begin()
    assert (settings.gateway.name, source.trouble) == (f"attic-{number}", "")
    source.keep()


def keys_after(number: int) -> dict[str, str]:
    """Return the first byte of the first key of each board after so many changes."""
    states: Sequence[dict[str, str]] = (
        *({}, {"a": "01"}, {"a": "01", "b": "02"}, {"a": "03", "b": "02"}, {"a": "03"}),
        *({"a": "03"}, {"a": "next"}, {"a": "07"}),
    )
    return states[number]


KEY_CHANGES = 7


def main(folder: Path) -> None:
    write_configurations(folder)
    write_keys(folder / "state" / "keys")
    write_joined(folder / "state" / "outbox.db.joined")
    write_state(folder / "state" / "gateway.db")
    write_outbox(folder / "state" / "outbox.db")
    write_backups(folder / "state" / "backups")
    write_versions(folder / "site")


def write_configurations(folder: Path) -> None:
    for number in range(1, CONFIGS):
        with change("config", number):
            content = config(number)
            half = len(content) // 2 if number % 3 == 0 else len(content)
            # As somebody's editor: no draft, no fsync, at times in two pieces.
            with config_path(folder).open("wb", buffering=0) as file:
                file.write(content[:half])
                file.write(content[half:])
            configure(folder, number)


def write_keys(folder: Path) -> None:
    keys = KeyStore(folder)
    keys.load()
    with change("key", 1):
        keys.put("a", bytes([1]) * 32)
    with change("key", 2):
        keys.put("b", bytes([2]) * 32)
    with change("key", 3):
        keys.put("a", bytes([3]) * 32)
    with change("key", 4):
        keys.remove("b")
    with change("key", 5):
        salt = keys.begin_rotation("a", bytes([3]) * 32)
    with change("key", 6):
        assert len(salt) == 16
        assert keys.settle("a", keys.ids("a")[1])
    with change("key", 7):
        keys.put("a", bytes([7]) * 32)


def write_joined(path: Path) -> None:
    for number in range(1, 6):
        with change("joined", number):
            JoinedFile(path).save(joined(number))


def joined(number: int) -> Joined:
    return Joined([f"00:00:00:00:00:{each:02X}" for each in range(number)])


def write_state(path: Path) -> None:
    with change("migration", 1):
        state = StateDatabase(path)
    for number in range(1, 6):
        with change("device", number):
            state.write([registry.put_devices({f"board-{number}": device})])
    state.close()
    with change("back", 1):
        with closing(sqlite3.connect(path, isolation_level=None)) as newer:
            versions.migrate(newer, path, [*MIGRATIONS, NEWER])
        StateDatabase(path).close()
    state = StateDatabase(path)
    with change("device", 6):
        state.write([registry.put_devices({"board-6": device})])
    state.close()


def device() -> dict[str, str]:
    return {"name": "x" * 3000}


def write_outbox(path: Path) -> None:
    store = Store(path, Limits())
    with change("outbox", 1):
        store.open_ledger()
        store.open(MOMENT)
    for number in range(2, ROWS + 2):
        with change("outbox", number):
            store.commit(Job(MOMENT, parcels=[parcel(number - 1)]))
    with change("settled", 1):
        settled = [Settled("board", 1, n, n, n) for n in range(1, SETTLED + 1)]
        store.commit(Job(MOMENT, settled=settled))
    store.close()


def parcel(number: int) -> Parcel:
    sample = Sample("board", 1, number, 1.0, {"n": number, "text": "x" * 2000})
    return Parcel(number, "board", (sample,), None, 1.0)


def write_backups(folder: Path) -> None:
    for number in range(1, 4):
        with change("backup", number):
            kept = KeptFiles(folder, "test", ".tar.gz")
            kept.write(kept.begin(), back_up)


def back_up(file: BinaryIO) -> None:
    file.write(BACKUP)


def write_versions(folder: Path) -> None:
    site = Site(folder)
    os.environ["PATH"] = f"{site.programs}{os.pathsep}{os.environ['PATH']}"
    with change("version", 1):
        site.machine.do(without_commands(installation(site.seen(), site.source("0.1.0"), SERVICE)))
    site.state = "active"
    plan = upgrade(site.seen(), site.source("0.2.0"), SERVICE)
    with change("version", 2):
        for actions in (plan.prepare, plan.trial, plan.keep):
            site.machine.do(without_commands(actions))


def without_commands(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, Command)]


@contextmanager
def change(noun: str, number: int) -> Iterator[None]:
    _say(f"begin {noun} {number}")
    yield
    _say(f"done {noun} {number}")


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    assert all(devices_of(a) != devices_of(b) for a, b in pairwise(range(CONFIGS)))
    main(Path(sys.argv[1]))
