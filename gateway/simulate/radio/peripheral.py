"""A simulated board's radio: bumble's peripheral, for firmware that speaks JSON lines over TCP.

Its other end is `device_firmware/host/bluetooth.py`. The board numbers its attributes, this side
its connections. Nothing that a board sends can end more than its own radio.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bumble import hci
from bumble.core import UUID
from bumble.device import AdvertisingType, Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Descriptor, Service
from bumble.transport.common import AsyncPipeSink

from gateway.simulate.radio.air import Air, Lost
from gateway.simulate.radio.chip import Chip
from gateway.simulate.radio.host import make_device

if TYPE_CHECKING:
    from bumble.host import DataPacketQueue

_log = logging.getLogger(__name__)

LINE_BYTES = 16384
"""A longer line of a board is nonsense; the longest that makes sense lists its services."""

_UNREAD_BYTES = 65536
"""What a board has not read yet of what it was told; from there on writes of centrals are lost."""

_BUFFERS = 12
"""Notifications on their way: what the board's own count starts at."""

_MOST_ATTRIBUTES = 128
_MOST_VALUE_BYTES = 512
"""Of an attribute (Core 5.4, Vol 3 Part F 3.2.9)."""

_ATT_PROPERTIES = 0x3E
"""Of MicroPython's flags, those that are properties of a characteristic: read to indicate."""


