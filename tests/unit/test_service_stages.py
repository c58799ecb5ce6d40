"""What serves people tells the watchdog what it has in hand, and by when that should be over.

The loops themselves are frozen in tests/integration/test_watchdog.py.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.admin import desk as desk_module
from gateway.admin import intervals as intervals_module
from gateway.admin.desk import Desk, Undone, Verb
from gateway.admin.intervals import PUSH_S, Intervals
from gateway.admin.key_requests import KeyRequests
from gateway.admin.local import PATIENCE_S, LocalDoor
from gateway.clock import Clock
from gateway.commands.letter import End
from gateway.devices.registry import Devices
from gateway.model import Description
from gateway.mqtt.names import Names
from gateway.progress import PERIOD_S, Progress
from gateway.protocol.sealed import key_id, rotated
from gateway.protocol.session_events import Outcome
from gateway.requests.asking import AdminRequest
from gateway.status import Status
from gateway.store.keys import KeyStore
from gateway.timedate import ANSWER_S, RARE_ASK_S, TimeDate
from gateway.timekeeper import TimeKeeper
from tests.support.shelf import Shelf
from tests.support.skipping_loop import run_skipping

KEY = bytes(range(32))


@dataclass
class Time:
    """A clock that is set."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def progress(time: Time) -> Progress:
    return Progress(time, PERIOD_S)


def late_after_s(progress: Progress, time: Time) -> dict[str, float]:
    """Return, to the second, after how long who is late, if nothing moves for an hour."""
    began_s, late = time.now_s, dict[str, float]()
    while time.now_s < began_s + 3600.0:
        time.now_s += 1.0
        for stage in progress.late():
            late.setdefault(stage.name, time.now_s - began_s)
    return late


def names(progress: Progress) -> list[str]:
    return [stage.name for stage in progress.stages]


async def hang(_request: AdminRequest) -> None:
    await asyncio.Event().wait()


# ---- requests ----


@pytest.mark.parametrize(
    ("longest_s", "late_s"),
    [(0.9, PERIOD_S * 2 / 3), (60.0, PERIOD_S * 2 / 3), (900.0, 900.0 + desk_module.LATE_S)],
)
def test_a_request_whose_task_gets_no_turn_is_late_when_it_should_be_over(
    progress: Progress, time: Time, longest_s: float, late_s: float
) -> None:
    desk = Desk(Counter(), progress)
    desk.open({"backup": Verb(hang, longest_s=longest_s)})

    desk.begin("backup")

    (after_s,) = late_after_s(progress, time).values()
    assert after_s == pytest.approx(late_s, abs=2)
    assert names(progress) == ["request backup"]


async def test_a_request_that_is_over_is_no_stage_any_more(progress: Progress) -> None:
    desk = Desk(Counter(), progress)
    desk.open({"backup": Verb(hang, longest_s=0.01)})

    outcome = await desk.do(desk.begin("backup"), AdminRequest())

    assert isinstance(outcome, Undone)
    assert progress.stages == []


# ---- the door ----


@asynccontextmanager
async def door(path: Path, progress: Progress, verb: Verb) -> AsyncIterator[LocalDoor]:
    opened = LocalDoor(path, "attic", Counter(), progress=progress)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(opened.run({"reload": verb}))
        await opened.listening.wait()
        yield opened
        running.cancel()


async def until_stages(progress: Progress, *wanted: str) -> None:
    async with asyncio.timeout(20):
        while names(progress) != [*wanted]:  # noqa: ASYNC110 - a stage sets no event
            await asyncio.sleep(0.001)


async def test_a_client_is_late_when_its_time_is_over_and_nobody_left_it(
    progress: Progress, time: Time, tmp_path: Path
) -> None:
    async with door(tmp_path / "door", progress, Verb(hang)):
        _, writer = await asyncio.open_unix_connection(tmp_path / "door")
        await until_stages(progress, "door", "local requests")
        late = late_after_s(progress, time)
        writer.close()
        await until_stages(progress, "door")

    assert late["local requests"] == pytest.approx(PATIENCE_S + PERIOD_S / 2, abs=2)
    assert late["door"] == pytest.approx(PERIOD_S / 6 + PERIOD_S / 2, abs=2)


