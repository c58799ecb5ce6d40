"""Fixtures of the tests over a message bus: a bus of their own, and a stand-in for bluetoothd."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.bluez.bleak_end import let_go_of_the_bus, pass_over_unsent
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.bus import ADDRESS_VARIABLE, PrivateBus


@pytest.fixture
def bus(
    dbus_daemon_bin: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[PrivateBus]:
    """Run a bus that this process, and what it starts, takes for the system bus."""
    # A socket's path has 107 bytes at most, so the test's name is not part of it.
    with PrivateBus.running(dbus_daemon_bin, tmp_path_factory.mktemp("bus")) as running:
        monkeypatch.setenv(ADDRESS_VARIABLE, running.address)
        yield running


@pytest.fixture
async def bluetoothd(bus: PrivateBus) -> AsyncIterator[Bluetoothd]:
    """Run a stand-in for bluetoothd, with one adapter that hears nothing yet."""
    asyncio.get_running_loop().set_exception_handler(pass_over_unsent)
    daemon = Bluetoothd(bus.address)
    async with daemon.running():
        yield daemon
        await let_go_of_the_bus()
