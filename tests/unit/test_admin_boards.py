"""What boards are asked for: intervals that outlast their restarts, and the restart itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.admin.board_requests import BOARD_S, BoardRequests
from gateway.admin.device_requests import DeviceRequests
from gateway.admin.intervals import Intervals
from gateway.clock import Clock
from gateway.commands.letter import End
from gateway.devices.registry import Devices
from gateway.errors import RequestError
from gateway.model import Description, Gone
from gateway.mqtt.names import Names
from gateway.protocol.fields import Json
from gateway.protocol.session_events import Outcome
from gateway.requests.admin import OptionsRequest, RestartRequest
from gateway.status import Status
from gateway.timekeeper import TimeKeeper
from tests.support.shelf import Shelf

BOARD, LINES, SLEEPER = "board_1", "lines_1", "sleeper_1"


class Boards:
    """Answers commands as boards would."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.end = End(Outcome.DONE)
        self._changed = asyncio.Event()

    async def call(
        self,
        device: str,
        name: str,
        arguments: Json = None,
        expires_s: float = 0.0,
    ) -> End:
        del expires_s
        self.asked.append((device, name, arguments))
        self._changed.set()
        return self.end

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.asked) < count:
                self._changed.clear()
                await self._changed.wait()


class Others:
    """Who else wants to know of boards."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def ready(self, link: str, device: str, life: str) -> None:
        self.heard.append((link, device, life))

    def left(self, link: str, device: str) -> None:
        self.heard.append((link, device))


class Bench:
    def __init__(self) -> None:
        status = Status()
        timekeeper = TimeKeeper(Clock(lambda: 1000.0, lambda: 2e9, "boot", lambda: True))
        self.devices = Devices(Shelf(), Names(), status, timekeeper)
        for key, driver, cause in (
            (BOARD, "board", "power_on"),
            (LINES, "json_lines", ""),
            (SLEEPER, "board", "sleep"),
        ):
            self.devices.seen(f"on_{key}", Description(key, key, driver, reset_cause=cause))
        self.boards, self.others = Boards(), Others()
        self.intervals = Intervals(self.devices, self.boards, self.others)
        find = DeviceRequests(self.devices, status, timekeeper, lambda _address: False).find
        self.requests = BoardRequests(find, self.boards, self.intervals)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.intervals.run())
            await asyncio.sleep(0)  # it has begun
            yield
            running.cancel()

    async def set(self, device: str = BOARD, **interval_ms: int | None) -> dict[str, Any]:
        return await self.requests.options(OptionsRequest(device=device, interval_ms=interval_ms))

    def leave(self, device: str = BOARD) -> None:
        self.devices.left(f"on_{device}", Gone(device, "closed"))

    def kept(self) -> Any:  # noqa: ANN401 - JSON
        device = self.devices.get(BOARD)
        assert device is not None
        return device.options.get("interval_ms")


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_interval_is_told_the_board_and_kept(bench: Bench) -> None:
    told = await bench.set(climate=5000)

    assert told == {
        "device": BOARD,
        "applied": True,
        "kept": True,
        "interval_ms": {"climate": 5000},
    }
    assert bench.boards.asked == [(BOARD, "interval", {"climate": 5000})]
    assert bench.kept() == {"climate": 5000}


async def test_intervals_add_up_and_null_takes_one_back(bench: Bench) -> None:
    await bench.set(climate=5000, battery=60_000)
    told = await bench.set(climate=None, battery=30_000)

    assert told["interval_ms"] == {"battery": 30_000} == bench.kept()
    assert bench.boards.asked[1] == (BOARD, "interval", {"battery": 30_000})

    told = await bench.set(battery=None)
    assert told == {"device": BOARD, "applied": False, "kept": True, "interval_ms": {}}
    assert len(bench.boards.asked) == 2, "the board has its own again from its next boot on"


async def test_what_is_set_is_told_without_setting(bench: Bench) -> None:
    await bench.set(climate=5000)

    assert await bench.set() == {"device": BOARD, "interval_ms": {"climate": 5000}}
    assert len(bench.boards.asked) == 1


async def test_what_the_board_refuses_is_not_kept(bench: Bench) -> None:
    await bench.set(climate=5000)
    bench.boards.end = End(Outcome.FAILED, error="no stream climat")

    with pytest.raises(RequestError, match="board_1: no stream climat"):
        await bench.set(climat=1)

    assert bench.kept() == {"climate": 5000}


@pytest.mark.parametrize("outcome", [Outcome.EXPIRED, Outcome.UNKNOWN, None])
async def test_a_board_that_does_not_answer_is_told_when_it_comes(
    bench: Bench, outcome: Outcome | None
) -> None:
    async with bench.running():
        if outcome is None:
            bench.leave()
        else:
            bench.boards.end = End(outcome)
        told = await bench.set(climate=5000)
        asked = len(bench.boards.asked)
        bench.boards.end = End(Outcome.DONE)
        bench.intervals.ready("usb0", BOARD, "7.1")
        await bench.boards.wait(asked + 1)

    assert told["applied"] is False
    assert told["reason"].endswith("; it is told when it comes the next time")
    assert asked == (0 if outcome is None else 1)
    assert bench.kept() == {"climate": 5000}
    assert bench.boards.asked[-1] == (BOARD, "interval", {"climate": 5000})


async def test_a_board_is_told_once_in_each_life_of_its_memory(bench: Bench) -> None:
    async with bench.running():
        bench.intervals.ready("usb0", BOARD, "7.1")
        await bench.set(climate=5000)
        for life in ("7.1", "8.1", "8.1", "8.2"):  # a cable pulled out, a reset, ...
            bench.intervals.left("usb0", BOARD)
            bench.intervals.ready("usb0", BOARD, life)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await bench.boards.wait(3)

    assert bench.boards.asked == [(BOARD, "interval", {"climate": 5000})] * 3


async def test_a_board_without_a_name_for_its_life_is_told_whenever_it_comes(bench: Bench) -> None:
    async with bench.running():
        await bench.set(climate=5000)
        for count in (2, 3):
            bench.intervals.ready("usb0", BOARD, "")
            await bench.boards.wait(count)
            await asyncio.sleep(0)


async def test_what_a_board_does_not_take_any_more_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench.running():
        await bench.set(climate=5000)
        bench.boards.end = End(Outcome.FAILED, error="no stream climate")
        for _ in range(2):
            bench.intervals.ready("usb0", BOARD, "9.9")
            await bench.boards.wait(2)
            await asyncio.sleep(0)

    assert len(bench.boards.asked) == 2
    assert caplog.text.count("does not take its intervals: no stream climate") == 1


async def test_who_else_listens_hears_of_every_board(bench: Bench) -> None:
    async with bench.running():
        bench.intervals.ready("usb0", BOARD, "7.1")
        bench.intervals.ready("usb1", "stranger", "1.1")
        bench.intervals.left("usb0", BOARD)

    assert bench.others.heard == [
        ("usb0", BOARD, "7.1"),
        ("usb1", "stranger", "1.1"),
        ("usb0", BOARD),
    ]
    assert bench.boards.asked == []


async def test_a_board_that_sleeps_keeps_its_rhythm(bench: Bench) -> None:
    with pytest.raises(RequestError, match="sleeps, and measures when it wakes"):
        await bench.set(SLEEPER, climate=5000)
    bench.devices.set_options(SLEEPER, {"interval_ms": {"climate": 5000}})  # of its earlier life
    async with bench.running():
        bench.intervals.ready("ble", SLEEPER, "7.1")
        await asyncio.sleep(0)

    assert bench.boards.asked == []


async def test_only_boards_with_our_firmware_can_be_told_anything(bench: Bench) -> None:
    with pytest.raises(RequestError, match="only boards with our firmware"):
        await bench.set(LINES, climate=5000)
    with pytest.raises(RequestError, match="only boards with our firmware"):
        await bench.requests.restart(RestartRequest(device=LINES))


async def test_a_board_is_restarted(bench: Bench) -> None:
    assert await bench.requests.restart(RestartRequest(device=BOARD)) == {"device": BOARD}
    assert bench.boards.asked == [(BOARD, "reset", None)]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (End(Outcome.FAILED, error="unknown command"), "board_1: unknown command"),
        (End(Outcome.EXPIRED), f"not reached within {BOARD_S:g} s"),
        (End(Outcome.UNKNOWN), f"did not answer within {BOARD_S:g} s"),
    ],
)
async def test_a_restart_that_fails_says_why(bench: Bench, end: End, error: str) -> None:
    bench.boards.end = end

    with pytest.raises(RequestError, match=error):
        await bench.requests.restart(RestartRequest(device=BOARD))


async def test_who_is_not_there_is_not_restarted_later(bench: Bench) -> None:
    bench.leave()

    with pytest.raises(RequestError, match="not there now"):
        await bench.requests.restart(RestartRequest(device=BOARD))
    with pytest.raises(RequestError, match="sleeps, and starts again each time"):
        await bench.requests.restart(RestartRequest(device=SLEEPER))
    assert bench.boards.asked == []
