"""The composition root in this process: reloads, and how it ends when a part of it fails."""

import asyncio
import gc
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.app import App
from gateway.config.models import Settings
from gateway.errors import RequestError
from gateway.status import ConfigurationStatus
from gateway.systemd import Notifier
from tests.support.notify_socket import NotifySocket


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """Take back what the daemon changes of its process."""
    threshold, limit = gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {
            "mqtt": {"host": "127.0.0.1", "port": 1},
            "serial": {"enabled": False},
            "ble": {"enabled": False},
            "outbox": {"path": str(tmp_path / "outbox.db")},
        }
    )


@asynccontextmanager
async def running(app: App) -> AsyncIterator[None]:
    ready = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(app.run(ready.set))
        await ready.wait()
        await asyncio.sleep(0)  # its tasks have begun
        yield
        task.cancel()


class File:
    """A configuration that is read again and again, and is the same each time."""

    def __init__(self, settings: Settings) -> None:
        self.path = Path("gateway.toml")
        self.trouble = ""
        self.read = 0
        self._settings = settings

    def reread(self) -> tuple[Settings, str | None]:
        self.read += 1
        return self._settings, None

    def keep(self) -> None:
        """Keep nothing."""


async def test_to_ask_for_a_reload_where_nothing_can_be_reloaded_is_no_trouble(
    settings: Settings,
) -> None:
    app = App(settings)
    async with running(app):
        with pytest.raises(RequestError, match="started without a configuration"):
            await app.operation.reload()

    assert app.status.configuration == ConfigurationStatus()


async def test_a_storm_of_reloads_is_two(settings: Settings, tmp_path: Path) -> None:
    file = File(settings)
    with NotifySocket(tmp_path / "notify") as systemd:
        notifier = Notifier(systemd.environment())
        app = App(settings, configuration=file, notifier=notifier)
        async with running(app):
            await systemd.wait_for("READY")
            for _ in range(1000):
                app.operation.request_reload()
            await app.operation.reload()
            await app.operation.reload()
        notifier.close()
        systemd.read()

    told = [next(iter(each)) for each in systemd.messages]
    reloads = [each for each in told if each in {"RELOADING", "READY"}]
    assert file.read == 2
    assert reloads == ["READY", *["RELOADING", "READY"] * 2]


async def test_a_bug_in_one_part_ends_the_daemon_with_that_and_nothing_else(
    settings: Settings,
) -> None:
    app = App(settings)
    app.status.broker.connected = True
    app.status.loop_lag_s = cast("Any", None)

    async with asyncio.timeout(30):
        with pytest.raises(ExceptionGroup) as ended:
            await app.run()

    assert [type(error) for error in ended.value.exceptions] == [AttributeError]
