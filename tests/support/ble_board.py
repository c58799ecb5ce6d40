"""A board of ours on a virtual radio: the firmware's session and ring, bumble's GATT server.

The board's own code for the radio is tested with the firmware; this one can be told to be ill.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bumble import hci
from bumble.core import UUID, ProtocolError
from bumble.device import Connection, Device
from bumble.gatt import (
    GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
    Characteristic,
    CharacteristicValue,
    Descriptor,
    Service,
)
from bumble.transport.common import AsyncPipeSink, TransportLostError

from gateway.protocol.fragments import Joiner, cut
from gateway.simulate.light_board import STREAM, load_board_code
from gateway.simulate.radio.air import Air
from gateway.simulate.radio.chip import Chip
from gateway.simulate.radio.host import make_device

SERVICE = "0e9a0001-5c1d-4c0e-9c6b-2f6a7b1d0e01"
SPEAKS = "0e9a0002-5c1d-4c0e-9c6b-2f6a7b1d0e01"
HEARS = "0e9a0003-5c1d-4c0e-9c6b-2f6a7b1d0e01"

_RECORD = struct.Struct("<BBIIh")
_ON_THEIR_WAY = 8
"""Notifications a board hands to its radio before it waits."""
_ADVERT_MS = 30.0
_RING_BYTES = 1 << 16


@dataclass(slots=True)
class Illness:
    """What is wrong with a board; may be changed while it runs."""

    is_mute: bool = False
    """It takes connections and says nothing."""
    lacks_service: bool = False
    """It advertises the service and does not have it."""
    wants_pairing: bool = False
    """It lets nobody listen who has not encrypted the connection."""


class RadioBoard:
    """One board; `number` of its samples counts from 0."""

    def __init__(
        self, air: Air, name: str, address: str, *, mtu: int = 247, illness: Illness | None = None
    ) -> None:
        self.name = name
        self.address = address
        self.illness = illness or Illness()
        self.produced = 0
        self.connections = 0
        """How often it was connected to."""
        self.paired = 0
        self.mtu = 0
        """Of the last connection."""
        self.on_heard: Callable[[], None] = lambda: None
        """Called when the gateway wrote something."""
        self._air = air
        self._most_mtu = mtu
        code = load_board_code()
        hello: dict[str, object] = {"id": name, "name": name, "plat": "test", "n": 1}
        self._ring = code.make_ring(_RING_BYTES)
        self._session = code.make_session(hello, self._ring, 1, (STREAM,))
        self._chip: Chip | None = None
        self._device: Device | None = None
        self._characteristic: Characteristic[bytes] | None = None
        self._connection: Connection | None = None
        self._joiner = Joiner()
        self._counter = 0
        self._wake = asyncio.Event()
        self._started_s = time.monotonic()
        self._garbage: list[bytes] = []
        self._is_on = False
        self._is_stopped = False
        self._has_to_advertise = False

    @property
    def waiting(self) -> int:
        """Samples that are not acknowledged yet."""
        return self._ring.count

    @property
    def is_joined(self) -> bool:
        """Whether the gateway has welcomed it."""
        return self._session.joined

    def produce(self, count: int) -> None:
        """Take so many samples now."""
        for number in range(self.produced, self.produced + count):
            mono_ms = self._now_ms() & 0xFFFFFFFF
            self._ring.push(_RECORD.pack(_RECORD.size, 0, mono_ms, number, 0), _RECORD.size)
        self.produced += count
        self._wake.set()

    def say_bye(self) -> None:
        """Say that it leaves now, and stay."""
        self._session.bye(0)
        self._wake.set()

    def send_garbage(self, values: list[bytes]) -> None:
        """Notify of these, as they are."""
        self._garbage += values
        self._wake.set()

    async def switch_on(self) -> None:
        """Go on the air and advertise."""
        self._chip = Chip(self._air, self.address)
        device = self._device = make_device(self._chip, AsyncPipeSink(self._chip), self.name)
        device.gatt_server.max_mtu = self._most_mtu
        device.add_service(self._service())
        device.on(Device.EVENT_CONNECTION, self._on_connection)
        await device.power_on()
        self._is_on = True
        await self._advertise(device)

    def switch_off(self) -> None:
        """Leave the air, as a board without power does."""
        self._is_on = False
        if self._chip is not None:
            self._chip.leave()
        self._connection = None

    def stop(self) -> None:
        """End `run`; a task that waits for bumble cannot always be cancelled (Python 3.11)."""
        self._is_stopped = True
        self._wake.set()

    async def run(self) -> None:
        """Speak, whenever there is somebody to speak to, until `stop`."""
        while not self._is_stopped:
            self._wake.clear()
            if self._has_to_advertise and self._is_on and self._device is not None:
                self._has_to_advertise = False
                with contextlib.suppress(TransportLostError):
                    await self._advertise(self._device)
            connection = self._connection
            if connection is not None and not self.illness.is_mute:
                await self._speak(connection)
            due_s = max(self._session.due_ms(self._now_ms()) / 1000, 0.001)
            try:
                async with asyncio.timeout(due_s if connection is not None else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _speak(self, connection: Connection) -> None:
        while self._garbage and connection is self._connection:
            await self._notify(connection, self._garbage.pop(0))
        while (line := self._session.next_line(self._now_ms())) is not None:
            fragments = cut(line, connection.att_mtu - 4, self._counter)
            self._counter += len(fragments)
            for fragment in fragments:
                await self._notify(connection, fragment)

    async def _notify(self, connection: Connection, value: bytes) -> None:
        if connection is not self._connection or self._device is None:
            return
        if self._characteristic is not None:
            await self._device.notify_subscriber(connection, self._characteristic, value)
        queue = self._device.host.get_data_packet_queue(connection.handle)
        if queue is not None and queue.pending > _ON_THEIR_WAY:
            try:
                await queue.drain(connection.handle)
            except (ValueError, ProtocolError):  # it was disconnected
                return

    def _service(self) -> Service:
        if self.illness.lacks_service:
            return Service(UUID("0000fff0-0000-1000-8000-00805f9b34fb"), [])
        properties, permissions = Characteristic.Properties, Characteristic.Permissions
        more = []
        if self.illness.wants_pairing:
            more.append(
                Descriptor(
                    GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
                    permissions.READABLE
                    | permissions.WRITEABLE
                    | permissions.WRITE_REQUIRES_ENCRYPTION,
                    b"\0\0",
                )
            )
        self._characteristic = Characteristic(
            UUID(SPEAKS), properties.NOTIFY, permissions.READABLE, b"", more
        )
        if more and self._device is not None:
            more[0].value = self._device.gatt_server.make_descriptor_value(self._characteristic)
        hears: Characteristic[bytes] = Characteristic(
            UUID(HEARS),
            properties.WRITE | properties.WRITE_WITHOUT_RESPONSE,
            permissions.WRITEABLE,
            CharacteristicValue[bytes](write=self._on_write),
        )
        return Service(UUID(SERVICE), [self._characteristic, hears])

    async def _advertise(self, device: Device) -> None:
        await device.start_advertising(
            own_address_type=hci.OwnAddressType.PUBLIC,
            advertising_data=b"\x02\x01\x06\x11\x07" + bytes(UUID(SERVICE)),
            scan_response_data=bytes((len(self.name) + 1, 9)) + self.name.encode(),
            advertising_interval_min=_ADVERT_MS,
            advertising_interval_max=_ADVERT_MS,
        )

    def _on_connection(self, connection: Connection) -> None:
        self._connection = connection
        self.connections += 1
        self._joiner, self._counter = Joiner(), 0
        self.mtu = connection.att_mtu
        connection.on(Connection.EVENT_DISCONNECTION, self._on_disconnection)
        connection.on(Connection.EVENT_CONNECTION_ATT_MTU_UPDATE, self._on_mtu)
        connection.on(Connection.EVENT_PAIRING, lambda _keys: self._on_pairing())
        self._wake.set()

    def _on_disconnection(self, _reason: int) -> None:
        self._connection = None
        self._has_to_advertise = True
        self._wake.set()

    def _on_mtu(self) -> None:
        if self._connection is not None:
            self.mtu = self._connection.att_mtu

    def _on_pairing(self) -> None:
        self.paired += 1

    def _on_write(self, _connection: Connection, value: bytes) -> None:
        line = self._joiner.feed(value)
        if line is not None and not self.illness.is_mute:
            self._session.on_line(line.rstrip(b"\n"), self._now_ms())
        self._wake.set()
        self.on_heard()

    def _now_ms(self) -> int:
        return int((time.monotonic() - self._started_s) * 1000)


@asynccontextmanager
async def boards_on_air(*boards: RadioBoard) -> AsyncIterator[None]:
    """Have these on the air for as long as the context lasts."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(board.run(), name=board.name) for board in boards]
        try:
            for board in boards:
                await board.switch_on()
            yield
        finally:
            for board in boards:
                board.stop()
            await asyncio.wait(running)  # none is in the middle of a command when its chip goes
            for board in boards:
                board.switch_off()
