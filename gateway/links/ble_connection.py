"""GATT sessions with boards of ours.

A session is a line like a serial one: fragments are joined to the frames' lines the driver knows,
and what the driver says is cut into fragments. So driver and conversation are those of a port.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice

from gateway.clock import Clock
from gateway.drivers.base import StreamDriver
from gateway.errors import LinkError
from gateway.links.asked import Asked
from gateway.links.ble_backend import RadioBackend
from gateway.links.ble_connecting import Connector
from gateway.links.ble_gatt import Board, GattOptions, Writer
from gateway.links.ble_turns import Guest, Turn, Turns
from gateway.links.conversation import Conversation
from gateway.links.serial_port import Sink
from gateway.log_fields import on_link
from gateway.model import Event, Fault, Gone, Readings, Sample, Seen
from gateway.progress import Progress, Stage
from gateway.protocol.fragments import Joiner
from gateway.protocol.frames import encode_frame
from gateway.protocol.messages import HelloRequest, encode
from gateway.status import LinkStatus, RadioStatus

_log = logging.getLogger(__name__)

_WHO_ARE_YOU: Final = encode_frame(encode(HelloRequest()))
"""Said first: a board that believes its last session to go on would say nothing before its PING."""

MISSED_S: Final = 10.0
MISSED_CAP_S: Final = 600.0
"""First and longest pause between two tries to hear a board again."""

_BYE: Final = "bye"
"""The reason of a `Gone` of a board that goes to sleep."""


class _AtEaseError(Exception):
    """The session ends, and nothing is wrong: others wait for the slot, or the board said BYE."""


class BleLink(Asked):
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
        has_joined: bool = False,
        on_joined: Callable[[str], None] = lambda _device: None,
        on_missed: Callable[[], None] = lambda: None,
        stage: Stage | None = None,
    ) -> None:
        """`has_joined`: it did in an earlier run. `on_joined` is told which device is there.

        `on_missed` is called while it is not heard, at first and then less and less often. `stage`
        is told of each step of a session; to wait to be heard, or for a slot, is none.
        """
        self._address = address
        self._options = options or GattOptions()
        self._make_driver = make_driver
        self._sink = sink
        self._status = status
        self._clock = clock
        self._turns = turns
        self._radio = radio
        client_type = None if backend is None else backend.client
        self._connector = Connector(
            address, turns, self._options, self._note_disconnected, client_type
        )
        self._stage = stage or Progress().stage(address)
        self._on_joined = on_joined
        self._on_missed = on_missed
        self._progress: Callable[[], None] = lambda: None
        self._turn: Turn | None = None
        self._device: BLEDevice | None = None
        self._is_brief = False
        """Whether it sleeps, and is there for moments only."""
        self._heard = asyncio.Event()
        self._has_spoken = asyncio.Event()
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
        self.has_joined = has_joined
        """Whether a device was ever there; until then it is a stranger."""

    def heard(self, device: BLEDevice, heard_s: float, *, is_brief: bool | None = None) -> None:
        """Note that the board can be connected to.

        `is_brief`: whether for moments only, as it sleeps; None if that advert does not say.
        """
        self._device, self.heard_s = device, heard_s
        if is_brief is not None:
            self._is_brief = is_brief
        self._heard.set()

    async def run(self, progress: Callable[[], None]) -> NoReturn:
        """Connect to the board whenever it is heard, and serve its driver.

        `progress` is called when a sample came, or a connection lasted: who joins and is gone
        again, over and over, makes none.

        Raises:
            LinkError: it does not connect, disconnected or fell silent.
        """
        self._progress = progress
        state = "closed"
        try:
            while True:
                await self._until_heard()
                self.is_busy = True
                async with self._turns.take(self._guest()) as turn:
                    if self._device is not None and self._is_fresh():  # it may have gone meanwhile
                        self._status.state = "opening"
                        await self._session(self._device, turn)
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

    def _guest(self) -> Guest:
        if not self.has_joined:
            return Guest.STRANGER
        return Guest.BRIEF if self._is_brief else Guest.SETTLED

    def _is_fresh(self) -> bool:
        """Whether it was heard lately, and since it was found out that it is not there."""
        fresh_s = self._options.moment_s if self._is_brief else self._options.fresh_s
        is_late = self._clock.monotonic_s() - self.heard_s < fresh_s
        return is_late and self.heard_s > self._missed_s

    async def _until_heard(self) -> None:
        rests_until_s = self._clock.monotonic_s() + self._options.rest_s
        pause_s = MISSED_S
        while self._device is None or not self._is_fresh():
            if self._device is not None:
                self._on_missed()
            wait_s = pause_s
            if self._resting:
                wait_s = min(pause_s, rests_until_s - self._clock.monotonic_s())
            self._heard.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._heard.wait()
            except TimeoutError:
                pause_s = min(2 * pause_s, MISSED_CAP_S)
            if self._clock.monotonic_s() >= rests_until_s:
                self._wake()

    async def _session(self, device: BLEDevice, turn: Turn) -> None:
        self._is_near = self._has_left = False
        self._stage.works_long("connecting", 2 * self._options.connect_s)
        try:
            client = await self._connector.connect(device, turn, is_brief=self._is_brief)
        except LinkError:
            self._missed_s = self._clock.monotonic_s()
            self._stage.idles()
            raise
        self._radio.connected += 1
        try:
            self._status.opens += 1
            self._status.state = "open"
            await self._serve(client, turn)
        except _AtEaseError as exc:
            _log.debug("%s: %s", on_link(self._address), exc)
        finally:
            self._radio.connected -= 1
            now_s = self._clock.monotonic_s()
            if self._has_left:
                self._missed_s = now_s + self._options.bye_s
            elif self._is_near and self._has_spoken.is_set() and not self._is_brief:
                self.heard_s = now_s
            else:
                self._missed_s = now_s
            self._stage.works("disconnecting")
            await self._connector.disconnect(client)
            self._stage.idles()

    async def _serve(self, client: BleakClient, turn: Turn) -> None:
        board = Board(client, self._options)
        writer = Writer(board)
        conversation = Conversation(
            self._make_driver(),
            self._status,
            self._clock,
            settle_s=0.0,
            silence_s=self._options.silence_s,
            write_now=lambda _output: 0,
            sink=self._pass_on,
            progress=lambda: None,
            driver_failed=self._driver_failed,
            let_go=lambda: None,
        )
        take = partial(self._take, Joiner(), conversation)
        self._is_turn_over = False
        self._has_spoken.clear()
        self._conversation, self._turn = conversation, turn
        try:
            if self._is_paused:
                conversation.hold(paused=True)
            conversation.connection_made(writer)
            await board.subscribe(self._address, take)
            writer.write(_WHO_ARE_YOU)
            async with asyncio.TaskGroup() as tasks:
                watches = (
                    tasks.create_task(writer.run(conversation), name="write"),
                    tasks.create_task(self._watch_turn(turn, conversation), name="turn"),
                    tasks.create_task(self._watch_progress(), name="progress"),
                )
                ended = conversation.ended
                await self._stage.attend(
                    lambda within_s: asyncio.wait([ended], timeout=within_s), ended.done
                )
                for watch in watches:
                    watch.cancel()
            raise ended.result()
        finally:
            self._conversation = self._turn = None
            conversation.stop()

    async def _watch_turn(self, turn: Turn, conversation: Conversation) -> None:
        """End the conversation when others want the slot: not before the board had its say."""
        if not self._has_spoken.is_set():
            self._turns.begin(turn, self._options.say_s)
        await turn.over.wait()
        if not self._has_spoken.is_set():
            conversation.fail(LinkError("did not say who it is"))
            return
        self._is_turn_over = self._is_near = True
        conversation.fail(_AtEaseError("gives its slot to others"))

    async def _watch_progress(self) -> None:
        await self._has_spoken.wait()
        await asyncio.sleep(self._options.lasting_s)
        self._is_brief = False  # until it says so again
        self._progress()

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
            self._note_device(events)
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

    def _note_device(self, events: list[Event]) -> None:
        """Note that a device is there, and what of it is progress."""
        self.has_joined = True
        self._resting.clear()
        for event in events:
            if isinstance(event, Seen):
                self._on_joined(event.description.device)
            elif isinstance(event, Readings) and any(
                isinstance(record, Sample) for record in event.records
            ):
                self._progress()
        if not self._has_spoken.is_set():
            self._has_spoken.set()
            if self._turn is not None:
                self._turns.welcome(self._turn, self._guest())

    def _wake(self) -> None:
        """Say of devices that were resting that they are gone."""
        gone, self._resting = self._resting, []
        if gone:
            self._sink(self._status.name, gone)

    def _note_disconnected(self) -> None:
        if self._conversation is not None:
            self._is_near = True
            self._conversation.fail(LinkError("disconnected"))

    def _driver_failed(self, error: Exception) -> Fault:
        if not self._told_driver_error:
            self._told_driver_error = True
            _log.error("%s: the driver failed on its input", on_link(self._address), exc_info=error)
        return Fault("driver_error", repr(error)[:200])
