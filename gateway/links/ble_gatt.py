"""Our service at a board that is connected: find it, have the board speak, write to it."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.exc import BleakDBusError, BleakError, BleakGATTProtocolError
from bleak.exc import BleakGATTProtocolErrorCode as Code

from gateway.errors import LinkError
from gateway.links.ble_failures import FAILURES, first_words_of
from gateway.links.conversation import Conversation
from gateway.log_fields import on_link
from gateway.protocol.fragments import LEAST_MTU, cut

_log = logging.getLogger(__name__)

SERVICE: Final = "0e9a0001-5c1d-4c0e-9c6b-2f6a7b1d0e01"
"""What boards with our firmware advertise, and serve."""
_SPEAKS: Final = "0e9a0002-5c1d-4c0e-9c6b-2f6a7b1d0e01"
"""The board notifies on it."""
_HEARS: Final = "0e9a0003-5c1d-4c0e-9c6b-2f6a7b1d0e01"
"""The gateway writes to it, without response."""

_WANT_PAIRING: Final = frozenset(
    {
        Code.INSUFFICIENT_AUTHENTICATION,
        Code.INSUFFICIENT_AUTHORIZATION,
        Code.INSUFFICIENT_ENCRYPTION,
        Code.INSUFFICIENT_ENCRYPTION_KEY_SIZE,
    }
)
_NOT_PAIRED: Final = "org.bluez.Error.NotPermitted"
"""BlueZ's word for three of them."""

Take: TypeAlias = Callable[[BleakGATTCharacteristic, bytearray], None]
"""Takes what a board notifies."""


@dataclass(frozen=True, slots=True)
class GattOptions:
    """How long things may take; D-Bus and boards stall, so nothing is waited for without end."""

    connect_s: float = 45.0
    """To connect and to find the service, all attempts together."""
    request_s: float = 10.0
    """For one request, such as a write; BlueZ itself gives up after 30 s."""
    pair_s: float = 30.0
    silence_s: float = 15.0
    """A board says something every 5 s; one that says nothing for so long is connected anew."""
    say_s: float = 10.0
    """A board's turn begins when it joins; one that does not has so long while others wait."""
    lasting_s: float = 30.0
    """A connection that has lasted so long since the board joined is good, also without samples."""
    close_s: float = 5.0
    crowded_connect_s: float = 20.0
    """To connect while others wait for the slot."""
    brief_connect_s: float = 10.0
    """To connect to a board that sleeps: by then it may do so again."""
    fresh_s: float = 30.0
    """A board that was heard within this time is there. An active scan of BlueZ tells of a board
    that advertises the same all the time every 10 to 15 s."""
    moment_s: float = 5.0
    """The same of one that sleeps."""
    bye_s: float = 1.0
    """A board that said good-bye is left alone for so long, whatever it advertises."""
    rest_s: float = 60.0
    """A board that gave up its slot to others is gone if it is not heard for so long."""


class Board:
    """The service of one connected board."""

    def __init__(self, client: BleakClient, options: GattOptions) -> None:
        """Find it.

        Raises:
            LinkError: there is none, or the board has gone again.
        """
        self._client = client
        self._options = options
        self._speaks, self.hears = _characteristics(client)

    async def subscribe(self, address: str, take: Take) -> None:
        """Have the board speak; pair with it if it will not otherwise.

        Raises:
            LinkError: it lets nobody listen.
        """
        try:
            try:
                await self._start_notify(take)
            except (BleakGATTProtocolError, BleakDBusError) as exc:
                if not _wants_pairing(exc):
                    raise
                _log.info("%s: the board wants to pair", on_link(address))
                async with asyncio.timeout(self._options.pair_s):
                    await self._client.pair()
                await self._start_notify(take)
        except FAILURES as exc:
            raise LinkError(f"lets nobody listen ({first_words_of(exc)})") from exc

    async def write(self, fragment: bytes) -> None:
        """Write to it.

        Raises:
            FAILURES: bleak's.
        """
        is_answered = "write-without-response" not in self.hears.properties
        async with asyncio.timeout(self._options.request_s):
            await self._client.write_gatt_char(self.hears, fragment, response=is_answered)

    async def _start_notify(self, take: Take) -> None:
        async with asyncio.timeout(self._options.request_s):
            await self._client.start_notify(self._speaks, take)


class Writer(asyncio.WriteTransport):
    """What the driver has to say, on its way to the board; `Conversation` bounds how much."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board
        self._waiting: deque[bytes] = deque()
        self._has_waiting = asyncio.Event()
        self._held = 0
        self._counter = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take lines to send."""
        self._waiting.append(bytes(data))
        self._held += len(data)
        self._has_waiting.set()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the radio has not taken yet."""
        return self._held

    async def run(self, conversation: Conversation) -> None:
        """Send for ever; what fails ends the conversation."""
        while True:
            await self._has_waiting.wait()
            output = self._waiting.popleft()
            if not self._waiting:
                self._has_waiting.clear()
            for line in output.splitlines(keepends=True):
                # Asked for each time: the MTU may still grow after the services are known.
                size = max(self._board.hears.max_write_without_response_size, LEAST_MTU - 3)
                for fragment in cut(line, size - 1, self._counter):
                    self._counter += 1
                    try:
                        await self._board.write(fragment)
                    except FAILURES as exc:
                        conversation.fail(LinkError(f"takes nothing ({first_words_of(exc)})"))
                        return
            self._held -= len(output)


def _characteristics(
    client: BleakClient,
) -> tuple[BleakGATTCharacteristic, BleakGATTCharacteristic]:
    try:
        service = client.services.get_service(SERVICE)
        if service is not None:
            speaks, hears = service.get_characteristic(_SPEAKS), service.get_characteristic(_HEARS)
            if speaks is not None and hears is not None:
                return speaks, hears
    except BleakError as exc:  # it has gone again, or has each twice
        raise LinkError(f"has no such service ({exc})") from exc
    raise LinkError("has not the service of our firmware")


def _wants_pairing(error: BleakGATTProtocolError | BleakDBusError) -> bool:
    if isinstance(error, BleakGATTProtocolError):
        return error.code in _WANT_PAIRING
    return error.dbus_error == _NOT_PAIRED