async def test_a_client_whose_request_is_long_is_not(
    progress: Progress, time: Time, tmp_path: Path
) -> None:
    async with door(tmp_path / "door", progress, Verb(hang, longest_s=600.0)):
        _, writer = await asyncio.open_unix_connection(tmp_path / "door")
        writer.write(json.dumps({"verb": "reload"}).encode() + b"\n")
        await until_stages(progress, "door", "local requests", "request reload")
        late = late_after_s(progress, time)
        writer.close()

    assert late.keys() == {"door", "request reload"}
    assert late["request reload"] == pytest.approx(600.0 + desk_module.LATE_S, abs=2)


# ---- boards that are told something ----


def registry(key_id: str = "") -> Devices:
    timekeeper = TimeKeeper(Clock(lambda: 1000.0, lambda: 2e9, "boot", lambda: True))
    devices = Devices(Shelf(), Names(), Status(), timekeeper)
    devices.seen("usb0", Description("shed", "shed", "board", key_id=key_id))
    return devices


class SlowBoards:
    """Boards that answer when they are let."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def call(
        self, device: str, name: str, arguments: object = None, expires_s: float = 0.0
    ) -> End:
        del device, name, arguments, expires_s
        await self.may_end.wait()
        return End(Outcome.DONE)

    def ready(self, link: str, device: str, life: str) -> None:
        """Nobody else wants to know."""

    def left(self, link: str, device: str) -> None:
        """Nobody else wants to know."""


async def test_a_board_that_is_told_its_intervals_is_late_some_time_after_it_should_have_answered(
    progress: Progress, time: Time
) -> None:
    devices, boards = registry(), SlowBoards()
    devices.set_options("shed", {"interval_ms": {"climate": 5000}})
    intervals = Intervals(devices, boards, boards, progress)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(intervals.run())
        await until_stages(progress, "intervals")
        await asyncio.sleep(0)

        intervals.ready("usb0", "shed", "7.1")
        late = late_after_s(progress, time)
        boards.may_end.set()
        await until_stages(progress, "intervals")
        running.cancel()

    assert late["intervals of shed"] == pytest.approx(PUSH_S + intervals_module.LATE_S, abs=2)


async def test_a_key_whose_file_is_not_written_is_late(
    progress: Progress, time: Time, tmp_path: Path
) -> None:
    store = KeyStore(tmp_path / "keys", None)
    salt = store.begin_rotation("shed", KEY)
    devices = registry(key_id(rotated(KEY, salt)))
    keys = KeyRequests(store, devices, SlowBoards(), progress)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keys.run())
        await until_stages(progress, "keys", "key of shed")
        late = late_after_s(progress, time)
        await until_stages(progress, "keys")
        running.cancel()

    assert late["key of shed"] == pytest.approx(PERIOD_S * 2 / 3, abs=2)
    assert store.ids("shed") == (key_id(rotated(KEY, salt)),)


# ---- who is asked about the clock ----


def test_to_ask_for_the_clock_now_and_then_is_to_move() -> None:
    async def main(clock: Clock) -> list[str]:
        progress = Progress(clock.monotonic_s, PERIOD_S)
        timedate = TimeDate(lambda: False, lambda: False, ["/nowhere"], progress)
        late: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(timedate.run())
            for _ in range(round(4 * RARE_ASK_S)):
                await asyncio.sleep(1.0)
                late += [stage.name for stage in progress.late()]
            assert names(progress) == ["timedate"]
            running.cancel()
        return late

    assert run_skipping(main) == []


async def test_who_answers_about_the_clock_within_its_time_is_not_late(
    progress: Progress, time: Time
) -> None:
    timedate = TimeDate(lambda: False, lambda: False, ["/bin/sleep", "600"], progress)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(timedate.run())
        await until_stages(progress, "timedate")
        after_s = late_after_s(progress, time)["timedate"]
        running.cancel()

    assert ANSWER_S < after_s <= PERIOD_S


async def test_where_the_kernel_answers_there_is_nothing_to_watch(progress: Progress) -> None:
    await TimeDate(lambda: True, lambda: False, progress=progress).run()

    assert progress.stages == []
