"""What the gateway writes to the disk while all is well: an SD card has to bear it for years."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.store.keeper import WATERMARKS_S
from tests.support.broker import Broker
from tests.support.daemon import daemon_command
from tests.support.figures import Figures
from tests.support.light import LightProcess, light_boards

SOAK = bool(os.environ.get("SOAK"))
pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

SAMPLES = 10_000
BOUND_BYTES = 64 << 10
"""Both from the issue."""

BOARDS = 20
LEARNED = 300
"""Samples of each board after which the gateway knows its cadence, three seconds in the short form;
what it learned is noted as well."""
INTERVAL_S = BOARDS * (WATERMARKS_S + 10) / SAMPLES if SOAK else 0.01
"""For long, so that the watermarks are written on the way, too, and not only at the stop."""


def written_bytes(pid: int | str) -> int:
    """Return what a process made the disk write. Source: proc_pid_io(5); a tmpfs is no disk."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def is_disk(folder: Path) -> bool:
    """Tell whether what is written there is counted as written to a disk."""
    before = written_bytes("self")
    (folder / "probe").write_bytes(bytes(BOUND_BYTES))
    return written_bytes("self") - before >= BOUND_BYTES


@pytest.fixture
def disk_folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a real disk."""
    elsewhere = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="wear-"))
    try:
        found = next((folder for folder in (tmp_path, elsewhere) if is_disk(folder)), None)
        if found is None:
            pytest.skip("there is no folder on a disk: what is written there is not counted")
        os.sync()
        yield found
    finally:
        shutil.rmtree(elsewhere)


@contextmanager
def gateway(folder: Path, broker: Broker, durability: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon, whose files are all in `folder`; who takes its end may do so earlier."""
    (folder / "daemon").mkdir(exist_ok=True)
    command = daemon_command(
        folder / "daemon",
        broker.port,
        f"{folder}/ports/*",
        f'[outbox]\ndurability = "{durability}"\npath = "{folder}/state/outbox.db"\n',
    )
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()


def stopped(process: subprocess.Popen[bytes]) -> int:
    """Stop a process in order; return what it has written until its end."""
    process.terminate()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its entry in /proc stays
    written = written_bytes(process.pid)
    assert process.wait() == 0
    return written


async def acked(boards: LightProcess, count: int) -> int:
    """Wait until the boards were told that so many samples are safe; return how many are."""
    async with asyncio.timeout(200):
        while (safe := int((await boards.ask("stats"))["acked"])) < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    return safe


async def introduce(folder: Path, broker: Broker, boards: LightProcess) -> int:
    """Have the gateway meet the boards, each of which it notes once; return how far they are."""
    with gateway(folder, broker, "spill") as process:
        met = await acked(boards, BOARDS * LEARNED)
        await asyncio.to_thread(stopped, process)
    return met


async def measure(
    folder: Path, broker: Broker, durability: str, samples: int = SAMPLES
) -> tuple[float, float]:
    """Return bytes written for 10,000 samples: while it runs, and with the clean stop.

    It looks at so many samples, of boards that the gateway knows.
    """
    (folder / "ports").mkdir()
    async with light_boards(folder / "ports", BOARDS, INTERVAL_S) as boards:
        met = await introduce(folder, broker, boards) if durability == "spill" else 0
        with gateway(folder, broker, durability) as process:
            first = await acked(boards, met + BOARDS * 10)
            at_first = written_bytes(process.pid)
            last = await acked(boards, first + samples)
            at_last = written_bytes(process.pid)
            await boards.ask("drain")
            at_end = await asyncio.to_thread(stopped, process)
    assert at_first > 0, "the store is not on the disk"
    scale = SAMPLES / (last - first)
    return (at_last - at_first) * scale, (at_end - at_first) * scale


async def test_a_healthy_broker_spares_the_disk(
    broker: Broker, disk_folder: Path, figures: Figures
) -> None:
    running, with_stop = await measure(disk_folder, broker, "spill")
    figures("written for 10,000 samples, spill", f"{running / 1024:.0f} KiB", "64 KiB")
    figures("the same with a clean stop", f"{with_stop / 1024:.0f} KiB", "64 KiB")
    assert with_stop < BOUND_BYTES


async def test_the_price_of_always_is_told(
    broker: Broker, disk_folder: Path, figures: Figures
) -> None:
    running, _ = await measure(disk_folder, broker, "always", SAMPLES if SOAK else SAMPLES // 2)
    figures("written for 10,000 samples, always", f"{running / 1024:.0f} KiB")
    assert running > BOUND_BYTES, "each sample is written"
