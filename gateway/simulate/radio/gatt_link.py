"""A link to one peripheral of the virtual radio."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bumble import att
from bumble.core import BaseBumbleError
from bumble.device import Connection
from bumble.gatt_client import CharacteristicProxy, ServiceProxy

from gateway.errors import LinkError
from gateway.simulate.radio.attention import attentive, cancellations
from gateway.simulate.radio.link_errors import LinkDownError, RefusedError
from gateway.simulate.radio.open_radio import CLOSE_TIMEOUT_S

_T = TypeVar("_T")

_WRITES_AT_ONCE = 8
"""Writes without response, before a writer waits until the chip has sent them."""


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
                    async with asyncio.timeout(CLOSE_TIMEOUT_S):
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
        before = cancellations()
        try:
            return await attentive(coroutine)
        except att.ATT_Error as exc:
            raise RefusedError(exc.error_code or 0) from exc
        except asyncio.CancelledError as exc:
            if cancellations() > before:
                raise
            raise LinkDownError("the link went down") from exc
        except (BaseBumbleError, TimeoutError) as exc:
            raise LinkDownError(f"the link fails: {exc!r}") from exc
