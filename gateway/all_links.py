"""All ways on which devices reach the gateway: the serial ports, and the radio if it is wanted."""

import asyncio
import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from gateway.ble.service import Ble, BleOptions
from gateway.drivers.base import OnCommandEnd, OnUpdateEvent
from gateway.house import House
from gateway.ports import Ports, PortsOptions
from gateway.protocol.requests import Order
from gateway.protocol.update import Update

if TYPE_CHECKING:  # bleak is imported when there is an adapter
    from gateway.links.ble_connection import BleLink
    from gateway.links.serial_port import SerialLink

_log = logging.getLogger(__name__)


class AllLinks:
    """Ports and radio, each of which can be changed while the other goes on."""

    def __init__(self, house: House, ports: PortsOptions, ble: BleOptions | None) -> None:
        """Without `ble` the radio is left alone."""
        self._house = house
        self.ports_options = ports
        self.ble_options = ble
        self._ports = Ports(ports, house)
        self._ble = None if ble is None else Ble(ble, house)
        self._is_paused = False
        self._tasks: asyncio.TaskGroup | None = None
        self._radio_task: asyncio.Task[None] | None = None
        self._has_ports = False

    async def run(self) -> NoReturn:
        """Serve whoever is there, for ever."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                self._begin_ports()
                self._begin_radio()
                await asyncio.Event().wait()
            finally:
                self._tasks = None  # a group that is ending takes no tasks any more
        raise AssertionError  # never reached

    def hold(self, *, paused: bool) -> None:
        """Ask all boards to keep their samples for now, or to go on."""
        self._is_paused = paused
        self._ports.hold(paused=paused)
        if self._ble is not None:
            self._ble.hold(paused=paused)

    def link(self, name: str) -> "SerialLink | BleLink | None":
        """Return the link of that name, if there is one."""
        if (link := self._ports.link(name)) is not None or self._ble is None:
            return link
        return self._ble.link(name)

    def command(self, name: str, order: Order, on_end: OnCommandEnd) -> bool:
        """Have the board on that link do something at most once; False if nobody is there.

        `on_end` is called once, maybe before this returns.
        """
        link = self.link(name)
        return link is not None and link.command(order, on_end)

    def update(self, name: str, device: str, update: Update, on_event: OnUpdateEvent) -> bool:
        """Update the board on that link, if it is that device; False if nobody is there.

        `on_event` is told its end once, maybe before this returns.
        """
        link = self.link(name)
        return link is not None and link.update(device, update, on_event)

    def abort_update(self, name: str, device: str, why: str) -> None:
        """End the update of that device on that link, if one is under way."""
        if (link := self.link(name)) is not None:
            link.abort_update(device, why)

    def open_window(self, for_s: float) -> bool:
        """Let Bluetooth devices join for so long; False while there is no radio."""
        return self._ble is not None and self._ble.open_window(for_s)

    def forget(self, address: str) -> bool:
        """Let the device of an address on the radio be a member no longer; say whether it was."""
        return self._ble is not None and self._ble.forget(address)

    async def lend_port(self, path: str, seconds: float) -> str | None:
        """Leave a port to another program for a while; see `Ports.lend`."""
        return await self._ports.lend(path, seconds)

    def return_port(self, name: str) -> bool:
        """Use a port again that was lent; say whether it was."""
        return self._ports.give_back(name)

    async def use_ports(self, options: PortsOptions) -> list[str]:
        """Do as `options` say from now on; return the links that were closed and begun anew."""
        self.ports_options = options
        reopened = await self._ports.reconfigure(options)
        self._begin_ports()
        return reopened

    async def use_radio(self, options: BleOptions | None) -> list[str]:
        """End the radio, and begin it anew as `options` say; None leaves it alone from now on.

        Return what was begun anew, as `use_ports` does.
        """
        self.ble_options = options
        task, self._radio_task = self._radio_task, None
        self._ble = None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if options is not None:
            # Sensors that only advertise are numbered from 0 again, so in another boot.
            house = replace(self._house, run=secrets.randbits(32))
            self._ble = Ble(options, house)
            self._ble.hold(paused=self._is_paused)
            self._begin_radio()
        return ["ble"]

    def _begin_ports(self) -> None:
        if self._tasks is not None and not self._has_ports and self.ports_options.patterns:
            self._has_ports = True
            self._tasks.create_task(self._ports.run(), name="ports")

    def _begin_radio(self) -> None:
        if self._tasks is not None and self._ble is not None:
            self._radio_task = self._tasks.create_task(self._ble.run(), name="ble")
