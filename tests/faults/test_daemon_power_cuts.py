"""The power of a gateway at work fails: the real daemon, with boards, amid whatever it writes.

It comes from an older version, so that it migrates both databases first; boards talk to it, its
configuration is edited and read again, it is killed and started anew. All that it and the editor do
to the disk is recorded, and from the record it is known what may be on the disk whenever the power
fails (`tests/support/cut_disk.py`).
"""

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
from gateway.model import Sample
from gateway.store import registry
from gateway.store.jobs import Limits
from gateway.store.state_database import StateDatabase
from gateway.store.store import Store
from tests.support import cut_daemon
from tests.support.commands import running
from tests.support.cut_disk import Disk
from tests.support.cut_writers import MOMENT, OLD_DEVICES, config_path, devices_of
from tests.support.file_trace import Step, steps, traced
from tests.support.memory_folder import memory_folder

SOAK = bool(os.environ.get("SOAK"))
pytestmark = pytest.mark.timeout(600)

CUTS = 1000 if SOAK else 12
STARTS = 40 if SOAK else 2
"""Of the cuts, so many are followed by a start of the daemon."""
SEED = 11


class Record(NamedTuple):
    """What a gateway at work wrote."""

    before: Path
    steps: list[Step]
    samples: int
    """In the outbox before."""


@pytest.fixture(scope="module")
def record(strace_bin: Path) -> Iterator[Record]:
    with memory_folder() as base:
        folder, before, trace = base / "folder", base / "before", base / "trace"
        cut_daemon.prepare(folder)
        shutil.copytree(folder, before)
        samples = len(stored(shutil.copytree(folder, base / "copy")))
        command = [sys.executable, "-m", "tests.support.cut_daemon", str(folder)]

        assert traced(strace_bin, trace, command) == 0
        yield Record(before, steps(trace, folder), samples)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder that waits for no disk: what a disk has is the model's."""
    with memory_folder() as folder:
        yield folder


def said(some: Sequence[Step], word: str) -> list[tuple[str, int]]:
    lines = [step.path.split() for step in some if step.what == "said"]
    return [(line[1], int(line[2])) for line in lines if line and line[0] == word]


def stored(folder: Path) -> list[tuple[str, object]]:
    """Return device and value of all samples that wait; none is called missing."""
    store = Store(folder / "state" / "outbox.db", Limits())
    store.open_ledger()
    opened = store.open(MOMENT)
    parcels = [
        parcel
        for stock in opened.stock
        for parcel in store.read(stock.device, 0, 100_000, 100_000, MOMENT)
    ]
    store.close()
    assert not any(parcel.is_loss for parcel in parcels)
    assert not list(folder.glob("state/*.damaged*"))
    return [
        (parcel.device, sample.values.get("number"))
        for parcel in parcels
        for sample in parcel.records
        if isinstance(sample, Sample)
    ]


def look_at_all(folder: Path, done: Sequence[Step], samples: int) -> None:
    os.environ["STATE_DIRECTORY"] = str(folder / "state")
    settings, _ = Source(config_path(folder)).begin()
    begun = [number for noun, number in said(done, "begin") if noun == "config"]
    written = {devices_of(number) for number in range(max(begun, default=0) + 1)}
    assert settings.gateway.name == "attic"
    assert len(settings.device) in written

    with closing(StateDatabase(folder / "state" / "gateway.db")) as state:
        assert set(registry.load(state.select).devices) >= OLD_DEVICES

    there = stored(folder)
    missing = set(said(done, "acked")) - set(there)
    assert not missing, "boards have forgotten what is not on the disk"
    assert len([each for each in there if each[0].startswith("light-")]) == samples


def test_whenever_the_power_of_a_gateway_at_work_fails_all_that_it_acknowledged_is_there(
    record: Record, in_memory: Path
) -> None:
    rng = random.Random(SEED)
    assert ("end", 1) in said(record.steps, "done")
    # Half of them at the first start: what migrates, and keeps a configuration, does so there.
    first = next(at for at, step in enumerate(record.steps) if step.path.startswith("acked "))
    last = len(record.steps) + 1
    places = [(rng.randrange(1, first if n % 2 else last), n) for n in range(CUTS)]
    disk, before, folder = Disk(record.before), 0, in_memory / "folder"
    for at, number in sorted(places):
        disk.do(record.steps[before:at])
        before = at
        disk.after_cut(random.Random(f"{SEED} {number}"), folder)
        try:
            if number < STARTS:
                start(folder)
            look_at_all(folder, record.steps[:at], record.samples)
        except BaseException as exc:
            exc.add_note(f"seed {SEED}, cut {number}, at {at} after {record.steps[at - 1 : at]}")
            raise


def start(folder: Path) -> None:
    """Have the daemon start with what is left, and stop."""
    environment = {"STATE_DIRECTORY": str(folder / "state")}
    with running("run", "--config", str(config_path(folder)), environment=environment) as daemon:
        daemon.err.next("publishing below edge/attic ")
        daemon.err.next("broker: ")
        done = daemon.stop(signal.SIGTERM)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
