import asyncio
import threading
import time
from pathlib import Path

import pytest

from gateway.links.threads import in_thread, start_in_thread


class Gate:
    """Work that blocks until it is let through, and what became of its result."""

    def __init__(self) -> None:
        self.may_pass = threading.Event()
        self.undone = threading.Event()
        self.undone_by: list[str] = []

    def work(self) -> str:
        assert self.may_pass.wait(5)
        return "result"

    def undo(self, result: str) -> None:
        is_loop = threading.current_thread() is threading.main_thread()
        self.undone_by.append(f"{result} in {'the loop' if is_loop else 'a thread'}")
        self.undone.set()


async def test_work_is_done_in_a_thread_while_the_loop_goes_on() -> None:
    gate = Gate()

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(in_thread(gate.work, gate.undo))
        await asyncio.sleep(0)
        gate.may_pass.set()

    assert task.result() == "result"
    assert not gate.undone.is_set()


async def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        await in_thread(fail, lambda _none: None)


async def test_a_result_nobody_waits_for_is_undone_in_a_thread() -> None:
    gate = Gate()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(in_thread(gate.work, gate.undo))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()

    gate.may_pass.set()
    async with asyncio.timeout(5):
        await start_in_thread(lambda: assert_set(gate.undone))

    assert gate.undone_by == ["result in a thread"]


async def test_a_result_that_came_in_the_turn_of_the_cancellation_is_undone() -> None:
    gate = Gate()
    gate.may_pass.set()
    loop = asyncio.get_running_loop()
    waiting = asyncio.current_task()
    assert waiting is not None

    def cancel_behind_the_result(worker: Path) -> None:
        deadline_s = time.monotonic() + 5
        while worker.exists() and time.monotonic() < deadline_s:
            time.sleep(0.001)  # when the thread is gone, its result stands in the loop's queue
        loop.call_soon(waiting.cancel)

    def work() -> str:
        worker = Path(f"/proc/self/task/{threading.get_native_id()}")
        loop.call_soon_threadsafe(cancel_behind_the_result, worker)
        return gate.work()

    with pytest.raises(asyncio.CancelledError):
        await in_thread(work, gate.undo)
    waiting.uncancel()

    async with asyncio.timeout(5):
        await start_in_thread(lambda: assert_set(gate.undone))
    assert gate.undone_by == ["result in a thread"]


def test_a_result_that_comes_when_the_loop_is_closed_is_undone() -> None:
    gate = Gate()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_thread(gate.work, gate.undo)

    asyncio.run(give_up())
    gate.may_pass.set()

    assert gate.undone.wait(5)


def assert_set(event: threading.Event) -> None:
    assert event.wait(5)
