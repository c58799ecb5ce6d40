"""What systemd is told, and how: real datagrams, to a socket of the test's own."""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.progress import Progress
from gateway.status import DeviceStatus, LinkStatus, Status
from gateway.systemd import Notifier, failures_in, is_opening
from gateway.timedate import TimeDate
from gateway.watchdog import Watchdog, status_line
from tests.support.notify_socket import NotifySocket
from tests.support.skipping_loop import run_skipping


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    name = tmp_path / "notify" if request.param == "path" else f"@edge-gateway-test-{os.getpid()}"
    with NotifySocket(name) as listening:
        yield listening


def test_each_state_is_told_as_systemd_wants_it(systemd: NotifySocket) -> None:
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier = Notifier(systemd.environment())
    notifier.ready("all\nis well")
    notifier.alive("fine")
    notifier.reloading("again")
    notifier.status("hm")
    notifier.stopping()
    notifier.close()
    after_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    ready, alive, reloading, status, stopping = systemd.read()
    assert ready == {"READY": "1", "STATUS": "all is well"}
    assert alive == {"WATCHDOG": "1", "STATUS": "fine"}
    assert before_us <= int(reloading.pop("MONOTONIC_USEC")) <= after_us
    assert reloading == {"RELOADING": "1", "STATUS": "again"}
    assert status == {"STATUS": "hm"}
    assert stopping == {"STOPPING": "1", "STATUS": "stopping"}


