"""A peripheral of bumble's on the virtual radio, in this process: sends back what it is written."""

import contextlib

from bumble import hci
from bumble.att import ATT_Error
from bumble.core import UUID, BaseBumbleError
from bumble.device import Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.transport.common import AsyncPipeSink
from bumble.utils import AsyncRunner

from gateway.simulate.radio.air import Air
from gateway.simulate.radio.chip import Chip
from gateway.simulate.radio.host import make_device
from tests.support.echo_board import RX, SERVICE, TX

REFUSED = "0e9a0005-5c1d-4c0e-9c6b-2f6a7b1d0e01"
"""Cannot be read."""

READ_NOT_PERMITTED = 0x02
ADVERT = b"\x02\x01\x06\x11\x07" + bytes(UUID(SERVICE))
NAME = b"\x05\x09echo"


class EchoPeripheral:
    """On the air from `start` on."""

    def __init__(self, air: Air, address: str) -> None:
        self.written: list[bytes] = []
        self.hangs_up = False
        """Whether it ends each link as soon as it is there."""
        self.chip = Chip(air, address)
        self.device: Device = make_device(self.chip, AsyncPipeSink(self.chip), "echo")
        self.device.on(Device.EVENT_CONNECTION, self._on_connection)
        properties = Characteristic.Properties
        permissions = Characteristic.Permissions.READABLE | Characteristic.Permissions.WRITEABLE
        self._tx: Characteristic[bytes] = Characteristic(
            TX,
            properties.NOTIFY | properties.READ,
            permissions,
            CharacteristicValue(read=lambda _: b"read me"),
        )
        rx: Characteristic[bytes] = Characteristic(
            RX,
            properties.WRITE | properties.WRITE_WITHOUT_RESPONSE,
            permissions,
            CharacteristicValue(write=self._on_write),
        )
        refused: Characteristic[bytes] = Characteristic(
            REFUSED, properties.READ, permissions, CharacteristicValue(read=self._refuse)
        )
        self.device.add_service(Service(SERVICE, [self._tx, rx, refused]))

    async def start(self) -> None:
        """Be there to be connected to, again after each link."""
        await self.device.power_on()
        await self.advertise()

    async def _advertise_again(self) -> None:
        with contextlib.suppress(BaseBumbleError):  # the radio may vanish meanwhile
            await self.advertise()

    async def advertise(self, interval_ms: float = 30.0) -> None:
        """Be there for one more."""
        await self.device.start_advertising(
            own_address_type=hci.OwnAddressType.PUBLIC,
            advertising_data=ADVERT,
            scan_response_data=NAME,
            advertising_interval_min=interval_ms,
            advertising_interval_max=interval_ms,
        )

    def _on_connection(self, connection: Connection) -> None:
        connection.once(Connection.EVENT_DISCONNECTION, self._on_disconnection)
        if self.hangs_up:
            self.chip.air.drop(
                self.chip,
                next(iter(self.chip.le_connections.values())),
                hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR,
            )

    def _on_disconnection(self, _reason: int) -> None:
        if not self.chip.has_left:
            AsyncRunner.spawn(self._advertise_again())  # type: ignore[no-untyped-call]  # bumble's is

    async def _on_write(self, connection: Connection, value: bytes) -> None:
        self.written.append(value)
        await self.device.notify_subscriber(connection, self._tx, value)

    def _refuse(self, _connection: Connection) -> bytes:
        raise ATT_Error(READ_NOT_PERMITTED)
