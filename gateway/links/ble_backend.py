"""What bleak is told and what it tells: its classes kept within bounds, its adverts as ours."""

from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

from bleak.args.bluez import OrPattern
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner

from gateway.drivers.advert import Advert

MAX_SEEN: Final = 4096
"""Devices bleak remembers for us; it would remember every address it ever heard."""

NO_RSSI: Final = -127
"""bleak's word for no signal strength: BlueZ told of something else than an advert."""

PASSIVE_PATTERNS: Final = [
    *(OrPattern(0, AdvertisementDataType.FLAGS, bytes((flags,))) for flags in (2, 4, 5, 6, 24, 26)),
    *(
        OrPattern(0, AdvertisementDataType.SERVICE_DATA_UUID16, uuid.to_bytes(2, "little"))
        for uuid in (0xFCD2, 0xFE95, 0xFDCD)
    ),
    *(
        OrPattern(0, AdvertisementDataType.MANUFACTURER_SPECIFIC_DATA, uuid.to_bytes(2, "little"))
        for uuid in (0xFFFF, 0x0499, 0xEC88, 0x0059)
    ),
]
"""What BlueZ reports while it listens passively: it must be told, and takes at most 16 patterns.

The flags nearly every device advertises; BTHome, MiBeacon and Qingping, which may leave them out;
our sleepy boards, Ruuvi, Govee and Mopeka. Source: habluetooth for the flags.
"""

Connectable: TypeAlias = BLEDevice
"""Where an advert came from, as bleak wants to have it to connect."""


class RadioBackend(Protocol):
    """What bleak uses instead of its own code for the platform."""

    @property
    def scanner(self) -> type[BaseBleakScanner] | None:
        """Its scanner; None for that of the platform."""

    @property
    def client(self) -> type[BaseBleakClient] | None:
        """Its client; None for that of the platform."""


def bounded(base: type[BaseBleakScanner]) -> type[BaseBleakScanner]:
    """Return a scanner that remembers `MAX_SEEN` devices instead of all it ever heard."""

    class Bounded(base):  # type: ignore[valid-type, misc]  # the base is known at run time
        def create_or_update_device(
            self,
            key: str,
            address: str,
            name: str | None,
            details: Any,  # noqa: ANN401  # bleak's
            adv: AdvertisementData,
        ) -> BLEDevice:
            known = self.seen_devices.pop(key, None)  # so that the table is in order of hearing
            if known is not None:
                self.seen_devices[key] = known
            elif len(self.seen_devices) >= MAX_SEEN:  # many at once: a dict is slow at its front
                for oldest in list(islice(self.seen_devices, MAX_SEEN // 4)):
                    del self.seen_devices[oldest]
            device: BLEDevice = super().create_or_update_device(key, address, name, details, adv)
            return device

    Bounded.__name__ = Bounded.__qualname__ = base.__name__
    return Bounded


def advert_of(device: BLEDevice, data: AdvertisementData, heard_s: float) -> Advert:
    """Return what bleak heard."""
    raw = data.platform_data[-1] if data.platform_data else b""  # BlueZ has properties there
    return Advert(
        device.address.upper(),
        data.local_name or "",
        data.rssi,
        data.manufacturer_data,
        data.service_data,
        tuple(data.service_uuids),
        heard_s,
        raw if isinstance(raw, bytes) else b"",
    )
