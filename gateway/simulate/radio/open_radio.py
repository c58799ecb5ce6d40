"""A virtual radio that is open: one connection serves the scan and all links."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias
from weakref import WeakSet

from bumble import hci
from bumble.core import BaseBumbleError
from bumble.device import Connection, Device
from bumble.transport.common import Transport
from bumble.transport.tcp_client import open_tcp_client_transport

from gateway.simulate.radio.attention import attentive, cancellations
from gateway.simulate.radio.host import make_device
from gateway.simulate.radio.link_errors import AdapterMissingError
from gateway.simulate.radio.server import hush

CLOSE_TIMEOUT_S: Final = 2.0
"""For a link to end."""

_OPEN_TIMEOUT_S = 5.0
"""For a TCP connection on this machine, and a chip to be set up."""

_INITIATE_TIMEOUT_S = 3.0
"""A peripheral that was heard is heard again within this, or another one gets its turn."""

_KNOWN_ADDRESSES = 4096
"""Addresses whose type is remembered."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One report of the scan."""

    address: str
    data: bytes
    """AD structures."""
    rssi_dbm: int
    is_scan_response: bool


Ear: TypeAlias = Callable[[Heard], None]


class OpenRadio:
    """What scans and connects, until its connection is lost."""

    def __init__(self, transport: Transport, device: Device) -> None:
        self.is_lost = False
        self.ears: set[Ear] = set()
        self.awaited: dict[str, set[asyncio.Event]] = {}
        """Set when the peripheral with this address was heard, or the radio is lost."""
        self._transport = transport
        self._device = device
        self._scans: bool | None = None
        self._is_tuned = True
        """Whether it does what `_scans` says: not after `tune` was cancelled."""
        self._used: WeakSet[Connection] = WeakSet()
        """Connections that somebody has a link for."""
        self._address_types: OrderedDict[str, hci.AddressType] = OrderedDict()
        device.host.remove_listener("advertising_report", device.on_advertising_report)
        device.host.on("advertising_report", self._on_report)
        transport.source.terminated.add_done_callback(self._on_lost)

    @classmethod
    async def open(cls, address: str) -> "OpenRadio":
        """Open a radio.

        Raises:
            AdapterMissingError: there is none.
        """
        hush()
        transport: Transport | None = None
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                transport = await open_tcp_client_transport(address)
                device = make_device(transport.source, transport.sink, "edge-gateway")
                await attentive(device.power_on())
        except BaseException as exc:
            if transport is not None:
                await transport.close()
            if isinstance(exc, (OSError, ValueError, TimeoutError, BaseBumbleError)):
                raise AdapterMissingError(f"virtual radio at {address}: {exc!r}") from exc
            raise
        return cls(transport, device)

    def expect(self, address: str) -> asyncio.Event:
        """Return what is set whenever a peripheral is heard that takes connections."""
        advertised = asyncio.Event()
        self.awaited.setdefault(address, set()).add(advertised)
        return advertised

    def expect_no_more(self, address: str, advertised: asyncio.Event) -> None:
        """Forget what `expect` returned; idempotent."""
        waiting = self.awaited.get(address, set())
        waiting.discard(advertised)
        if not waiting:
            self.awaited.pop(address, None)

    def check(self) -> None:
        """Raise if the radio is lost.

        Raises:
            AdapterMissingError: it is.
        """
        if self.is_lost:
            raise AdapterMissingError("the virtual radio was lost")

    def close(self) -> None:
        """Close the connection, and with it all links."""
        sink = self._transport.sink
        if hasattr(sink, "close"):
            sink.close()

    async def tune(self, is_active: bool | None) -> None:  # noqa: FBT001 None: no scan at all
        """Scan, actively or not, or stop.

        Raises:
            AdapterMissingError: the radio is lost.
        """
        if self.is_lost or (self._is_tuned and is_active == self._scans):
            return
        is_scanning = self._scans is not None or not self._is_tuned
        self._is_tuned = False
        try:
            if is_scanning:
                await attentive(self._device.stop_scanning())
            if is_active is not None:
                start = self._device.start_scanning(
                    active=is_active, own_address_type=hci.OwnAddressType.PUBLIC
                )
                await attentive(start)
        except BaseBumbleError as exc:
            raise AdapterMissingError(f"the virtual radio fails: {exc!r}") from exc
        self._scans = is_active
        self._is_tuned = True

    async def initiate(self, address: str) -> Connection | None:
        """Connect to a peripheral that was just heard; None if it was not heard again.

        Raises:
            AdapterMissingError: the radio is lost.
        """
        kind = self._address_types.get(address, hci.Address.PUBLIC_DEVICE_ADDRESS)
        before = cancellations()
        try:
            async with asyncio.timeout(_INITIATE_TIMEOUT_S):
                connect = self._device.connect_le(
                    hci.Address(address, kind),
                    own_address_type=hci.OwnAddressType.PUBLIC,
                    timeout=None,
                )
                connection = await attentive(connect)
        except (TimeoutError, BaseBumbleError, asyncio.CancelledError):
            await self._call_off()
            if cancellations() > before:
                raise asyncio.CancelledError from None
            self.check()
            return None
        self._used.add(connection)
        return connection

    async def _call_off(self) -> None:
        """Stop connecting; a link that was made at this very moment is ended."""
        if self.is_lost:
            return
        ended = asyncio.Event()

        def on_end(_outcome: object) -> None:
            ended.set()

        self._device.connect_own_address_type = hci.OwnAddressType.PUBLIC
        self._device.on(Device.EVENT_CONNECTION, on_end)
        self._device.on(Device.EVENT_CONNECTION_FAILURE, on_end)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                with contextlib.suppress(hci.HCI_Error):  # nothing to cancel: it is connected
                    cancel = hci.HCI_LE_Create_Connection_Cancel_Command()
                    await self._device.send_sync_command(cancel)
                    await ended.wait()
                for connection in set(self._device.connections.values()) - set(self._used):
                    await connection.disconnect()
        except (TimeoutError, BaseBumbleError):
            pass  # the radio is lost, or the link is down already
        finally:
            self._device.remove_listener(Device.EVENT_CONNECTION, on_end)
            self._device.remove_listener(Device.EVENT_CONNECTION_FAILURE, on_end)

    def _on_report(self, report: hci.HCI_LE_Advertising_Report_Event.Report) -> None:
        address = report.address.to_string(with_type_qualifier=False)
        kinds = hci.HCI_LE_Advertising_Report_Event.EventType
        self._address_types[address] = hci.AddressType(report.address.address_type)
        self._address_types.move_to_end(address)
        while len(self._address_types) > _KNOWN_ADDRESSES:
            self._address_types.popitem(last=False)
        heard = Heard(address, report.data, report.rssi, report.event_type == kinds.SCAN_RSP)
        for ear in tuple(self.ears):
            ear(heard)
        if report.event_type == kinds.ADV_IND:
            for advertised in self.awaited.get(address, ()):
                advertised.set()

    def _on_lost(self, _terminated: asyncio.Future[None]) -> None:
        self.is_lost = True
        for events in self.awaited.values():
            for advertised in events:
                advertised.set()
