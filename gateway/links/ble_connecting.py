"""A connection to one board, made and ended; the only importer of bleak-retry-connector."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from bleak import BleakClient
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak_retry_connector import establish_connection

from gateway.errors import LinkError
from gateway.links.ble_failures import FAILURES, end, finish, first_words_of, words_of
from gateway.links.ble_gatt import GattOptions
from gateway.links.ble_turns import Turn, Turns
from gateway.log_fields import on_link

_log = logging.getLogger(__name__)

ATTEMPTS: Final = 2
"""Tries in one go; between those go on other errors than the transient ones of bleak's, and between
goes there is the pause of `keep_running`."""


class Connector:
    """Connects to a board within bounds, whatever bleak, BlueZ and the board do about it."""

    def __init__(
        self,
        address: str,
        turns: Turns,
        options: GattOptions,
        on_disconnected: Callable[[], None],
        client_type: type[BaseBleakClient] | None,
    ) -> None:
        """`client_type` is used instead of bleak's own for the platform."""
        self._address = address
        self._turns = turns
        self._options = options
        self._on_disconnected = on_disconnected
        self._client_type = client_type

    async def connect(self, device: BLEDevice, turn: Turn, *, is_brief: bool) -> BleakClient:
        """Connect; `is_brief`: to a board that soon sleeps again.

        Raises:
            LinkError: it does not connect, or its turn is over before it has.
        """
        # In a task of its own: one that is cancelled in there may raise something else, or go on.
        connecting: asyncio.Task[BleakClient | LinkError] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                trying = self._try_to_connect(device, turn, is_brief=is_brief)
                connecting = tasks.create_task(trying, name="connect")
                try:
                    await asyncio.wait([connecting])
                finally:
                    await end(connecting)
        except asyncio.CancelledError:
            if connecting is not None and connecting.done() and not connecting.cancelled():
                late = connecting.result()
                if isinstance(late, BleakClient):
                    await self.disconnect(late)
            raise
        outcome = connecting.result()
        if isinstance(outcome, LinkError):
            raise outcome
        return outcome

    async def disconnect(self, client: BleakClient) -> None:
        """End a connection; one that does not end is left behind."""

        async def disconnect() -> None:
            try:
                await client.disconnect()
            except FAILURES as exc:
                _log.debug("%s: does not disconnect: %s", on_link(self._address), words_of(exc))

        await finish(disconnect(), "disconnect", self._options.close_s)

    async def _try_to_connect(
        self, device: BLEDevice, turn: Turn, *, is_brief: bool
    ) -> BleakClient | LinkError:
        options, more = self._options, dict[str, Any]()
        connect_s = options.brief_connect_s if is_brief else options.connect_s
        if self._client_type is not None:
            more["backend"] = self._client_type
        try:
            async with asyncio.timeout(connect_s) as limit:
                turn.on_over = partial(_end_now, limit)
                self._turns.begin(turn, min(connect_s, options.crowded_connect_s))
                if turn.over.is_set():  # before it had begun
                    _end_now(limit)
                return await establish_connection(
                    BleakClient,
                    device,
                    self._address,
                    lambda _client: self._on_disconnected(),
                    max_attempts=ATTEMPTS,
                    use_services_cache=False,  # a board that was flashed may have others
                    **more,
                )
        except FAILURES as exc:
            return LinkError(f"does not connect ({first_words_of(exc)})")
        finally:
            turn.on_over = lambda: None


def _end_now(limit: asyncio.Timeout) -> None:
    if not limit.expired():  # else it has, and whoever is cancelled takes a while to end
        limit.reschedule(asyncio.get_running_loop().time())
