"""GATT sessions with boards of ours; with ble_scanner the only importer of bleak.

A session is a line like a serial one: fragments are joined to the frames' lines the driver knows,
and what the driver says is cut into fragments. So driver and conversation are those of a port.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.exc import BleakDBusError, BleakError, BleakGATTProtocolError
from bleak.exc import BleakGATTProtocolErrorCode as Code
from bleak_retry_connector import establish_connection

from gateway.clock import Clock
from gateway.drivers.base import StreamDriver
from gateway.errors import LinkError
from gateway.links.ble_scanner import FAILURES, RadioBackend, words_of
from gateway.links.ble_turns import Turn, Turns
from gateway.links.conversation import Conversation
from gateway.links.serial_port import Sink
from gateway.model import Event, Fault, Gone, Readings, Seen
from gateway.protocol.fragments import LEAST_MTU, Joiner, cut
from gateway.protocol.frames import encode_frame
from gateway.protocol.messages import HelloRequest, encode
from gateway.status import LinkStatus, RadioStatus

_log = logging.getLogger(__name__)

SERVICE: Final = "0e9a0001-5c1d-4c0e-9c6b-2f6a7b1d0e01"
"""What boards with our firmware advertise, and serve."""
_SPEAKS: Final = "0e9a0002-5c1d-4c0e-9c6b-2f6a7b1d0e01"
"""The board notifies on it."""
_HEARS: Final = "0e9a0003-5c1d-4c0e-9c6b-2f6a7b1d0e01"
"""The gateway writes to it, without response."""

ATTEMPTS: Final = 2
"""Tries in one go; between those go on other errors than the transient ones of bleak's, and between
goes there is the pause of `keep_running`."""

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


_WHO_ARE_YOU: Final = encode_frame(encode(HelloRequest()))
"""Said first: a board that believes its last session to go on would say nothing before its PING."""

_BYE: Final = "bye"
"""The reason of a `Gone` of a board that goes to sleep."""


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
    """A board's turn begins when it joins, or after so long."""
    close_s: float = 5.0
    crowded_connect_s: float = 20.0
    """To connect while others wait for the slot."""
    fresh_s: float = 30.0
    """A board that was heard within this time is there. An active scan of BlueZ tells of a board
    that advertises the same all the time every 10 to 15 s."""
    bye_s: float = 1.0
    """A board that said good-bye is left alone for so long, whatever it advertises."""
    rest_s: float = 60.0
    """A board that gave up its slot to others is gone if it is not heard for so long."""


class _AtEaseError(Exception):
    """The session ends, and nothing is wrong: others wait for the slot, or the board said BYE."""


