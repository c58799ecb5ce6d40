"""Bleak on a virtual radio: its scanner and client, for the same code that runs on BlueZ.

What BlueZ does and this does not: merge the service data of successive adverts, cache services,
connect to a device that does not advertise at the moment, and fail in BlueZ's own ways.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from uuid import UUID

from bleak.args import SizedBuffer
from bleak.assigned_numbers import AdvertisementDataType, gatt_char_props_to_strs
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import (
    AdvertisementData,
    AdvertisementDataCallback,
    BaseBleakScanner,
)
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakError,
    BleakGATTProtocolError,
)

from gateway.errors import LinkError
from gateway.simulate.radio.adapter import Adapter
from gateway.simulate.radio.gatt_link import GattLink
from gateway.simulate.radio.link_errors import AdapterMissingError, RefusedError
from gateway.simulate.radio.open_radio import Heard

MOST_DEVICES = 4096
"""Devices a scanner remembers; the one that was not heard for longest makes room."""

_BLUEZ_MTU = 517
"""What BlueZ asks for."""

_BASE_UUID = bytes.fromhex("0000000000001000800000805f9b34fb")
"""What a short UUID is the beginning of (Core 5.4, Vol 3 Part B 2.5.1)."""


@dataclass(slots=True)
class VirtualBackend:
    """Bleak's backend classes for one virtual radio."""

    scanner: type[BaseBleakScanner] | None
    client: type[BaseBleakClient] | None


def virtual_backend(address: str) -> VirtualBackend:
    """Return the backend for the radio at `address`, which is `VirtualRadio.hci_address`."""
    shared = Adapter(address)

    class Scanner(VirtualScanner):
        adapter = shared

    class Client(VirtualClient):
        adapter = shared

    return VirtualBackend(Scanner, Client)


class VirtualScanner(BaseBleakScanner):
    """Reports each advert that is heard, merged with the last scan response of its sender."""

    adapter: ClassVar[Adapter]

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None = None,
        service_uuids: list[str] | None = None,
        scanning_mode: Literal["active", "passive"] = "active",
        **_others: object,
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._is_active = scanning_mode == "active"
        self._parts: dict[str, tuple[bytes, bytes]] = {}
        """Last advert and last scan response, by address; those heard last are last."""

    async def start(self) -> None:
        """Scan until `stop`."""
        self.seen_devices.clear()
        self._parts.clear()
        try:
            await self.adapter.scan(self._hear, is_active=self._is_active)
        except LinkError as exc:
            raise _no_bluetooth(exc) from exc

    async def stop(self) -> None:
        """Scan no more."""
        await self.adapter.stop(self._hear)

    def _hear(self, heard: Heard) -> None:
        advert, response = self._parts.pop(heard.address, (b"", b""))
        is_news = not heard.is_scan_response or heard.data != response
        if heard.is_scan_response:
            response = heard.data
        else:
            advert = heard.data
        self._parts[heard.address] = (advert, response)
        if len(self._parts) > MOST_DEVICES:
            forgotten = next(iter(self._parts))
            del self._parts[forgotten]
            self.seen_devices.pop(forgotten, None)
        if not is_news or not advert:
            return
        told = parse_advert(advert + response, heard.rssi_dbm, (heard.address, advert + response))
        if self.is_allowed_uuid(told.service_uuids):
            device = self.create_or_update_device(
                heard.address, heard.address, told.local_name, {"source": "virtual"}, told
            )
            self.call_detection_callbacks(device, told)


_UUID_LISTS: dict[int, int] = {
    AdvertisementDataType.INCOMPLETE_LIST_SERVICE_UUID16: 2,
    AdvertisementDataType.COMPLETE_LIST_SERVICE_UUID16: 2,
    AdvertisementDataType.INCOMPLETE_LIST_SERVICE_UUID32: 4,
    AdvertisementDataType.COMPLETE_LIST_SERVICE_UUID32: 4,
    AdvertisementDataType.INCOMPLETE_LIST_SERVICE_UUID128: 16,
    AdvertisementDataType.COMPLETE_LIST_SERVICE_UUID128: 16,
}
"""How many bytes each UUID in such a structure has."""

