"""A central on the virtual radio: bleak alone, without the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from gateway.simulate.radio.bleak_backend import VirtualBackend
from tests.support.echo_board import RX, SERVICE, TX

TIMEOUT_S = 30.0
"""Only for what hangs."""


class Ear:
    """Hears adverts; the first of them wait to be asked for."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[tuple[BLEDevice, AdvertisementData]] = asyncio.Queue(10_000)

    def __call__(self, device: BLEDevice, told: AdvertisementData) -> None:
        if not self._heard.full():
            self._heard.put_nowait((device, told))

    async def next(self, address: str = "") -> tuple[BLEDevice, AdvertisementData]:
        """Return the next advert, or the next of one device."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                device, told = await self._heard.get()
                if address in {"", device.address}:
                    return device, told

    def empty(self) -> None:
        """Forget what was heard."""
        while not self._heard.empty():
            self._heard.get_nowait()


@asynccontextmanager
async def scanning(backend: VirtualBackend, *, is_active: bool = True) -> AsyncIterator[Ear]:
    """Scan while the context is open."""
    ear = Ear()
    scanner = BleakScanner(
        ear, scanning_mode="active" if is_active else "passive", backend=backend.scanner
    )
    async with scanner:
        yield ear


async def find(backend: VirtualBackend, address: str = "") -> BLEDevice:
    """Return a board that advertises our service."""
    async with scanning(backend) as ear:
        while True:
            device, told = await ear.next(address)
            if SERVICE in told.service_uuids:
                return device


class EchoLink:
    """A link to something that sends back what it is written."""

    def __init__(self, backend: VirtualBackend, device: BLEDevice | str) -> None:
        self.is_down = asyncio.Event()
        self.times_down = 0
        self.client = BleakClient(device, self._on_down, backend=backend.client, timeout=TIMEOUT_S)
        self._notified: asyncio.Queue[bytes] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        """Connect and subscribe."""
        await self.client.connect()
        await self.client.start_notify(TX, lambda _, value: self._notified.put_nowait(bytes(value)))
        return self

    async def __aexit__(self, *_args: object) -> None:
        """End the link."""
        await self.client.disconnect()

    async def write(self, value: bytes, *, with_response: bool = False) -> None:
        """Write to the other end."""
        await self.client.write_gatt_char(RX, value, response=with_response)

    async def notification(self) -> bytes:
        """Return the next notification."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._notified.get()

    async def goes_down(self) -> None:
        """Wait until the link is down."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.is_down.wait()

    def _on_down(self, _client: BleakClient) -> None:
        self.times_down += 1
        self.is_down.set()
