"""A bleak backend without a radio: it hears what a test pumps into it, as fast as wanted."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal

from bleak.backends.client import BaseBleakClient
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback, BaseBleakScanner
from bleak.exc import BleakError

BTHOME = "0000fcd2-0000-1000-8000-00805f9b34fb"


class Pump:
    """What the scanner of `backend` does, and what was asked of it."""

    def __init__(self) -> None:
        self.modes: list[str] = []
        """The mode of each scan that was started."""
        self.refuses: Callable[[str], Exception | None] = lambda _mode: None
        """Why a scan in this mode does not start."""
        self.running: BaseBleakScanner | None = None
        self.stops = 0
        self.has_started = asyncio.Event()
        self.connects = 0
        """How often it was tried to connect to somebody; there is nobody to connect to."""
        self.tried: Counter[str] = Counter()
        """The same, by address."""
        self.why: Callable[[], str] = lambda: "nobody is there"
        """What it says each time."""
        self.client: type[BaseBleakClient] = _client_of(self)
        self.scanner: type[BaseBleakScanner] = _scanner_of(self)

    def hear(self, adverts: Iterable[tuple[str, AdvertisementData]]) -> None:
        """Have the running scan hear these; without one they are lost."""
        scanner = self.running
        if scanner is None:
            return
        for address, data in adverts:
            device = scanner.create_or_update_device(address, address, None, {}, data)
            scanner.call_detection_callbacks(device, data)


def advert(
    *,
    service_data: bytes = b"",
    manufacturer_data: bytes = b"",
    service_uuids: tuple[str, ...] = (),
    rssi: int = -60,
    company: int = 0xFFFE,
) -> AdvertisementData:
    """Return what bleak makes of an advert."""
    return AdvertisementData(
        local_name=None,
        manufacturer_data={company: manufacturer_data} if manufacturer_data else {},
        service_data={BTHOME: service_data} if service_data else {},
        service_uuids=list(service_uuids),
        tx_power=None,
        rssi=rssi,
        platform_data=(),
    )


def _scanner_of(pump: Pump) -> type[BaseBleakScanner]:
    class PumpScanner(BaseBleakScanner):
        def __init__(
            self,
            detection_callback: AdvertisementDataCallback | None = None,
            service_uuids: list[str] | None = None,
            scanning_mode: Literal["active", "passive"] = "active",
            **_others: Any,  # noqa: ANN401  # bleak's
        ) -> None:
            super().__init__(detection_callback, service_uuids)
            self._mode = scanning_mode

        async def start(self) -> None:
            pump.modes.append(self._mode)
            error = pump.refuses(self._mode)
            if error is not None:
                raise error
            self.seen_devices = {}
            pump.running = self
            pump.has_started.set()

        async def stop(self) -> None:
            pump.stops += 1
            pump.running = None

    return PumpScanner


def _client_of(pump: Pump) -> type[BaseBleakClient]:
    async def refuse(self: BaseBleakClient, *_: object, **__: object) -> None:
        pump.connects += 1
        pump.tried[self.address] += 1
        raise BleakError(pump.why())

    async def disconnect(self: BaseBleakClient) -> None:
        """Do nothing."""

    made: dict[str, object] = dict.fromkeys(BaseBleakClient.__abstractmethods__, refuse)
    made |= {"disconnect": disconnect, "is_connected": False, "mtu_size": 23}
    client: type[BaseBleakClient] = type("PumpClient", (BaseBleakClient,), made)
    return client