_SERVICE_DATA: dict[int, int] = {
    AdvertisementDataType.SERVICE_DATA_UUID16: 2,
    AdvertisementDataType.SERVICE_DATA_UUID32: 4,
    AdvertisementDataType.SERVICE_DATA_UUID128: 16,
}
"""How many bytes the UUID before such data has."""

_COMPANY_BYTES = 2


def parse_advert(data: bytes, rssi_dbm: int, platform: tuple[Any, ...]) -> AdvertisementData:
    """Take AD structures apart (Core 5.4, Vol 3 Part C 11); one that is cut short ends them."""
    kinds = AdvertisementDataType
    structures = tuple(_structures(data))
    last = dict(structures)
    name = last.get(kinds.COMPLETE_LOCAL_NAME, last.get(kinds.SHORTENED_LOCAL_NAME))
    tx_power = last.get(kinds.TX_POWER_LEVEL)
    return AdvertisementData(
        local_name=None if name is None else name.decode("utf-8", "replace"),
        manufacturer_data={
            int.from_bytes(value[:_COMPANY_BYTES], "little"): value[_COMPANY_BYTES:]
            for kind, value in structures
            if kind == kinds.MANUFACTURER_SPECIFIC_DATA and len(value) >= _COMPANY_BYTES
        },
        service_data={
            _uuid(value[:size]): value[size:]
            for kind, value in structures
            if (size := _SERVICE_DATA.get(kind, 0)) and len(value) >= size
        },
        service_uuids=[
            _uuid(value[at : at + size])
            for kind, value in structures
            if (size := _UUID_LISTS.get(kind, 0))
            for at in range(0, len(value) - size + 1, size)
        ],
        tx_power=None if not tx_power else int.from_bytes(tx_power[:1], "little", signed=True),
        rssi=rssi_dbm,
        platform_data=platform,
    )


