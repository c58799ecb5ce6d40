"""Files after power cuts: whatever is being written, the gateway starts, with a configuration.

All that writes files is run once, by the code that does it, and what it did to the disk is
recorded. Then the power fails, fifty times at seeded places: from the record it is known what may
be on the disk then (`tests/support/cut_disk.py`), and what must be.
"""

import logging
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.config.source import Source
from gateway.install.plan import installation
from gateway.store import journal, registry
from gateway.store.jobs import Limits
from gateway.store.joined import JoinedFile
from gateway.store.keys import KeyStore
from gateway.store.state_database import StateDatabase
from gateway.store.store import Store
from tests.support import cut_writers
from tests.support.commands import running
from tests.support.cut_disk import Disk
from tests.support.cut_writers import MOMENT, OLD_DEVICES, SETTLED, devices_of, keys_after
from tests.support.file_trace import Step, steps, traced
from tests.support.memory_folder import memory_folder
from tests.support.service_site import SERVICE, Site

SOAK = bool(os.environ.get("SOAK"))
pytestmark = pytest.mark.timeout(600)

CUTS = 2500 if SOAK else 50
STARTS = 50 if SOAK else 3
"""Of the cuts, so many are followed by a start of the whole daemon."""
SEED = 7
SERVICE_FILES = {
    SERVICE.unit.encode(),
    SERVICE.rules,
    SERVICE.sysusers,
    SERVICE.tmpfiles,
    SERVICE.config,
}
FILLING = {"made", "wrote", "cut", "pointed", "folder"}
"""Steps that are many and alike while an environment is copied."""


class Record(NamedTuple):
    """What was written."""

    folder: Path
    before: Path
    """As it was before."""
    trace: Path
    steps: list[Step]

    def disk(self, at: int) -> Disk:
        disk = Disk(self.before)
        disk.do(self.steps[:at])
        return disk


class Said(NamedTuple):
    """The newest change of each noun that was begun, and that was done."""

    begun: dict[str, int]
    done: dict[str, int]

    def may(self, noun: str) -> range:
        """Return which of its changes may be the last one on the disk."""
        return range(self.done.get(noun, 0), self.begun.get(noun, 0) + 1)


def said_in(some: Sequence[Step]) -> Said:
    said = Said({}, {})
    for step in some:
        words = step.path.split()
        if step.what == "said" and words and words[0] in {"begin", "done"}:
            word, noun, number = words
            (said.begun if word == "begin" else said.done)[noun] = int(number)
    return said


