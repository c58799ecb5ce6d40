"""The gateway's side of a virtual radio: an adapter at the other end of a TCP connection.

One connection serves the scan and all links; it is opened when something is wanted of the radio,
and closed when nothing is any more.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from weakref import WeakSet

from bumble import att, hci
from bumble.core import BaseBumbleError
from bumble.device import Connection, Device
from bumble.gatt_client import CharacteristicProxy, ServiceProxy
from bumble.transport.common import Transport
from bumble.transport.tcp_client import open_tcp_client_transport

from gateway.errors import LinkError
from gateway.simulate.radio.host import make_device
from gateway.simulate.radio.server import hush

_T = TypeVar("_T")

_OPEN_TIMEOUT_S = 5.0
"""For a TCP connection on this machine, and a chip to be set up."""

_CLOSE_TIMEOUT_S = 2.0

_INITIATE_TIMEOUT_S = 3.0
"""A peripheral that was heard is heard again within this, or another one gets its turn."""

_KNOWN_ADDRESSES = 4096
"""Addresses whose type is remembered."""

_WRITES_AT_ONCE = 8
"""Writes without response, before a writer waits until the chip has sent them."""


class AdapterMissingError(LinkError):
    """There is no such radio, or it went away."""


class LinkDownError(LinkError):
    """The link to a peripheral is down."""


class RefusedError(LinkError):
    """The peripheral answered with an error of ATT."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ATT error 0x{code:02X}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Heard:
    """One report of the scan."""

    address: str
    data: bytes
    """AD structures."""
    rssi_dbm: int
    is_scan_response: bool


Ear: TypeAlias = Callable[[Heard], None]