def test_what_must_not_be_lost_waits_for_room_and_keeps_its_order(systemd: NotifySocket) -> None:
    notifier = Notifier(systemd.environment())
    for _ in range(10_000):  # more than any queue takes
        notifier.alive("x")
    notifier.reloading("")
    notifier.ready("")
    flood = len(systemd.read())
    notifier.alive("room again")
    notifier.close()

    assert flood < 10_000
    assert [next(iter(each)) for each in systemd.read()] == ["RELOADING", "READY", "WATCHDOG"]


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/at/all", "@nobody"])
def test_nobody_who_listens_is_no_error(name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("")
    notifier.alive("")
    is_wanted = notifier.is_wanted
    notifier.close()

    assert is_wanted is name.startswith(("/", "@"))


@pytest.mark.parametrize(
    ("variables", "period_s"),
    [
        ({"WATCHDOG_USEC": "120000000"}, 120.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_period_is_taken_if_it_is_meant_for_us(
    variables: dict[str, str], period_s: float | None
) -> None:
    assert Notifier(variables).watchdog_s == period_s


def test_the_status_is_a_line_for_people() -> None:
    status = Status()
    status.devices = {"a": DeviceStatus("a", online=True), "b": DeviceStatus("b")}
    status.links = {"ttyUSB0": LinkStatus("ttyUSB0", state="open"), "ble": LinkStatus("ble")}
    status.radio.state = "scanning"
    status.broker.connected = True
    status.counts["samples_delivered"] = 7

    assert status_line(status, 3) == (
        "1 of 2 devices online, 1 links open, radio scanning, broker connected, "
        "7 samples delivered, 3 waiting"
    )


def test_what_is_not_to_be_overlooked_is_in_the_status() -> None:
    status = Status()
    assert (failures_in(status_line(status, 0)), is_opening(status_line(status, 0))) == ("", False)

    status.configuration.state = "last_good"
    status.store.state, status.store.error = "failing", "outbox.db: disk full, and more " * 99
    status.state.state = "opening"
    told = status_line(status, 0)

    assert ", last good configuration in force, outbox failing: outbox.db: disk full" in told
    assert failures_in(told).startswith("outbox failing: outbox.db: disk full, and more")
    assert is_opening(told)
    assert len(told) < 500


def test_how_it_is_is_told_often_while_somebody_may_wait_for_it(tmp_path: Path) -> None:
    async def watch(_: object) -> None:
        loop = asyncio.get_running_loop()
        progress = Progress(loop.time, 120.0)
        progress.stage("store").idles()
        notifier = Notifier(listening.environment())
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(Watchdog(progress, notifier, lambda: "fine").run())
            counts = []
            for _ in range(36):  # the kernel keeps ten messages
                await asyncio.sleep(10.0)
                counts.append(sum("WATCHDOG" in each for each in listening.read()))
            running.cancel()
            assert min(counts[:6]) >= 4  # every 2 s, and the clock runs on meanwhile
            assert sum(counts[7:]) <= 290 / progress.tick_s + 1
        notifier.close()

    with NotifySocket(tmp_path / "notify") as listening:
        run_skipping(watch)


def test_a_stage_that_stands_still_is_named_and_so_is_that_it_moves_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def watch(_: object) -> None:
        loop = asyncio.get_running_loop()
        progress = Progress(loop.time, 60.0)
        stage = progress.stage("store")
        notifier = Notifier(listening.environment())
        watchdog = Watchdog(progress, notifier, lambda: "fine")
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(watchdog.run())
            await asyncio.sleep(10.0)
            assert listening.read() == []  # the stage has not begun
            stage.works("committing")
            await asyncio.sleep(1.0)
            assert [next(iter(each)) for each in listening.read()] == ["READY", "WATCHDOG"]
            await asyncio.sleep(60.0)
            listening.read()
            await asyncio.sleep(60.0)
            assert {each["STATUS"] for each in listening.read()} == {
                "stands still: store (committing)"
            }
            stage.idles()
            await asyncio.sleep(60.0)
            assert "WATCHDOG" in listening.read()[-1]
            running.cancel()
        notifier.close()

    with NotifySocket(tmp_path / "notify") as listening:
        run_skipping(watch)
    assert [record.getMessage() for record in caplog.records] == [
        "store (committing) stands still for 40 s; systemd is not told any more that all is well",
        "store moves again",
    ]


def test_of_many_that_stand_still_ten_are_named(tmp_path: Path) -> None:
    async def watch(_: object) -> None:
        loop = asyncio.get_running_loop()
        progress = Progress(loop.time, 60.0)
        notifier = Notifier(listening.environment())
        for number in range(500):
            progress.stage(f"intervals of {'x' * 60}-{number}").works("telling them")
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(Watchdog(progress, notifier, lambda: "fine").run())
            for _ in range(6):  # the kernel keeps ten messages
                await asyncio.sleep(10.0)
                listening.read()
            running.cancel()
        notifier.close()

    with NotifySocket(tmp_path / "notify") as listening:
        run_skipping(watch)
        status = listening.messages[-1]["STATUS"]

    assert status.endswith("-9 (telling them) and 490 more")
    assert len(status) < 4096 / 2  # NOTIFY_BUFFER_MAX of systemd


def test_a_reload_is_told_from_its_begin_to_its_end_however_it_ends(tmp_path: Path) -> None:
    progress = Progress()
    with NotifySocket(tmp_path / "notify") as listening:
        notifier = Notifier(listening.environment())
        watchdog = Watchdog(progress, notifier, lambda: "fine")

        def fail() -> None:
            with watchdog.reload():
                assert [stage.name for stage in progress.stages] == ["reload"]
                raise ValueError("wrong")

        with pytest.raises(ValueError, match="wrong"):
            fail()
        notifier.close()
        said = [next(iter(each)) for each in listening.read()]

    assert progress.stages == []
    assert said == ["RELOADING", "READY"]


@pytest.mark.parametrize(
    ("told", "answer", "is_right"),
    [
        (False, "echo yes", True),
        (False, "echo no", False),
        (False, "exit 1", False),
        (True, "exit 1", True),
    ],
)
async def test_where_the_kernel_may_not_be_asked_systemd_is(
    told: bool,
    answer: str,
    is_right: bool,
) -> None:
    asked = asyncio.Event()

    def may_ask_kernel() -> bool:
        asked.set()
        return False

    timedate = TimeDate(may_ask_kernel, lambda: told, ["/bin/sh", "-c", answer])
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(timedate.run())
        await asked.wait()
        while timedate.is_synchronised() is not is_right:  # noqa: ASYNC110 - it says nothing
            await asyncio.sleep(0.01)
        running.cancel()


async def test_where_the_kernel_answers_nobody_else_is_asked() -> None:
    timedate = TimeDate(lambda: True, lambda: False, ["/bin/sh", "-c", "echo yes"])

    await timedate.run()

    assert not timedate.is_synchronised()


async def test_a_machine_without_systemd_has_a_clock_nobody_vouches_for() -> None:
    timedate = TimeDate(lambda: False, lambda: False, ["/nowhere/timedatectl"])
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(timedate.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()

    assert not timedate.is_synchronised()
