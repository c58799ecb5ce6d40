import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import LinkError
from gateway.links.threads import Call
from tests.support.threads import no_threads


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
        task = tasks.create_task(Call(gate.work, gate.undo).result())
        await asyncio.sleep(0)
        gate.may_pass.set()

    assert task.result() == "result"
    assert not gate.undone.is_set()


async def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        await Call(fail).result()


async def test_a_result_nobody_waits_for_is_undone_in_a_thread() -> None:
    gate = Gate()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Call(gate.work, gate.undo).result())
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()

    gate.may_pass.set()
    async with asyncio.timeout(5):
        await Call(lambda: assert_set(gate.undone)).result()

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
        await Call(work, gate.undo).result()
    waiting.uncancel()

    async with asyncio.timeout(5):
        await Call(lambda: assert_set(gate.undone)).result()
    assert gate.undone_by == ["result in a thread"]


def test_a_result_that_comes_when_the_loop_is_closed_is_undone() -> None:
    gate = Gate()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Call(gate.work, gate.undo).result()

    asyncio.run(give_up())
    gate.may_pass.set()

    assert gate.undone.wait(5)


def test_a_result_that_comes_when_the_loop_has_stopped_is_undone() -> None:
    gate = Gate()
    workers: list[Path] = []

    def work() -> str:
        workers.append(Path(f"/proc/self/task/{threading.get_native_id()}"))
        return gate.work()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Call(work, gate.undo).result()

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(give_up())
        gate.may_pass.set()
        wait_until(lambda: not workers[0].exists())  # it may tell the loop, which runs no more
    finally:
        loop.close()

    assert gate.undone_by == ["result in a thread"]


async def test_a_call_that_was_given_up_runs_until_its_result_is_undone() -> None:
    gate = Gate()
    call = Call(gate.work, gate.undo)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await call.result()
    ran_on = call.is_running

    gate.may_pass.set()
    await Call(lambda: wait_until(lambda: not call.is_running)).result()

    assert ran_on
    assert gate.undone_by == ["result in a thread"]


async def test_where_no_thread_is_to_be_had_the_call_fails_as_links_do() -> None:
    with no_threads(), pytest.raises(LinkError, match="can't start new thread: raise the limit"):
        Call(lambda: None)


async def test_a_result_is_undone_in_the_loop_where_no_thread_is_to_be_had() -> None:
    gate = Gate()
    gate.may_pass.set()
    call = Call(gate.work, gate.undo)
    wait_until(lambda: not call.is_running)
    with no_threads():
        waiting = asyncio.current_task()
        assert waiting is not None
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.result()
        waiting.uncancel()

    assert gate.undone_by == ["result in the loop"]


def wait_until(claim: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not claim():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)  # threads tell nobody when they end


def assert_set(event: threading.Event) -> None:
    assert event.wait(5)
