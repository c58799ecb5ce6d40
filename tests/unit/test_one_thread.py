"""The thread of a file, and what it tells the watchdog."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.progress import Progress
from gateway.store.one_thread import LONG_S, OneThread

PERIOD_S = 60.0


@dataclass
class Bench:
    """A thread, and the time its promises go by."""

    thread: OneThread
    progress: Progress
    now_s: list[float]

    def is_late(self, after_s: float) -> bool:
        """Whether it stands still if so much time has passed."""
        self.now_s[0] += after_s
        return bool(self.progress.late())


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    now_s = [1000.0]
    progress = Progress(lambda: now_s[0], PERIOD_S)
    thread = OneThread("test", Path("file"), progress)
    yield Bench(thread, progress, now_s)
    thread.end()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Give what jobs wait for, and let them go in the end."""
    opened = threading.Event()
    yield opened
    opened.set()


async def test_a_thread_that_was_never_needed_is_idle(bench: Bench) -> None:
    bench.thread.knock()

    assert not bench.is_late(1e9)


async def test_a_job_that_does_not_come_back_is_late_within_a_period(
    bench: Bench, gate: threading.Event
) -> None:
    job = bench.thread.start(gate.wait)

    assert not bench.is_late(PERIOD_S / 2)
    assert bench.is_late(PERIOD_S / 2)
    assert [stage.name for stage in bench.progress.late()] == ["test thread"]
    assert bench.progress.late()[0].doing == "wait"
    gate.set()
    await job
    assert not bench.is_late(1e9)


async def test_a_job_that_takes_long_is_given_the_time(bench: Bench, gate: threading.Event) -> None:
    job = bench.thread.start_long(gate.wait)

    assert not bench.is_late(LONG_S)
    assert bench.is_late(1.0)
    gate.set()
    await job


async def test_each_job_that_waits_is_given_its_own_time(
    bench: Bench, gate: threading.Event
) -> None:
    first = bench.thread.start(lambda: None)
    second = bench.thread.start(gate.wait)
    bench.now_s[0] += PERIOD_S / 2
    await first
    await asyncio.sleep(0)

    assert not bench.is_late(PERIOD_S / 2)
    assert bench.is_late(PERIOD_S / 2)
    gate.set()
    await second


async def test_a_knock_finds_a_thread_that_froze_while_it_had_nothing_to_do(
    bench: Bench, gate: threading.Event
) -> None:
    await bench.thread.start(lambda: None)
    bench.thread._executor.submit(gate.wait)  # noqa: SLF001 - behind its back
    await asyncio.sleep(0)
    bench.now_s[0] += PERIOD_S / 2
    bench.thread.knock()
    bench.thread.knock()

    assert bench.is_late(PERIOD_S)


async def test_who_was_heard_a_moment_ago_is_not_knocked_at(bench: Bench) -> None:
    await bench.thread.start(lambda: None)
    await asyncio.sleep(0)
    bench.thread.knock()

    assert not bench.thread._under_way  # noqa: SLF001 - nothing else shows it


async def test_a_job_that_fails_is_over(bench: Bench) -> None:
    def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await bench.thread.start(fail)
    await asyncio.sleep(0)

    assert not bench.is_late(1e9)