def _structures(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 1 < len(data):
        end = at + 1 + data[at]
        if data[at] and end <= len(data):
            yield data[at + 1], data[at + 2 : end]
        at = end


def _uuid(octets: bytes) -> str:
    if len(octets) == len(_BASE_UUID):
        return str(UUID(bytes=octets[::-1]))
    return str(UUID(bytes=octets[::-1].rjust(4, b"\0") + _BASE_UUID[4:]))


class VirtualClient(BaseBleakClient):
    """A link to one peripheral of a virtual radio."""

    adapter: ClassVar[Adapter]

    def __init__(
        self,
        address_or_ble_device: BLEDevice | str,
        services: set[str] | None = None,
        *,
        disconnected_callback: Callable[[], None] | None = None,
        timeout: float = 10.0,
        **_others: object,
    ) -> None:
        super().__init__(
            address_or_ble_device, disconnected_callback=disconnected_callback, timeout=timeout
        )
        self._wanted = services
        self._link: GattLink | None = None
        self._name = ""
        if isinstance(address_or_ble_device, BLEDevice):
            self._name = address_or_ble_device.name or ""

    @property
    def name(self) -> str:
        """The name it advertised, or its address."""
        return self._name or self.address.replace(":", "-")

    @property
    def mtu_size(self) -> int:
        """The MTU as negotiated; 23 while there is no link."""
        return 23 if self._link is None else self._link.mtu

    @property
    def is_connected(self) -> bool:
        """Whether the link is up."""
        return self._link is not None and self._link.is_up

    async def connect(
        self,
        pair: bool,  # noqa: FBT001 bleak's signature
        timeout: float | None = None,  # noqa: ASYNC109 bleak's signature
        **_kwargs: object,
    ) -> None:
        """Connect, negotiate the MTU, and find out what services there are."""
        if self.is_connected:
            raise BleakError("Client is already connected")
        self.services = None
        try:
            async with asyncio.timeout(self._timeout if timeout is None else timeout):
                link = self._link = await self.adapter.connect(self.address.upper())
                await link.exchange_mtu(_BLUEZ_MTU)
                if pair:
                    await link.pair()
                services = await self._discover(link)
                if not link.is_up:
                    raise BleakError("the link went down at once")  # noqa: TRY301 as bumble's
        except BaseException as exc:
            if self._link is not None:
                link, self._link = self._link, None
                await link.disconnect()
            if isinstance(exc, LinkError):
                raise _bleak_error(exc) from exc
            raise
        self.services = services
        link.on_down = self._on_down

    async def disconnect(self) -> None:
        """End the link."""
        link = self._link
        if link is not None:
            await link.disconnect()
            self._link = None

    async def pair(self, *_args: object, **_kwargs: object) -> None:
        """Pair, and encrypt the link."""
        try:
            await self._up().pair()
        except LinkError as exc:
            raise _bleak_error(exc) from exc

    async def unpair(self) -> None:
        """Forget the bond: there is none that outlives the link."""
        await self.disconnect()

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, **_kwargs: object
    ) -> bytearray:
        """Read a value."""
        return await self._read(characteristic.handle)

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, **_kwargs: object
    ) -> bytearray:
        """Read a descriptor."""
        return await self._read(descriptor.handle)

    async def write_gatt_char(
        self,
        characteristic: BleakGATTCharacteristic,
        data: SizedBuffer,
        response: bool,  # noqa: FBT001 bleak's signature
    ) -> None:
        """Write a value; without response it has to fit into one packet."""
        if not response and len(data) > characteristic.max_write_without_response_size:
            raise BleakError(f"{len(data)} bytes do not fit into a write without response")
        await self._write(characteristic.handle, bytes(data), with_response=response)

    async def write_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, data: SizedBuffer
    ) -> None:
        """Write a descriptor."""
        await self._write(descriptor.handle, bytes(data), with_response=True)

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **_kwargs: object
    ) -> None:
        """Want notifications."""
        link = self._up()
        try:
            await link.subscribe(characteristic.obj, lambda value: callback(bytearray(value)))
        except LinkError as exc:
            raise _bleak_error(exc) from exc

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        """Want no more notifications."""
        try:
            await self._up().unsubscribe(characteristic.obj)
        except LinkError as exc:
            raise _bleak_error(exc) from exc

    def _up(self) -> GattLink:
        if self._link is None or not self._link.is_up:
            raise BleakError("Not connected")
        return self._link

    def _on_down(self) -> None:
        self.services = None
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def _read(self, handle: int) -> bytearray:
        try:
            return bytearray(await self._up().read(handle))
        except LinkError as exc:
            raise _bleak_error(exc) from exc

    async def _write(self, handle: int, value: bytes, *, with_response: bool) -> None:
        try:
            await self._up().write(handle, value, with_response=with_response)
        except LinkError as exc:
            raise _bleak_error(exc) from exc

    async def _discover(self, link: GattLink) -> BleakGATTServiceCollection:
        collection = BleakGATTServiceCollection()
        for found in await link.discover():
            service = BleakGATTService(found, found.handle, _uuid(found.uuid.to_bytes()))
            if self._wanted and service.uuid not in self._wanted:
                continue
            collection.add_service(service)
            for each in found.characteristics:
                characteristic = BleakGATTCharacteristic(
                    each,
                    each.handle,
                    _uuid(each.uuid.to_bytes()),
                    list(gatt_char_props_to_strs(int(each.properties))),
                    lambda: link.mtu - 3,
                    service,
                )
                collection.add_characteristic(characteristic)
                for other in each.descriptors:
                    collection.add_descriptor(
                        BleakGATTDescriptor(
                            other, other.handle, _uuid(other.type.to_bytes()), characteristic
                        )
                    )
        return collection


def _bleak_error(exc: LinkError) -> BleakError:
    match exc:
        case RefusedError():
            return BleakGATTProtocolError(exc.code)
        case AdapterMissingError():
            return _no_bluetooth(exc)
        case _:
            return BleakError(str(exc))


def _no_bluetooth(exc: LinkError) -> BleakError:
    return BleakBluetoothNotAvailableError(str(exc), BleakBluetoothNotAvailableReason.NO_BLUETOOTH)
