"""Nothing happens for hours, and systemd hears all the while that all is well."""

import asyncio
import gc
import resource
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.app import App
from gateway.clock import Clock
from gateway.config.models import Settings
from gateway.progress import PERIOD_S, Progress
from gateway.simulate.pty_port import PtyPort
from gateway.systemd import Notifier
from tests.support.notify_socket import NotifySocket
from tests.support.skipping_loop import run_skipping

IDLE_S = 7200.0
LOOK_S = 5.0

STAGES = {
    *("store", "store thread", "state", "state thread", "commands", "ports", "ttyIDLE", "broker"),
    *("records", "documents", "pings", "clock", "devices", "announcer", "diagnostics", "health"),
    *("admin", "door", "updates", "keys", "intervals", "operation"),
}


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """Take back what the daemon changes of its process."""
    threshold, limit = gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    gc.set_threshold(*threshold)
    gc.unfreeze()


# Takes 3 s of processor time: a gateway looks around once a second.
def test_two_idle_hours_are_no_reason_for_a_restart(tmp_path: Path) -> None:
    port = PtyPort(tmp_path / "ttyIDLE")
    port.plug()
    settings = Settings.model_validate(
        {
            "mqtt": {"host": "127.0.0.1", "port": 1},
            "serial": {"patterns": [str(port.link_path)], "rescan_s": 5.0},
            "ble": {"enabled": False},
            "outbox": {"path": str(tmp_path / "outbox.db")},
        }
    )

    async def idle(clock: Clock) -> tuple[list[float], set[str]]:
        loop = asyncio.get_running_loop()
        progress = Progress(loop.time, PERIOD_S)
        notifier = Notifier(systemd.environment(PERIOD_S))
        app = App(settings, clock=clock, notifier=notifier, progress=progress)
        fed_s: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(app.run())
            ends_s = loop.time() + IDLE_S
            while loop.time() < ends_s:
                await asyncio.sleep(LOOK_S)
                fed_s += [loop.time() for message in systemd.read() if "WATCHDOG" in message]
                for task in asyncio.all_tasks():
                    if task.get_name() == "loop lag":  # no stage, and it wakes 20 times a second
                        task.cancel()
            stages = {stage.name for stage in progress.stages}
            running.cancel()
        notifier.close()
        return fed_s, stages

    with NotifySocket(tmp_path / "notify") as systemd:
        fed_s, stages = run_skipping(idle, waits_for_threads=True)
    port.unplug()

    assert stages == STAGES
    assert len(fed_s) > IDLE_S / PERIOD_S
    assert max(after_s - before_s for before_s, after_s in pairwise(fed_s)) < PERIOD_S / 2
