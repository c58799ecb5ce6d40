"""The reconnect loop: what it says of failures, and how often."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn

import pytest

from gateway.backoff import Backoff
from gateway.errors import LinkError
from gateway.supervise import keep_running

DATA = "data"


class OverError(Exception):
    """No more failures are scripted."""


def failing(reasons: Iterable[str]) -> Callable[[Callable[[], None]], Awaitable[NoReturn]]:
    """Return what fails for one reason after the other; with DATA before it, after good data."""
    left = iter(reasons)

    async def run(progress: Callable[[], None]) -> NoReturn:
        reason = next(left, None)
        if reason == DATA:
            progress()
            reason = next(left)
        if reason is None:
            raise OverError
        raise LinkError(reason)

    return run


async def warnings_of(reasons: Iterable[str], caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(OverError):
        await keep_running("broker", failing(reasons), Backoff(base_s=0.0))
    return [
        record.getMessage().partition(";")[0]
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]


async def test_a_failure_that_lasts_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    told = await warnings_of(["refused"] * 5, caplog)

    assert told == ["broker: refused"]
    assert caplog.messages == ["broker: refused; retry in 0.0 s, then less often"] * 5


async def test_a_new_reason_is_told_and_an_old_one_not_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = await warnings_of(["refused", "bad password", "refused", "bad password"], caplog)

    assert told == ["broker: refused", "broker: bad password"]


async def test_after_good_data_a_failure_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    told = await warnings_of(["refused", DATA, "refused", "refused"], caplog)

    assert told == ["broker: refused", "broker: refused"]


async def test_reasons_without_end_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told = await warnings_of([f"reason {number}" for number in range(100)], caplog)

    assert told == [f"broker: reason {number}" for number in range(8)]


async def test_who_is_cancelled_ends_although_a_library_makes_an_error_of_that() -> None:
    has_begun = asyncio.Event()
    runs = 0

    async def run(_progress: Callable[[], None]) -> NoReturn:
        nonlocal runs
        runs += 1
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as exc:
            raise LinkError("the library calls it a failure") from exc
        raise AssertionError

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(keep_running("radio", run, Backoff(base_s=0.0)))
        await has_begun.wait()
        task.cancel()

    assert task.cancelled()
    assert runs == 1
