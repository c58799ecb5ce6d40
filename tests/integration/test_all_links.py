"""Ports and radio in one process, each changed while the other goes on."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.all_links import AllLinks
from gateway.ble.service import BleOptions
from gateway.clock import Clock
from gateway.drivers.serial_line import LineFormat
from gateway.house import House
from gateway.links.serial_port import SerialOptions
from gateway.model import Event
from gateway.ports import PortsOptions, PortUse
from gateway.protocol.delivery import DeliveryBook
from gateway.simulate.pty_port import PtyPort
from gateway.status import Status

NO_ADAPTER = "hci99"


class Site:
    """A folder of ports, and a radio that is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = Status()
        self.changed = asyncio.Event()
        house = House(
            book=DeliveryBook(),
            clock=Clock(),
            run=1,
            session="test",
            status=self.status,
            accept=self._accept,
            forget_link=lambda _link: self.changed.set(),
            on_change=self.changed.set,
        )
        self.links = AllLinks(house, self.ports(), None)

    def ports(self, *names: str) -> PortsOptions:
        patterns = tuple(str(self.folder / name) for name in names)
        return PortsOptions(
            patterns, (), 60.0, PortUse(SerialOptions(baudrate=9600, settle_s=0.0), LineFormat())
        )

    def radio(self, adapter: str = NO_ADAPTER) -> BleOptions:
        return BleOptions(self.folder / "joined", adapter=adapter)

    async def wait_for_radio(self, state: str) -> None:
        async with asyncio.timeout(20):
            while self.status.radio.state != state:
                self.changed.clear()
                await self.changed.wait()

    def _accept(self, _link: str, _events: list[Event]) -> None:
        self.changed.set()

    async def wait_for_port(self, name: str, *, is_open: bool = True) -> None:
        async with asyncio.timeout(20):
            while (self.links.link(name) is not None) is not is_open:  # noqa: ASYNC110 - untold
                await asyncio.sleep(0.01)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@asynccontextmanager
async def running(links: AllLinks) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(links.run())
        await asyncio.sleep(0)  # it has begun
        yield
        task.cancel()


async def test_ports_that_were_not_read_can_be_and_not_be_again(site: Site) -> None:
    port = PtyPort(site.folder / "ttyA")
    port.plug()
    try:
        async with running(site.links):
            assert await site.links.use_ports(site.ports("tty*")) == []
            await site.wait_for_port("ttyA")
            await site.links.use_ports(site.ports())
            await site.wait_for_port("ttyA", is_open=False)
            await site.links.use_ports(site.ports("ttyA"))
            await site.wait_for_port("ttyA")
    finally:
        port.unplug()


def times_open(device: str) -> int:
    """Return how often this process has a pty open, its other end's hold left out."""
    descriptors = Path("/proc/self/fd")
    targets = [os.readlink(each) for each in descriptors.iterdir() if each.is_symlink()]
    return targets.count(device) - 1


async def test_a_port_with_several_names_is_open_once_by_the_best_of_them(site: Site) -> None:
    port = PtyPort(site.folder / "ttyA")
    port.plug()
    (site.folder / "by-id").mkdir()
    (site.folder / "by-id" / "usb-1a86").symlink_to(port.device)
    (site.folder / "ours").mkdir()
    options = site.ports("ours/*", "by-id/*", "tty*")
    try:
        async with running(site.links):
            await site.links.use_ports(options)
            await site.wait_for_port("usb-1a86")
            await until_open(site, "usb-1a86")
            before = times_open(port.device)
            # Our udev rules are installed, and udev is told.
            (site.folder / "ours" / "usb-0:1.2").symlink_to(port.device)
            await site.links.use_ports(options)
            await site.wait_for_port("usb-0:1.2")
            await until_open(site, "usb-0:1.2")
            after = times_open(port.device)
            old = site.links.link("usb-1a86")
            lent = await site.links.lend_port(str(site.folder / "by-id" / "usb-1a86"), 60.0)
            left = times_open(port.device)
            site.links.return_port("usb-0:1.2")
    finally:
        port.unplug()

    assert (before, after, left) == (1, 1, 0)
    assert old is None
    assert lent == "usb-0:1.2"


async def until_open(site: Site, name: str) -> None:
    async with asyncio.timeout(20):
        while site.status.link(name).state != "open":  # noqa: ASYNC110 - untold
            await asyncio.sleep(0.01)


async def test_the_radio_can_be_wanted_and_left_alone_while_ports_go_on(site: Site) -> None:
    port = PtyPort(site.folder / "ttyA")
    port.plug()
    try:
        async with running(site.links):
            await site.links.use_ports(site.ports("tty*"))
            await site.wait_for_port("ttyA")
            link = site.links.link("ttyA")

            assert not site.links.open_window(60.0)
            assert await site.links.use_radio(site.radio()) == ["ble"]
            await site.wait_for_radio("no_adapter")
            site.status.radio.state = "off"
            await site.links.use_radio(site.radio("hci98"))  # another one: begun anew
            await site.wait_for_radio("no_adapter")
            await site.links.use_radio(None)

            assert site.links.ble_options is None
            assert site.links.link("ttyA") is link
    finally:
        port.unplug()


async def test_what_is_changed_before_the_start_is_in_force_then(site: Site) -> None:
    await site.links.use_radio(site.radio())
    assert site.status.radio.state == "off"

    async with running(site.links):
        await site.wait_for_radio("no_adapter")