class BleLink:
    """One board, with a driver on it, a new one for each connection.

    It is connected to when it is heard, because BlueZ can connect only to what it has heard, and
    because trying to reach a board that sleeps or is away would take a slot for nothing.
    """

    def __init__(  # noqa: PLR0913  # the composition root has them all
        self,
        address: str,
        make_driver: Callable[[], StreamDriver],
        sink: Sink,
        status: LinkStatus,
        clock: Clock,
        *,
        turns: Turns,
        radio: RadioStatus,
        options: GattOptions | None = None,
        backend: RadioBackend | None = None,
    ) -> None:
        self._address = address
        self._options = options or GattOptions()
        self._make_driver = make_driver
        self._sink = sink
        self._status = status
        self._clock = clock
        self._turns = turns
        self._radio = radio
        self._client_type = None if backend is None else backend.client
        self._device: BLEDevice | None = None
        self._heard = asyncio.Event()
        self._has_spoken = asyncio.Event()
        self._is_paused = False
        self._conversation: Conversation | None = None
        self._resting: list[Event] = []
        """Devices that went with a turn: they are back with the next one, or gone."""
        self._is_turn_over = False
        self._is_near = False
        """Whether the session ended as one does with a board that is there."""
        self._has_left = False
        """Whether the board said good-bye."""
        self._missed_s = float("-inf")
        """When it did not connect, fell silent or said good-bye: what was heard before is void."""
        self._told_driver_error = False
        self.heard_s = clock.monotonic_s()
        """When it was heard last."""
        self.is_busy = False
        """Whether it is connected, or about to be."""
        self.has_joined = False
        """Whether a device was ever there."""

    def heard(self, device: BLEDevice, heard_s: float) -> None:
        """Note that the board can be connected to."""
        self._device, self.heard_s = device, heard_s
        self._heard.set()

    def hold(self, *, paused: bool) -> None:
        """Ask the board to keep its samples for now, or to go on; holds for later sessions too."""
        self._is_paused = paused
        if self._conversation is not None:
            self._conversation.hold(paused=paused)

    async def run(self, progress: Callable[[], None]) -> NoReturn:
        """Connect to the board whenever it is heard, and serve its driver.

        Raises:
            LinkError: it does not connect, disconnected or fell silent.
        """
        state = "closed"
        try:
            while True:
                await self._until_heard()
                self.is_busy = True
                async with self._turns.take() as turn:
                    if self._device is not None and self._is_fresh():  # it may have gone meanwhile
                        self._status.state = "opening"
                        await self._session(self._device, turn, progress)
                self.is_busy = False
                self._status.state = "closed"
        except LinkError:
            state = "lost"
            self._wake()
            raise
        finally:
            self.is_busy = False
            self._status.state = state

    def forget(self) -> None:
        """Say which devices went with it; it is not used afterwards."""
        self._wake()

    def _is_fresh(self) -> bool:
        """Whether it was heard lately, and since it was found out that it is not there."""
        is_late = self._clock.monotonic_s() - self.heard_s < self._options.fresh_s
        return is_late and self.heard_s > self._missed_s

    async def _until_heard(self) -> None:
        while self._device is None or not self._is_fresh():
            self._heard.clear()
            try:
                async with asyncio.timeout(self._options.rest_s if self._resting else None):
                    await self._heard.wait()
            except TimeoutError:
                self._wake()

    async def _session(self, device: BLEDevice, turn: Turn, progress: Callable[[], None]) -> None:
        self._is_near = self._has_left = False
        client = await self._connect(device, turn)
        self._radio.connected += 1
        try:
            self._status.opens += 1
            self._status.state = "open"
            await self._serve(client, turn, progress)
        except _AtEaseError as exc:
            _log.debug("%s: %s", self._address, exc)
        finally:
            self._radio.connected -= 1
            now_s = self._clock.monotonic_s()
            if self._has_left:
                self._missed_s = now_s + self._options.bye_s
            elif self._is_near and self._has_spoken.is_set():
                self.heard_s = now_s
            else:
                self._missed_s = now_s
            await self._disconnect(client)

    async def _connect(self, device: BLEDevice, turn: Turn) -> BleakClient:
        # In a task of its own: one that is cancelled in there may raise something else, or go on.
        connecting: asyncio.Task[BleakClient | LinkError] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                connecting = tasks.create_task(self._try_to_connect(device, turn), name="connect")
        except asyncio.CancelledError:
            if connecting is not None and connecting.done() and not connecting.cancelled():
                late = connecting.result()
                if isinstance(late, BleakClient):
                    await self._disconnect(late)
            raise
        outcome = connecting.result()
        if isinstance(outcome, LinkError):
            raise outcome
        return outcome

    async def _try_to_connect(self, device: BLEDevice, turn: Turn) -> BleakClient | LinkError:
        more: dict[str, Any] = {}
        if self._client_type is not None:
            more["backend"] = self._client_type
        try:
            async with asyncio.timeout(self._options.connect_s) as limit:
                turn.on_over = partial(_end_now, limit)
                self._turns.begin(turn, self._options.crowded_connect_s)
                return await establish_connection(
                    BleakClient,
                    device,
                    self._address,
                    self._note_disconnected,
                    max_attempts=ATTEMPTS,
                    use_services_cache=False,  # a board that was flashed may have others
                    **more,
                )
        except FAILURES as exc:
            self._missed_s = self._clock.monotonic_s()
            return LinkError(f"does not connect ({_words(exc)})")
        finally:
            turn.on_over = lambda: None

    async def _serve(self, client: BleakClient, turn: Turn, progress: Callable[[], None]) -> None:
        speaks, hears = _characteristics(client)
        writer = _Writer(client, hears, self._options.request_s)
        conversation = Conversation(
            self._make_driver(),
            self._status,
            self._clock,
            settle_s=0.0,
            silence_s=self._options.silence_s,
            write_now=lambda _output: 0,
            sink=self._pass_on,
            progress=progress,
            driver_failed=self._driver_failed,
            let_go=lambda: None,
        )
        joiner = Joiner()
        take = partial(self._take, joiner, conversation)
        self._is_turn_over = False
        self._has_spoken.clear()
        self._conversation = conversation
        try:
            if self._is_paused:
                conversation.hold(paused=True)
            conversation.connection_made(writer)
            await self._subscribe(client, speaks, take)
            writer.write(_WHO_ARE_YOU)
            async with asyncio.TaskGroup() as tasks:
                watches = (
                    tasks.create_task(writer.run(conversation), name="write"),
                    tasks.create_task(self._watch_turn(turn, conversation), name="turn"),
                )
                ended = await conversation.ended
                for watch in watches:
                    watch.cancel()
            raise ended
        finally:
            self._conversation = None
            conversation.stop()

    async def _subscribe(
        self,
        client: BleakClient,
        speaks: BleakGATTCharacteristic,
        take: Callable[[BleakGATTCharacteristic, bytearray], None],
    ) -> None:
        """Have the board speak; pair with it if it will not otherwise."""
        try:
            try:
                async with asyncio.timeout(self._options.request_s):
                    await client.start_notify(speaks, take)
            except (BleakGATTProtocolError, BleakDBusError) as exc:
                if not _wants_pairing(exc):
                    raise
                _log.info("%s: the board wants to pair", self._address)
                async with asyncio.timeout(self._options.pair_s):
                    await client.pair()
                async with asyncio.timeout(self._options.request_s):
                    await client.start_notify(speaks, take)
        except FAILURES as exc:
            raise LinkError(f"lets nobody listen ({_words(exc)})") from exc

    async def _watch_turn(self, turn: Turn, conversation: Conversation) -> None:
        """End the conversation when others want the slot: not before the board had its say."""
        try:
            async with asyncio.timeout(self._options.say_s):
                await self._has_spoken.wait()
        except TimeoutError:  # it speaks, but says nothing of use
            pass
        self._turns.begin(turn)
        await turn.over.wait()
        self._is_turn_over = self._is_near = True
        conversation.fail(_AtEaseError("gives its slot to others"))

    def _take(
        self,
        joiner: Joiner,
        conversation: Conversation,
        _characteristic: BleakGATTCharacteristic,
        fragment: bytearray,
    ) -> None:
        dropped = joiner.dropped
        line = joiner.feed(bytes(fragment))
        if joiner.dropped != dropped:
            self._pass_on([Fault("frame_dropped", "a fragment is missing, or it is too large")])
        if line is not None:
            conversation.data_received(line)

    def _pass_on(self, events: list[Event]) -> None:
        if any(isinstance(event, Seen | Readings) for event in events):
            self.has_joined = True
            self._has_spoken.set()
            self._resting.clear()
        if self._is_turn_over:
            self._resting += [event for event in events if isinstance(event, Gone)]
            events = [event for event in events if not isinstance(event, Gone)]
        if events:
            self._sink(self._status.name, events)
        if self._conversation is not None and any(
            isinstance(event, Gone) and event.reason == _BYE for event in events
        ):
            self._has_left = True
            self._conversation.fail(_AtEaseError("said good-bye"))

    def _wake(self) -> None:
        """Say of devices that were resting that they are gone."""
        gone, self._resting = self._resting, []
        if gone:
            self._sink(self._status.name, gone)

    def _note_disconnected(self, _client: BleakClient) -> None:
        if self._conversation is not None:
            self._is_near = True
            self._conversation.fail(LinkError("disconnected"))

    async def _disconnect(self, client: BleakClient) -> None:
        async def disconnect() -> None:
            try:
                await client.disconnect()
            except FAILURES as exc:
                _log.debug("%s: does not disconnect: %s", self._address, words_of(exc))

        # Not asyncio.timeout(): on Python 3.11.2 it does not end what is being cancelled.
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(disconnect(), name="disconnect")
            await asyncio.wait([closing], timeout=self._options.close_s)
            closing.cancel()

    def _driver_failed(self, error: Exception) -> Fault:
        if not self._told_driver_error:
            self._told_driver_error = True
            _log.error("%s: the driver failed on its input", self._address, exc_info=error)
        return Fault("driver_error", repr(error)[:200])