class BoardRadio:
    """One board on the air, as long as its connection stands: `run` it in a task."""

    def __init__(
        self, air: Air, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.chip: Chip | None = None
        """On the air once the board has switched its radio on."""
        self._air = air
        self._reader = reader
        self._writer = writer
        self._device: Device | None = None
        self._queue: DataPacketQueue | None = None
        self._values: dict[int, bytes] = {}
        self._characteristics: dict[int, Characteristic[bytes]] = {}
        self._connections: dict[int, Connection] = {}
        self._on_their_way: deque[int] = deque()
        """For each notification, how many packets have to be sent until it is."""

    async def run(self) -> None:
        """Do what the board asks for until it goes."""
        try:
            while line := await self._reader.readline():
                await self._obey_line(line)
                if self.chip is not None and self.chip.has_left:
                    break
        except (OSError, ValueError):
            pass  # it was killed, or its line has no end
        finally:
            if self.chip is not None:
                self.chip.leave()
            self._writer.transport.abort()

    def close(self) -> None:
        """Take the board off the air, and end its connection."""
        self._writer.transport.abort()

    async def _obey_line(self, line: bytes) -> None:
        try:
            order = json.loads(line)
            if self._device is None:
                await self._switch_on(order["address"])
            else:
                await self._obey(self._device, order)
        except Exception:  # noqa: BLE001 a stranger's order; what is wrong with it is its own matter
            self._air.lost[Lost.NONSENSE] += 1
            _log.debug("a board sent nonsense", exc_info=True)

    async def _switch_on(self, digits: str) -> None:
        octets = bytes.fromhex(digits)
        address = ":".join(f"{octet:02X}" for octet in octets)
        self._air.make_room(address)
        chip = self.chip = Chip(self._air, address)
        device = make_device(chip, AsyncPipeSink(chip), "board")
        device.on(Device.EVENT_CONNECTION, self._on_connection)
        await device.power_on()
        self._queue = device.host.le_acl_packet_queue
        if self._queue is not None:
            self._queue.on("flow", self._return_buffers)
        self._device = device

    async def _obey(self, device: Device, order: Mapping[str, Any]) -> None:
        match order["op"]:
            case "config":
                device.gatt_server.max_mtu = int(order["mtu"])
                device.name = str(order["name"])
            case "services":
                self._register(device, order["services"])
            case "advertise":
                await self._advertise(device, order)
            case "value":
                if order["handle"] in self._values:
                    value = bytes.fromhex(order["data"])[:_MOST_VALUE_BYTES]
                    self._values[order["handle"]] = value
            case "notify":
                await self._notify(device, order)
            case "disconnect":
                connection = self._connections[order["conn"]]
                reason = hci.HCI_ErrorCode.REMOTE_USER_TERMINATED_CONNECTION_ERROR
                await connection.disconnect(reason)

    async def _advertise(self, device: Device, order: Mapping[str, Any]) -> None:
        if order["us"] is None:
            await device.stop_advertising()
            return
        interval_ms = int(order["us"]) / 1000
        kinds = AdvertisingType
        await device.start_advertising(
            advertising_type=kinds.UNDIRECTED_CONNECTABLE_SCANNABLE
            if order["connectable"]
            else kinds.UNDIRECTED_SCANNABLE
            if order["resp"]
            else kinds.UNDIRECTED,
            own_address_type=hci.OwnAddressType.PUBLIC,
            advertising_data=bytes.fromhex(order["adv"]),
            scan_response_data=bytes.fromhex(order["resp"]),
            advertising_interval_min=interval_ms,
            advertising_interval_max=interval_ms,
        )

    def _register(self, device: Device, services: list[Any]) -> None:
        """Replace what the board's GATT server offers."""
        self._values.clear()
        self._characteristics.clear()
        made = [self._make_service(*service) for service in services]
        if len(self._values) > _MOST_ATTRIBUTES:
            raise ValueError("so many attributes do not fit into a board")
        server = device.gatt_server
        server.attributes.clear()
        server.attributes_by_handle.clear()
        server.services.clear()
        device.add_default_services()
        device.add_services(made)

    def _make_service(self, uuid: str, characteristics: list[Any]) -> Service:
        return Service(_uuid(uuid), [self._make_characteristic(*each) for each in characteristics])

    def _make_characteristic(
        self, uuid: str, flags: int, handle: int, descriptors: list[Any]
    ) -> Characteristic[bytes]:
        characteristic = self._characteristics[handle] = Characteristic(
            _uuid(uuid),
            Characteristic.Properties(flags & _ATT_PROPERTIES),
            _permissions(flags),
            self._make_value(handle),
            [
                Descriptor(_uuid(uuid), _permissions(flags), self._make_value(handle))
                for uuid, flags, handle in descriptors
            ],
        )
        return characteristic

    def _make_value(self, handle: int) -> CharacteristicValue[bytes]:
        self._values[handle] = b""

        def on_write(connection: Connection, value: bytes) -> None:
            number = self._number_of(connection)
            if number is not None:
                self._tell(event="write", conn=number, handle=handle, data=value.hex())

        return CharacteristicValue(read=lambda _: self._values[handle], write=on_write)

    async def _notify(self, device: Device, order: Mapping[str, Any]) -> None:
        if len(self._on_their_way) >= _BUFFERS or self._queue is None:
            self._air.lost[Lost.PACKET_NO_CREDIT] += 1
            return
        try:
            connection = self._connections[order["conn"]]
            characteristic = self._characteristics[order["handle"]]
            value = bytes.fromhex(order["data"])
            await device.notify_subscriber(connection, characteristic, value, force=True)
        finally:
            self._on_their_way.append(self._queue.queued)
            self._return_buffers()

    def _return_buffers(self) -> None:
        """Give the board its buffers back once the packets in them are sent."""
        queue = self._queue
        count = 0
        while queue is not None and self._on_their_way:
            if self._on_their_way[0] > queue.completed:
                break
            self._on_their_way.popleft()
            count += 1
        if count:
            self._tell(event="sent", count=count)

    def _on_connection(self, connection: Connection) -> None:
        number = next(free for free in range(256) if free not in self._connections)
        self._connections[number] = connection
        peer = connection.peer_address

        def on_disconnection(_reason: int) -> None:
            self._connections.pop(number, None)
            self._tell(event="disconnect", conn=number)
            asyncio.get_running_loop().call_soon(self._return_buffers)

        def on_mtu() -> None:
            self._tell(event="mtu", conn=number, mtu=connection.att_mtu)

        connection.on(Connection.EVENT_DISCONNECTION, on_disconnection)
        connection.on(Connection.EVENT_CONNECTION_ATT_MTU_UPDATE, on_mtu)
        self._tell(
            event="connect",
            conn=number,
            type=int(peer.is_random),
            address=bytes(peer)[::-1].hex(),
        )

    def _number_of(self, connection: Connection) -> int | None:
        numbers = (number for number, each in self._connections.items() if each is connection)
        return next(numbers, None)

    def _tell(self, **event: object) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        if event["event"] == "write" and transport.get_write_buffer_size() > _UNREAD_BYTES:
            self._air.lost[Lost.WRITE_UNREAD] += 1
            return
        self._writer.write(json.dumps(event).encode() + b"\n")


def _uuid(digits: str) -> UUID:
    return UUID.from_bytes(bytes.fromhex(digits)[::-1])


def _permissions(flags: int) -> Characteristic.Permissions:
    """Return what a central may do with an attribute, of MicroPython's flags."""
    properties = Characteristic.Properties(flags & _ATT_PROPERTIES)
    permissions = Characteristic.Permissions(0)
    if properties & Characteristic.Properties.READ:
        permissions |= Characteristic.Permissions.READABLE
    if properties & (
        Characteristic.Properties.WRITE | Characteristic.Properties.WRITE_WITHOUT_RESPONSE
    ):
        permissions |= Characteristic.Permissions.WRITEABLE
    return permissions
