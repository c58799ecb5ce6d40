"""The stand-in's controller on a virtual radio: what is on the air is heard and connected to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from bleak.assigned_numbers import gatt_char_props_to_strs
from bumble.core import UUID
from bumble.gatt_client import CharacteristicProxy, ServiceProxy

from gateway.errors import LinkError
from gateway.simulate.radio.adapter import Adapter
from gateway.simulate.radio.gatt_link import GattLink
from gateway.simulate.radio.open_radio import Heard as OnAir
from tests.support.bluez.adverts import Heard, long_uuid
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.peripheral import Characteristic, Ends, GattError, Service

BLUEZ_MTU = 517
"""What BlueZ asks for: main.conf, ExchangeMTU."""

LEAST_MTU = 23


@asynccontextmanager
async def on_the_air(bluetoothd: Bluetoothd, hci_address: str) -> AsyncIterator[None]:
    """Let a stand-in hear a virtual radio for the length of the block.

    The scan goes on all the time; it is the stand-in that listens or does not.
    """
    adapter = Adapter(hci_address)
    responses: dict[str, bytes] = {}

    def hear(heard: OnAir) -> None:
        """Tell of an advertisement together with its scan response, as the kernel does."""
        if heard.is_scan_response:
            responses[heard.address] = heard.data
            return
        if heard.address not in bluetoothd.peripherals:
            bluetoothd.place(heard.address, _Peripheral(adapter, heard.address))
        data = heard.data + responses.get(heard.address, b"")
        bluetoothd.hear(Heard(heard.address, heard.rssi_dbm, data, "public"))

    await adapter.scan(hear, is_active=True)
    try:
        yield
    finally:
        await adapter.stop(hear)


class _Peripheral:
    """A GATT server on the virtual radio."""

    def __init__(self, adapter: Adapter, address: str) -> None:
        self.mtu = LEAST_MTU
        self._adapter = adapter
        self._address = address
        self._link: GattLink | None = None
        self._characteristics: dict[int, CharacteristicProxy[bytes]] = {}
        self._ends: Ends | None = None

    async def connect(self, ends: Ends) -> Sequence[Service]:
        """Connect, negotiate the MTU, and find out what services there are."""
        try:
            link = self._link = await self._adapter.connect(self._address)
            link.on_down = ends.lost
            await link.exchange_mtu(BLUEZ_MTU)
            self.mtu = link.mtu
            found = await link.discover()
        except LinkError as exc:
            await self.disconnect()
            raise GattError(str(exc)) from exc
        except asyncio.CancelledError:
            await self.disconnect()
            raise
        self._ends = ends
        self._characteristics = {each.handle: each for one in found for each in one.characteristics}
        return [_service(each) for each in found]

    async def disconnect(self) -> None:
        """End the connection, which then tells of nothing."""
        link, self._link = self._link, None
        if link is not None:
            link.on_down = None
            await link.disconnect()

    async def pair(self) -> None:
        """Pair, and encrypt the link."""
        link, _ = self._up()
        try:
            await link.pair()
        except LinkError as exc:
            raise GattError(str(exc)) from exc

    async def subscribe(self, handle: int, *, wanted: bool) -> None:
        """Want notifications, or no longer."""
        link, ends = self._up()
        characteristic = self._characteristics[handle]
        try:
            if wanted:
                await link.subscribe(characteristic, partial(ends.notified, handle))
            else:
                await link.unsubscribe(characteristic)
        except LinkError as exc:
            raise GattError(str(exc)) from exc

    async def write(self, handle: int, value: bytes, *, response: bool) -> None:
        """Write a value."""
        link, _ = self._up()
        try:
            await link.write(handle, value, with_response=response)
        except LinkError as exc:
            raise GattError(str(exc)) from exc

    def _up(self) -> tuple[GattLink, Ends]:
        if self._link is None or self._ends is None:
            raise GattError("Not connected")
        return self._link, self._ends


def _service(found: ServiceProxy) -> Service:
    characteristics = tuple(
        Characteristic(
            each.handle,
            _text(each.uuid),
            tuple(gatt_char_props_to_strs(int(each.properties))),
        )
        for each in found.characteristics
    )
    return Service(found.handle, _text(found.uuid), characteristics)


def _text(uuid: UUID) -> str:
    return long_uuid(uuid.to_bytes())
