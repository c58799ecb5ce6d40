"""The real daemon, told apart into its stages: whichever stands still, systemd hears no more.

Its watchdog has a period of three seconds here instead of two minutes; all else is production's.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from gateway.simulate.pty_port import PtyPort
from tests.support import freezable
from tests.support.bluez.adverts import FLAGS, SERVICE_16, Heard, structure
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.broker import Broker
from tests.support.daemon import Daemon, running_daemon
from tests.support.notify_socket import NotifySocket
from tests.support.requester import asking

PERIOD_S = 3.0
LOOKED_AT_S = PERIOD_S / 2
BUSY_PERIOD_S = 12.0
"""Where nothing may be late, also if all tests run at once: half of it is slack."""
ENOUGH_S = 60.0
"""For what takes ten seconds."""

TASKS = (
    *("store", "state", "commands", "broker", "documents", "records", "tick", "ports", "ttyTEST"),
    *("clock", "devices", "announcer", "diagnostics", "health"),
)
THERMOMETER = Heard(
    "A4:C1:38:00:00:07",
    -60,
    structure(FLAGS, b"\x06") + structure(SERVICE_16, bytes.fromhex("d2fc4002c409")),
)
"""BTHome v2, 25.00 degrees. Source: https://bthome.io/format, object id 0x02."""
HELD_US = 600_000_000
ALWAYS = '[outbox]\ndurability = "always"'
"""Each sample is committed."""

SERVICES = ("admin", "door", "updates", "keys", "intervals", "operation", "log")
"""What serves people, or is seldom at work: the log names each when all of them are frozen."""

STAGES = (
    *(f"task {name}" for name in TASKS),
    *("thread store", "thread state", "loop"),
)


@asynccontextmanager
async def freezable_daemon(  # noqa: PLR0913 - each says something about the run
    folder: Path,
    broker: Broker,
    systemd: NotifySocket,
    *,
    more: str = "",
    period_s: float = PERIOD_S,
    say_more: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[Daemon, Path]]:
    """Run a daemon that has a port with a talkative board; the path is for its `freezable`."""
    wish = folder / "freeze"
    port = PtyPort(folder / "ttyTEST")

    def wrap(command: Sequence[str]) -> Sequence[str]:
        assert command[1:3] == ["-m", "gateway"]
        return [sys.executable, freezable.__file__, str(wish), *command[3:]]

    async def talk() -> None:
        number = 0
        while True:
            port.write(b'{"id": "talker", "number": %d}\n' % number)
            number += 1
            say_more()
            await asyncio.sleep(0.1)

    port.plug()
    try:
        async with (
            asyncio.TaskGroup() as tasks,
            running_daemon(
                folder / "daemon",
                broker.port,
                f"{folder}/ttyTEST",
                environment=systemd.environment(period_s),
                wrap=wrap,
                more=more,
            ) as daemon,
        ):
            talking = tasks.create_task(talk())
            yield daemon, wish
            talking.cancel()
    finally:
        port.unplug()


async def freeze(daemon: Daemon, wish: Path, what: str) -> None:
    """Return when something stands still."""
    await asyncio.to_thread(wish.write_text, what)
    os.kill(daemon.pid, signal.SIGUSR2)
    await daemon.wait_for_log(f"frozen: {what}")


async def at_work(systemd: NotifySocket) -> None:
    """Return once the gateway is ready, delivers samples, and says that all is well."""
    await systemd.wait_for("READY")
    while " 0 samples delivered" in (await systemd.wait_for("WATCHDOG"))["STATUS"]:
        continue


@pytest.mark.parametrize("stage", STAGES)
async def test_the_watchdog_is_fed_no_more_within_a_period_of_a_stage_that_is_frozen(
    stage: str, broker: Broker, tmp_path: Path
) -> None:
    with NotifySocket(tmp_path / "notify") as systemd:
        async with (
            asyncio.timeout(ENOUGH_S),
            freezable_daemon(tmp_path, broker, systemd) as (daemon, wish),
        ):
            await at_work(systemd)
            await freeze(daemon, wish, stage)
            await asyncio.sleep(PERIOD_S)
            heard = await systemd.count(LOOKED_AT_S)
            await daemon.kill()

    assert heard["WATCHDOG"] == 0, f"{systemd.messages[-9:]}\n{daemon.log()}"
    if stage != "loop":
        assert heard["STATUS"] > 0
        assert "stands still" in systemd.messages[-1]["STATUS"]
        assert "stands still for" in daemon.log()