class Adapter:
    """A radio, shared by whoever scans and connects in this process."""

    def __init__(self, address: str) -> None:
        """`address` is `VirtualRadio.hci_address`."""
        self._address = address
        self._session: _Session | None = None
        self._users = 0
        self._ears: dict[Ear, bool] = {}
        """Who scans, and whether actively."""
        self._opening = asyncio.Lock()
        self._tuning = asyncio.Lock()
        self._initiating = asyncio.Lock()

    async def scan(self, ear: Ear, *, is_active: bool) -> None:
        """Report adverts to `ear` until `stop`; silence is all that tells of a radio that is lost.

        Raises:
            AdapterMissingError: there is no radio.
        """
        session = await self._use()
        self._ears[ear] = is_active
        session.ears.add(ear)
        try:
            await self._tune(session)
        except BaseException:
            await self.stop(ear)
            raise

    async def stop(self, ear: Ear) -> None:
        """End a scan; nothing if it is not scanning."""
        if self._ears.pop(ear, None) is None:
            return
        session = self._session
        if session is not None:
            session.ears.discard(ear)
            await self._calmly(self._tune(session))
        self._release()

    async def connect(self, address: str) -> "GattLink":
        """Wait until a peripheral is heard, and connect to it; the caller limits the time.

        One that is not heard delays no other: the radio is asked to connect only to one that is.

        Raises:
            AdapterMissingError: there is no radio, or it is lost.
        """
        session = await self._use()
        link: GattLink | None = None
        advertised = session.expect(address)
        try:
            await self._tune(session)
            while link is None:
                advertised.clear()
                session.check()
                await advertised.wait()
                session.check()
                async with self._initiating:
                    connection = await session.initiate(address)
                if connection is not None:
                    link = GattLink(connection, self._release)
            session.expect_no_more(address, advertised)
            await self._calmly(self._tune(session))
        except BaseException:  # given up, perhaps just when the link was made
            session.expect_no_more(address, advertised)
            if link is not None:
                await link.disconnect()
            await self._calmly(self._tune(session))
            if link is None:
                self._release()
            raise
        return link

    async def _use(self) -> "_Session":
        """Return the radio, opened; `_release` it once for each use."""
        async with self._opening:
            if self._session is not None and self._session.is_lost:
                self._session.close()
                self._session = None
            if self._session is None:
                self._session = await _Session.open(self._address)
            self._users += 1
            return self._session

    def _release(self) -> None:
        self._users -= 1
        if self._users == 0 and self._session is not None:
            self._session.close()
            self._session = None

    async def _tune(self, session: "_Session") -> None:
        """Scan as is wanted by now."""
        async with self._tuning:
            wanted: bool | None = None
            if session.ears or session.awaited:
                wanted = any(self._ears.get(ear, False) for ear in session.ears)
            await session.tune(wanted)

    async def _calmly(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Tidy up; a radio that is lost needs it no more."""
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await coroutine


class _Session:
    """An open radio."""

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
    async def open(cls, address: str) -> "_Session":
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
                await _attentive(device.power_on())
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
                await _attentive(self._device.stop_scanning())
            if is_active is not None:
                start = self._device.start_scanning(
                    active=is_active, own_address_type=hci.OwnAddressType.PUBLIC
                )
                await _attentive(start)
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
        before = _cancellations()
        try:
            async with asyncio.timeout(_INITIATE_TIMEOUT_S):
                connect = self._device.connect_le(
                    hci.Address(address, kind),
                    own_address_type=hci.OwnAddressType.PUBLIC,
                    timeout=None,
                )
                connection = await _attentive(connect)
        except (TimeoutError, BaseBumbleError, asyncio.CancelledError):
            await self._call_off()
            if _cancellations() > before:
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
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
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


class GattLink:
    """A link to one peripheral, and what it offers."""

    def __init__(self, connection: Connection, release: Callable[[], None]) -> None:
        """`release` is called once, when the link is down."""
        self.is_up = connection.device.connections.get(connection.handle) is connection
        self.on_down: Callable[[], None] | None = None
        self._connection = connection
        self._writes = 0
        self._client = connection.gatt_client
        self._release = release
        if self.is_up:
            connection.once(Connection.EVENT_DISCONNECTION, self._on_down)
        else:
            release()

    @property
    def mtu(self) -> int:
        """Bytes of an ATT packet, as negotiated."""
        return int(self._connection.att_mtu)

    async def exchange_mtu(self, mtu: int) -> None:
        """Negotiate the MTU; a peripheral without that leaves it as it is.

        Raises:
            LinkDownError: the link is down.
        """
        with contextlib.suppress(RefusedError):
            await self._ask(self._client.request_mtu(mtu))

    async def discover(self) -> list[ServiceProxy]:
        """Return all services, with their characteristics and descriptors.

        Raises:
            LinkDownError: the link is down.
            RefusedError: the peripheral does not tell.
        """
        services: list[ServiceProxy] = await self._ask(self._client.discover_services())
        for service in services:
            for characteristic in await self._ask(service.discover_characteristics()):
                await self._ask(characteristic.discover_descriptors())
        return services

    async def read(self, handle: int) -> bytes:
        """Read a value.

        Raises:
            LinkDownError: the link is down.
            RefusedError: by the peripheral.
        """
        return bytes(await self._ask(self._client.read_value(handle)))

    async def write(self, handle: int, value: bytes, *, with_response: bool) -> None:
        """Write a value; without response it waits while the radio is busy.

        Raises:
            LinkDownError: the link is down.
            RefusedError: by the peripheral.
        """
        await self._ask(self._client.write_value(handle, value, with_response))
        self._writes = 0 if with_response else self._writes + 1
        queue = self._connection.device.host.get_data_packet_queue(self._connection.handle)
        if self._writes >= _WRITES_AT_ONCE and queue is not None:
            self._writes = 0
            with contextlib.suppress(ValueError):  # nothing of this link was sent yet
                await queue.drain(self._connection.handle)

    async def subscribe(
        self, characteristic: CharacteristicProxy[bytes], listener: Callable[[bytes], None]
    ) -> None:
        """Hand notifications to `listener`.

        Raises:
            LinkDownError: the link is down.
            RefusedError: by the peripheral.
        """
        await self._ask(characteristic.subscribe(listener))

    async def unsubscribe(self, characteristic: CharacteristicProxy[bytes]) -> None:
        """Want no more notifications.

        Raises:
            LinkDownError: the link is down.
            RefusedError: by the peripheral.
        """
        await self._ask(characteristic.unsubscribe())

    async def pair(self) -> None:
        """Pair, and encrypt the link.

        Raises:
            LinkDownError: the link is down, or the peripheral will not.
        """
        await self._ask(self._connection.pair())

    async def disconnect(self) -> None:
        """End the link; it is down afterwards whatever happens."""
        try:
            if self.is_up:
                with contextlib.suppress(LinkError, TimeoutError):
                    async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                        await self._ask(self._connection.disconnect())
        finally:
            self._on_down(0)

    def _on_down(self, _reason: int) -> None:
        if self.is_up:
            self.is_up = False
            self._release()
            if self.on_down is not None:
                self.on_down()

    async def _ask(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Wait for an answer over the link.

        Bumble cancels who waits when the link goes down.
        """
        if not self.is_up:
            coroutine.close()
            raise LinkDownError("the link is down")
        before = _cancellations()
        try:
            return await _attentive(coroutine)
        except att.ATT_Error as exc:
            raise RefusedError(exc.error_code or 0) from exc
        except asyncio.CancelledError as exc:
            if _cancellations() > before:
                raise
            raise LinkDownError("the link went down") from exc
        except (BaseBumbleError, TimeoutError) as exc:
            raise LinkDownError(f"the link fails: {exc!r}") from exc


async def _attentive(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Wait for something of bumble's, and be cancelled if that is asked for meanwhile.

    Bumble waits by asyncio.wait_for, which in Python 3.11 forgets that it was cancelled when the
    answer comes in the same turn.
    """
    before = _cancellations()
    answer = await coroutine
    if _cancellations() > before:
        raise asyncio.CancelledError
    return answer


def _cancellations() -> int:
    """Return how often this task was asked to end, by timeouts around it, too."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
