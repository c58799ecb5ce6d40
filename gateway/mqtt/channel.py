"""Messages under way on one connection."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway.clock import Clock
from gateway.mqtt.connection import Ack, Connection
from gateway.mqtt.window import Window
from gateway.status import Status

MAX_IN_FLIGHT_BYTES = 256 * 1024
"""Bounds what a slow uplink must carry before the newest PUBACK can come: 26 s at 10 kB/s."""


class Parcel(Protocol):
    """What can be sent."""

    @property
    def topic(self) -> str:
        """The whole topic."""

    @property
    def payload(self) -> bytes:
        """What subscribers get."""

    @property
    def retain(self) -> bool:
        """Whether the broker keeps it for later subscribers."""

    @property
    def correlation(self) -> bytes | None:
        """What an answer carries along, MQTT 5; None without."""

    @property
    def packet_bytes(self) -> int:
        """Size of the packet, at most."""


class _Flight(NamedTuple):
    parcel: Parcel
    size_bytes: int
    on_answer: Callable[[int], None]


class Channel:
    """Sends through a connection, as much at once as the broker allows, and hears the answers."""

    def __init__(
        self, connection: Connection, max_messages: int, clock: Clock, status: Status
    ) -> None:
        """`connection` is open; `messages` is counted in `status`."""
        self.connection = connection
        self.window = Window(max_messages, MAX_IN_FLIGHT_BYTES)
        self._max_messages = max_messages
        self._clock = clock
        self._status = status
        self._flights: dict[int, _Flight] = {}
        self._waiting_since_s = 0.0
        connection.on_acks = self._hear

    async def send(
        self,
        parcel: Parcel,
        on_answer: Callable[[int], None],
        keeps: Callable[[str], bool] = lambda _topic: True,
    ) -> None:
        """Wait for room, and send; `on_answer` gets the reason code of the broker's PUBACK.

        `keeps` is asked when there is room whether the broker is to keep what would be retained.
        """
        size_bytes = parcel.packet_bytes
        await self.window.admit(size_bytes)
        packet_id = self.connection.publish(
            parcel.topic,
            parcel.payload,
            retain=parcel.retain and keeps(parcel.topic),
            correlation=parcel.correlation,
        )
        if not self._flights:
            self._waiting_since_s = self._clock.monotonic_s()
        self._flights[packet_id] = _Flight(parcel, size_bytes, on_answer)
        self._status.broker.in_flight = len(self._flights)

    def set_cautious(self, is_cautious: bool) -> None:  # noqa: FBT001 - a setter
        """Send one at a time, or as much as allowed."""
        self.window.max_messages = 1 if is_cautious else self._max_messages

    def waited_s(self) -> float:
        """Return for how long the broker has owed its next answer; 0 when it owes none."""
        return self._clock.monotonic_s() - self._waiting_since_s if self._flights else 0.0

    def in_flight(self) -> list[Parcel]:
        """Return what the broker has not answered, oldest first."""
        return [flight.parcel for flight in self._flights.values()]

    async def wait_answered(self) -> bool:
        """Wait until the broker has answered all; tell whether the connection still lives."""
        await asyncio.wait(
            (self.window.wait_empty(), self.connection.lost),
            return_when=asyncio.FIRST_COMPLETED,
        )
        return not self.connection.lost.done()

    def _hear(self, acks: Sequence[Ack]) -> None:
        self._waiting_since_s = self._clock.monotonic_s()
        for packet_id, reason_code in acks:
            flight = self._flights.pop(packet_id)
            self.window.release(flight.size_bytes)
            flight.on_answer(reason_code)
        self._status.broker.in_flight = len(self._flights)
        self._status.counts["messages"] += len(acks)