async def test_nor_is_it_when_those_are_frozen_who_serve_people(
    broker: Broker, tmp_path: Path
) -> None:
    frozen = "; ".join([*(f"task {each}" for each in SERVICES), "coming request health_check"])
    with NotifySocket(tmp_path / "notify") as systemd:
        async with (
            asyncio.timeout(ENOUGH_S),
            freezable_daemon(tmp_path, broker, systemd) as (daemon, wish),
            asking("127.0.0.1", broker.port) as requester,
        ):
            await at_work(systemd)
            await freeze(daemon, wish, frozen)
            await requester.publish("health_check", b"")
            for each in (*SERVICES, "request health_check"):
                await daemon.wait_for_log(f": {each} stands still for")
            heard = await systemd.count(LOOKED_AT_S)
            await daemon.kill()

    assert heard["WATCHDOG"] == 0, f"{systemd.messages[-9:]}\n{daemon.log()}"
    assert systemd.messages[-1]["STATUS"].startswith("stands still: ")


@pytest.mark.parametrize("stage", ["scan", "adverts"])
async def test_nor_is_it_when_the_radio_is_frozen(
    stage: str, bluetoothd: Bluetoothd, broker: Broker, tmp_path: Path
) -> None:
    # BlueZ tells of what changes, as the strength of a signal does.
    adverts = cycle([THERMOMETER, replace(THERMOMETER, rssi=-80)])
    with NotifySocket(tmp_path / "notify") as systemd:
        async with (
            asyncio.timeout(ENOUGH_S),
            freezable_daemon(
                tmp_path,
                broker,
                systemd,
                more="[ble]\nenabled = true",
                say_more=lambda: bluetoothd.hear(next(adverts)),
            ) as (daemon, wish),
        ):
            await daemon.wait_for_log("bthome_0007: BTHome")
            await at_work(systemd)
            await freeze(daemon, wish, f"task {stage}")
            await asyncio.sleep(PERIOD_S)
            heard = await systemd.count(LOOKED_AT_S)
            await daemon.kill()

    assert heard["WATCHDOG"] == 0, f"{systemd.messages[-9:]}\n{daemon.log()}"
    assert systemd.messages[-1]["STATUS"] == "stands still: radio"


async def test_nor_is_it_while_the_disk_holds_back_a_commit(
    broker: Broker, strace_bin: Path, tmp_path: Path
) -> None:
    held = f"fdatasync,fsync:delay_enter={HELD_US}"
    with NotifySocket(tmp_path / "notify") as systemd:
        async with (
            asyncio.timeout(ENOUGH_S),
            freezable_daemon(tmp_path, broker, systemd, more=ALWAYS) as (daemon, _),
        ):
            await at_work(systemd)
            tracing = await asyncio.create_subprocess_exec(
                *(strace_bin, "-f", "-p", str(daemon.pid), "-o", tmp_path / "trace"),
                *("-e", "trace=fdatasync,fsync", "-e", f"inject={held}"),
                stderr=asyncio.subprocess.PIPE,
            )
            assert tracing.stderr is not None
            try:
                await tracing.stderr.readuntil(b"attached")
                await asyncio.sleep(PERIOD_S)
                heard = await systemd.count(LOOKED_AT_S)
            finally:
                tracing.kill()  # first: whom it holds back cannot end
                await tracing.communicate()
            await daemon.kill()

    assert heard["WATCHDOG"] == 0, f"{systemd.messages[-9:]}\n{daemon.log()}"
    assert "store thread (commit)" in systemd.messages[-1]["STATUS"]


async def test_the_watchdog_is_fed_while_all_stages_move(broker: Broker, tmp_path: Path) -> None:
    with NotifySocket(tmp_path / "notify") as systemd:
        async with (
            asyncio.timeout(ENOUGH_S),
            freezable_daemon(tmp_path, broker, systemd, period_s=BUSY_PERIOD_S) as (daemon, wish),
        ):
            first = await systemd.wait_for("WATCHDOG")
            await freeze(daemon, wish, "nothing")
            for _ in range(3):
                await systemd.wait_for("WATCHDOG")

    assert "devices online" in first["STATUS"]
    assert "stands still" not in daemon.log()