class _Writer(asyncio.WriteTransport):
    """What the driver has to say, on its way to the board; `Conversation` bounds how much."""

    def __init__(
        self, client: BleakClient, hears: BleakGATTCharacteristic, request_s: float
    ) -> None:
        super().__init__()
        self._client = client
        self._hears = hears
        self._request_s = request_s
        self._waiting: deque[bytes] = deque()
        self._has_waiting = asyncio.Event()
        self._held = 0
        self._counter = 0
        self._with_response = "write-without-response" not in hears.properties

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
                size = max(self._hears.max_write_without_response_size, LEAST_MTU - 3)
                for fragment in cut(line, size - 1, self._counter):
                    self._counter += 1
                    try:
                        await self._send(fragment)
                    except FAILURES as exc:
                        conversation.fail(LinkError(f"takes nothing ({_words(exc)})"))
                        return
            self._held -= len(output)

    async def _send(self, fragment: bytes) -> None:
        async with asyncio.timeout(self._request_s):
            await self._client.write_gatt_char(self._hears, fragment, response=self._with_response)


def _end_now(limit: asyncio.Timeout) -> None:
    if not limit.expired():  # else it has, and whoever is cancelled takes a while to end
        limit.reschedule(asyncio.get_running_loop().time())


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


def _words(error: BaseException) -> str:
    """Return what was wrong first: bleak-retry-connector adds paragraphs of advice to it."""
    cause = error.__cause__ or error
    if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
        return "no answer"
    return words_of(cause)
