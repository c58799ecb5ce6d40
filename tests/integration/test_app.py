"""The composition root in this process: how it ends when a part of it fails."""

import asyncio
import gc
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.app import App
from gateway.config.models import Settings


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """Take back what the daemon changes of its process."""
    threshold, limit = gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    gc.set_threshold(*threshold)
    gc.unfreeze()


async def test_a_bug_in_one_part_ends_the_daemon_with_that_and_nothing_else(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "mqtt": {"host": "127.0.0.1", "port": 1},
            "serial": {"enabled": False},
            "ble": {"enabled": False},
            "outbox": {"path": str(tmp_path / "outbox.db")},
        }
    )
    app = App(settings)
    app.status.broker.connected = True
    app.status.loop_lag_s = cast("Any", None)

    async with asyncio.timeout(30):
        with pytest.raises(ExceptionGroup) as ended:
            await app.run()

    assert [type(error) for error in ended.value.exceptions] == [AttributeError]