@pytest.fixture(scope="module")
def record(strace_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    base = tmp_path_factory.mktemp("cuts")
    folder, before, trace = base / "folder", base / "before", base / "trace"
    cut_writers.prepare(folder)
    shutil.copytree(folder, before, symlinks=True)
    command = [sys.executable, "-m", "tests.support.cut_writers", str(folder)]

    assert traced(strace_bin, trace, command) == 0
    return Record(folder, before, trace, steps(trace, folder))


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder that waits for no disk: what a disk has is the model's."""
    with memory_folder() as folder:
        yield folder


def content(folder: Path) -> dict[str, bytes | str]:
    """Return all files and links, but for the memory that SQLite shares."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path)
        elif path.is_file() and not path.name.endswith("-shm"):
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_the_record_has_all_that_was_written(record: Record, in_memory: Path) -> None:
    record.disk(len(record.steps)).in_memory(in_memory / "after")

    assert content(in_memory / "after") == content(record.folder)
    assert {"config", "key", "joined", "migration", "device", "back", "outbox", "settled"} <= set(
        said_in(record.steps).done
    )


def cuts(record: Record, count: int) -> Iterator[tuple[int, Disk, random.Random]]:
    """Yield where the power fails, the disk then, and chance for what is left; in that order."""
    rng = random.Random(SEED)
    places = [(rng.randrange(len(record.steps) + 1), number) for number in range(count)]
    disk, done = Disk(record.before), 0
    for at, number in sorted(places):
        disk.do(record.steps[done:at])
        done = at
        yield at, disk, random.Random(f"{SEED} {number}")


def test_after_fifty_power_cuts_all_is_there_that_was_done(
    record: Record, in_memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # the last good configuration is warned of loudly
    folder = in_memory / "folder"
    for at, disk, rng in cuts(record, CUTS):
        disk.after_cut(rng, folder)
        said = said_in(record.steps[:at])
        try:
            look_at_all(folder, said, in_memory)
        except BaseException as exc:
            step = record.steps[max(at - 1, 0) : at]
            exc.add_note(f"seed {SEED}, cut at {at}, after {step}")
            exc.add_note(f"begun {said.begun}, done {said.done}")
            raise


def test_an_outbox_opens_whenever_the_power_fails_in_its_very_first_writes(
    record: Record, in_memory: Path
) -> None:
    """Before it has a WAL there is a journal, which nobody who only reads can roll back."""
    first = [at for at, step in enumerate(record.steps) if step.path == "state/outbox.db-journal"]
    assert first
    for at in range(first[0], first[-1] + 2):
        for seed in range(5):
            record.disk(at).after_cut(random.Random(seed), in_memory / "folder")
            outbox = in_memory / "folder" / "state" / "outbox.db"
            look_at_the_outbox(outbox, said_in(record.steps[:at]))


def look_at_all(folder: Path, said: Said, scratch: Path) -> None:
    look_at_the_configuration(folder, said)
    look_at_keys(folder / "state" / "keys", said)
    look_at_who_joined(folder / "state" / "outbox.db.joined", said)
    look_at_the_state(folder / "state" / "gateway.db", said)
    look_at_the_outbox(folder / "state" / "outbox.db", said)
    look_at_backups(folder / "state" / "backups", said)
    look_at_the_version(folder / "site", said, scratch)


def look_at_the_configuration(folder: Path, said: Said) -> None:
    """It is whole, and one that somebody wrote: the newest may be in no file yet."""
    os.environ["STATE_DIRECTORY"] = str(folder / "state")
    settings, _ = Source(cut_writers.config_path(folder)).begin()

    name, _, number = settings.gateway.name.rpartition("-")
    assert name == "attic"
    assert int(number) <= said.begun.get("config", 0)
    assert len(settings.device) == devices_of(int(number))
    assert settings.mqtt.port == 1 + int(number)


def look_at_keys(folder: Path, said: Said) -> None:
    keys = KeyStore(folder)
    keys.load()

    found = {device: keys.get(device) for device in keys.filed()}
    shown = {
        device: "next" if kept.salt is None and kept.key[0] != kept.key[1] else kept.key.hex()[:2]
        for device, kept in found.items()
        if kept is not None
    }
    assert shown in [keys_after(number) for number in said.may("key")]


def look_at_who_joined(path: Path, said: Said) -> None:
    found = list(JoinedFile(path).load().members)
    assert found in [cut_writers.joined(number).members for number in said.may("joined")]
    assert not list(path.parent.glob("*.joined.damaged"))


def look_at_the_state(path: Path, said: Said) -> None:
    with closing(StateDatabase(path)) as state:
        registered = registry.load(state.select)
        journal.load(state.select)

    assert set(registered.devices) in [
        OLD_DEVICES | {f"board-{each}" for each in range(1, number + 1)}
        for number in said.may("device")
    ]
    assert len(registered.topics) == 16
    assert not list(path.parent.glob("gateway.db.damaged*"))


def look_at_the_outbox(path: Path, said: Said) -> None:
    """Every row is there that was stored and not delivered, and none is called missing."""
    store = Store(path, Limits())
    store.open_ledger()
    opened = store.open(MOMENT)
    parcels = store.read("board", 0, 10_000, 10_000, MOMENT) if opened.stock else []
    store.close()

    found = [parcel.first_seq for parcel in parcels]
    stored = [list(range(1, number)) for number in said.may("outbox")]
    delivered = [SETTLED * number for number in said.may("settled")]
    assert found in [rows[first:] for rows in stored for first in delivered]
    assert not any(parcel.is_loss for parcel in parcels)
    assert not list(path.parent.glob("outbox.db.damaged*"))


def look_at_backups(folder: Path, said: Said) -> None:
    there = list(folder.glob("*.tar.gz"))

    assert all(path.read_bytes() == cut_writers.BACKUP for path in there)
    assert len(there) in said.may("backup")


def site_after_cut(folder: Path, scratch: Path) -> Site:
    """Return the machine that was installed on, and upgraded, once its power is back."""
    shutil.rmtree(scratch / "site", ignore_errors=True)
    (scratch / "site").mkdir()
    site = Site(scratch / "site")
    if (folder / "root").exists():
        site.root.rmdir()
        shutil.copytree(folder / "root", site.root, symlinks=True)
    site.lose_power()
    return site


def look_at_the_version(folder: Path, said: Said, scratch: Path) -> None:
    """What a boot starts is whole, and the newer version once the upgrade was kept."""
    site = site_after_cut(folder, scratch)
    written = [*site.root.glob("usr/local/lib/**/*"), *site.root.glob("etc/edge-gateway/*")]
    contents = {path.read_bytes() for path in written if path.is_file() and path.name[0] != "."}
    assert contents <= SERVICE_FILES
    if said.done.get("version"):
        assert site.current() in [f"0.{number}.0" for number in said.may("version")]


def test_whatever_a_power_cut_leaves_of_a_version_a_whole_one_starts_and_the_next_is_whole(
    record: Record, in_memory: Path
) -> None:
    """An environment of which half is on the disk must not be taken for one that is there."""
    of_site = steps(record.trace, record.folder / "site")
    disk = Disk(record.before / "site")
    for at, step in enumerate(of_site):
        disk.do([step])
        is_one_of_many = step.what in FILLING and at % 7 and not SOAK
        if is_one_of_many or not step.path.startswith("root/"):
            continue
        said = said_in(of_site[: at + 1])
        for seed in range(10 if SOAK else 1):
            disk.after_cut(random.Random(f"{at} {seed}"), in_memory / "cut")
            look_at_the_version(in_memory / "cut", said, in_memory)
        if step.path.startswith("root/opt/edge-gateway/versions"):
            version = f"0.{said.begun['version']}.0"
            site = site_after_cut(in_memory / "cut", in_memory)
            actions = installation(site.seen(), site.source(version), SERVICE)
            site.machine.do(cut_writers.without_commands(actions))
            assert site.current() == version, f"seed {at} {seed}, after {step}"

    for seed in range(8):
        disk.after_cut(random.Random(f"end {seed}"), in_memory / "cut")
        look_at_the_version(in_memory / "cut", said_in(of_site), in_memory)


def test_after_power_cuts_the_daemon_starts_with_a_configuration(
    record: Record, in_memory: Path
) -> None:
    """Where what it keeps was being written; its broker is nowhere."""
    folder = in_memory / "folder"
    for _, disk, rng in cuts(record, STARTS):
        disk.after_cut(rng, folder)
        config = str(cut_writers.config_path(folder))
        environment = {"STATE_DIRECTORY": str(folder / "state")}

        with running("run", "--config", config, environment=environment) as daemon:
            daemon.err.next("publishing below edge/attic-")
            daemon.err.next("broker: ")
            done = daemon.stop(signal.SIGTERM)

        assert done.code == 0, done.err
        assert "Traceback" not in done.err
