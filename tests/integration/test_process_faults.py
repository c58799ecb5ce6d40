"""Real processes, killed and stopped."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.simulate.faults import Planned
from gateway.simulate.faults.process import Blow, Blows, HeldProcess, process_events


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def state_of(pid: int) -> str:
    """Return what the kernel says: S for one that sleeps, T for one that was stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def becomes(pid: int, state: str) -> None:
    while state_of(pid) != state:  # noqa: ASYNC110 the kernel tells nobody
        await asyncio.sleep(0.005)


async def test_one_is_killed_and_the_other_one_is_not_touched() -> None:
    events = process_events(["victim"], seed=1, shortest_s=0.01, longest_s=0.02)
    with sleeper() as victim, sleeper() as bystander, HeldProcess(victim.pid) as held:
        blows = Blows(events, {"victim": held})
        blows.start()
        async with asyncio.timeout(10):
            await asyncio.to_thread(victim.wait)
        blows.stop()

        assert victim.returncode == -signal.SIGKILL
        assert bystander.poll() is None

    assert blows.dealt[Blow("victim", signal.SIGKILL)] >= 1


async def test_one_stands_still_for_a_while_and_goes_on() -> None:
    events = iter(
        [
            Planned(0.0, Blow("victim", signal.SIGSTOP)),
            Planned(0.1, Blow("victim", signal.SIGCONT)),
        ]
    )
    with sleeper() as victim, HeldProcess(victim.pid) as held:
        blows = Blows(events, {"victim": held})
        blows.start()
        async with asyncio.timeout(10):
            await becomes(victim.pid, "T")
            await becomes(victim.pid, "S")

        assert victim.poll() is None


async def test_the_end_of_the_blows_leaves_nobody_stopped() -> None:
    events = iter([Planned(0.0, Blow("victim", signal.SIGSTOP))])
    with sleeper() as victim, HeldProcess(victim.pid) as held:
        blows = Blows(events, {"victim": held})
        blows.start()
        async with asyncio.timeout(10):
            await becomes(victim.pid, "T")
            blows.stop()
            await becomes(victim.pid, "S")


def test_a_process_that_has_ended_is_beyond_all_blows() -> None:
    with sleeper() as victim, HeldProcess(victim.pid) as held:
        held(signal.SIGKILL)
        victim.wait()
        held(signal.SIGKILL)

    with pytest.raises(ProcessLookupError):
        HeldProcess(victim.pid)


@pytest.mark.parametrize("pid", [-1, 0, 1, os.getpid()], ids=["all", "group", "init", "self"])
def test_nobody_kills_himself_a_group_or_init(pid: int) -> None:
    with pytest.raises(ValueError, match="none to be killed"):
        HeldProcess(pid)
