"""Records under way to the broker."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn, Protocol

from gateway.clock import Clock
from gateway.model import Batch, BatchKind, Gap, Sample
from gateway.mqtt.channel import Channel
from gateway.mqtt.connection import FIRST_FAILURE, UNFIT, refusal_text
from gateway.mqtt.messages import Composer, Message
from gateway.mqtt.newest import NewestStates
from gateway.mqtt.retained import Retained
from gateway.mqtt.suspicion import Suspicion
from gateway.status import Status

_log = logging.getLogger(__name__)

FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
"""How long the records of a device rest after the broker refused one; doubled each time."""


class RecordSource(Protocol):
    """Where records wait for the broker: the outbox."""

    def reconnected(self) -> None:
        """Know that a new connection begins: previews of what waits come first of all.

        Called before the first `take` of the connection, with everything taken before returned.
        """

    async def take(self) -> Batch:
        """Wait for records and hand out some of one device; they stay the source's to keep.

        A preview is the taker's: it is neither `delivered` nor `returned`.
        """

    def delivered(self, batch: Batch) -> None:
        """Forget the batch: the broker has it."""

    def returned(self, batch: Batch) -> None:
        """Hand the batch out again; of several, the newest is returned first."""

    def hold(self, device: str) -> None:
        """Hand out nothing of `device`, no preview either, until `release`."""

    def release(self, device: str) -> None:
        """End `hold`."""


@dataclass(slots=True, eq=False)
class _Shipment:
    """A batch on its way."""

    batch: Batch
    unsent: deque[Message]
    open: int
    """Messages not answered yet, unsent ones included."""
    is_refused: bool = False
    given_up: int = 0
    """Samples that nobody will see; a gap went out in their place."""


@dataclass(slots=True)
class _Rest:
    """A device whose records the broker refuses."""

    delay_s: float = FIRST_REST_S
    until_s: float | None = None
    """None while another attempt is made."""


class Shipments:
    """Takes batches, sends their messages, and settles each batch once all are answered.

    What the broker refuses is neither dropped nor sent again and again:

    - For a reason that may pass (not authorised, quota exceeded, topic not allowed ...) the records
      of that device rest for a while, in the source, while those of the others flow.
    - For a reason that lies in the message (its size, its content) a history is halved until the
      culprit is alone, and a gap with the cause `refused` is published instead of that sample.
    - For no reason, by hanging up: `Suspicion` finds out what it was.

    A preview is sent once and settles nothing, whatever becomes of it: its sample comes again.
    """

    def __init__(
        self,
        records: RecordSource,
        composer: Composer,
        clock: Clock,
        status: Status,
        retained: Retained | None = None,
    ) -> None:
        self.newest = NewestStates()
        """What the broker has of each device whose states it retains."""
        self._records = records
        self._composer = composer
        self._retained = Retained() if retained is None else retained
        self._clock = clock
        self._status = status
        self._progress: Callable[[], None] = _ignore
        self._suspicion = Suspicion()
        self._shipments: dict[Batch, _Shipment] = {}
        self._smaller: asyncio.Queue[_Shipment] = asyncio.Queue()
        """Has at most one entry for each message in flight, which the window bounds."""
        self._rests: dict[str, _Rest] = {}
        self._told: set[int] = set()
        self.taken = 0
        """Batches that were taken: what is looked at to see whether records move."""

    async def send_all(self, channel: Channel, progress: Callable[[], None]) -> NoReturn:
        """Take and send for ever; samples gather in the source while the window is full.

        `progress` is called with every batch delivered.
        """
        self._progress = progress
        channel.set_cautious(self._suspicion.is_cautious)
        announced = channel.connection.limits.packet_bytes
        limits = [each for each in (announced, self._suspicion.limit_bytes) if each is not None]
        self._composer.max_packet_bytes = min(limits, default=None)
        self._records.reconnected()
        while True:
            await channel.window.wait_room()
            batch = await self._records.take()
            self.taken += 1
            messages = self._compose(batch)
            if batch.kind is BatchKind.PREVIEW:
                for preview in messages:
                    on_answer = partial(self._on_preview_answer, channel, preview)
                    await self._send_message(channel, preview, on_answer)
                continue
            if not messages:
                self._settle_unsent(batch)
                await asyncio.sleep(0)  # there may be many in a row, and nothing else waits here
                continue
            shipment = self._shipments[batch] = _Shipment(batch, deque(messages), len(messages))
            await self._send(channel, shipment)

    async def send_smaller(self, channel: Channel) -> NoReturn:
        """Send for ever what takes the place of messages the broker found unfit."""
        while True:
            await self._send(channel, await self._smaller.get())

    async def finish(self, channel: Channel) -> None:
        """Send the rest of batches that were begun, so that no part of them must be repeated."""
        for shipment in list(self._shipments.values()):
            await self._send(channel, shipment)

    def tick(self) -> None:
        """Let devices try again whose rest is over; call about once a second."""
        now_s = self._clock.monotonic_s()
        for device, rest in self._rests.items():
            if rest.until_s is not None and now_s >= rest.until_s:
                rest.until_s = None
                self._records.release(device)

    def connection_lost(self, channel: Channel) -> bool:
        """Draw conclusions from what was in flight when the connection ended by itself.

        Return whether one of the messages may be to blame for it.
        """
        messages = (each for each in channel.in_flight() if isinstance(each, Message))
        if (device := self._suspicion.connection_lost(messages)) is not None:
            self._let_rest(device)
        return self._suspicion.is_cautious or bool(self._rests)

    def give_back_all(self) -> None:
        """Return what was not settled; the connection has ended."""
        for shipment in reversed(self._shipments.values()):
            self._records.returned(shipment.batch)
        self._shipments.clear()
        while not self._smaller.empty():
            self._smaller.get_nowait()

    def _compose(self, batch: Batch) -> list[Message]:
        try:
            return self._composer.compose(batch)
        except ValueError:
            # Drivers make slugs of names. Should one slip through, it must not stop the others.
            if not self._status.counts["samples_refused"]:
                _log.exception("records that cannot be published")
            if batch.kind is not BatchKind.PREVIEW:
                samples = [record for record in batch.records if isinstance(record, Sample)]
                given_up = sum(bool(sample.values) for sample in samples)
                self._status.counts["samples_refused"] += given_up
                self._status.device(batch.device).lost += given_up
            return []

    async def _send(self, channel: Channel, shipment: _Shipment) -> None:
        while shipment.unsent:
            message = shipment.unsent.popleft()
            try:
                on_answer = partial(self._on_answer, channel, shipment, message)
                await self._send_message(channel, message, on_answer)
            except asyncio.CancelledError:
                shipment.unsent.appendleft(message)
                raise

    async def _send_message(
        self, channel: Channel, message: Message, on_answer: Callable[[int], None]
    ) -> None:
        if not message.retain:
            await channel.send(message, on_answer)
            return
        # What goes out of a device that was removed or renamed meanwhile is not retained.
        await self._retained.wait(message.topic)
        await channel.send(message, on_answer, self._retained.keeps)
        self.newest.sent(message.topic)

    def _on_answer(
        self, channel: Channel, shipment: _Shipment, message: Message, reason_code: int
    ) -> None:
        if reason_code < FIRST_FAILURE:
            self._clear(channel, message)
        else:
            self._tell(message, reason_code)
            if reason_code in UNFIT:
                smaller = self._composer.smaller(shipment.batch, message)
                shipment.open += len(smaller)
                shipment.unsent += smaller
                self._smaller.put_nowait(shipment)
            else:
                shipment.is_refused = True
        if message.is_substitute:
            shipment.given_up += 1
        shipment.open -= 1
        if not shipment.open:
            self._settle(shipment)

    def _on_preview_answer(self, channel: Channel, preview: Message, reason_code: int) -> None:
        if reason_code < FIRST_FAILURE:
            self._clear(channel, preview)
        else:
            self._tell(preview, reason_code)

    def _clear(self, channel: Channel, message: Message) -> None:
        """Note that the broker has a message, which is no suspect any more."""
        if message.retain and self._retained.is_claimed(message.topic):
            self.newest.confirmed(message.topic, message.payload)
        if self._suspicion.is_cautious:
            self._suspicion.acknowledged(message)
            channel.set_cautious(self._suspicion.is_cautious)

    def _tell(self, message: Message, reason_code: int) -> None:
        self._status.counts["messages_refused"] += 1
        if reason_code not in self._told:
            self._told.add(reason_code)
            words = refusal_text(reason_code)
            _log.warning("the broker refuses %s: %s", message.topic, words)

    def _settle(self, shipment: _Shipment) -> None:
        """Close a batch whose messages have all been answered."""
        device = shipment.batch.device
        if shipment.is_refused:
            self._let_rest(device)
        else:
            del self._shipments[shipment.batch]
            self._records.delivered(shipment.batch)
            self._count(shipment)
            self._progress()
        rest = self._rests.get(device)
        if rest is None:
            return
        mine = [each for each in self._shipments.values() if each.batch.device == device]
        if not any(each.open for each in mine):
            for each in reversed(mine):
                del self._shipments[each.batch]
                self._records.returned(each.batch)
        if not shipment.is_refused and rest.until_s is None:
            del self._rests[device]

    def _settle_unsent(self, batch: Batch) -> None:
        """Close a batch of which nothing is published; that says nothing about the broker."""
        self._records.delivered(batch)
        samples = [record for record in batch.records if isinstance(record, Sample)]
        if batch.device in self._composer.unwanted:
            self._status.counts["samples_disabled"] += len(samples)
        else:
            self._status.counts["samples_left_out"] += sum(not each.values for each in samples)

    def _let_rest(self, device: str) -> None:
        rest = self._rests.setdefault(device, _Rest())
        if rest.until_s is None:
            rest.until_s = self._clock.monotonic_s() + rest.delay_s
            rest.delay_s = min(rest.delay_s * 2, LONGEST_REST_S)
            self._records.hold(device)

    def _count(self, shipment: _Shipment) -> None:
        now_s = self._clock.monotonic_s()
        latency_s = self._status.latency_s
        delivered = gaps = lost = left_out = 0
        last_gap = None
        for record in shipment.batch.records:
            if isinstance(record, Gap):
                gaps += 1
                lost += record.count
                last_gap = record
            elif record.values:
                delivered += 1
                latency_s.record(now_s - record.taken_s)
            else:
                left_out += 1
        delivered -= shipment.given_up
        device = self._status.device(shipment.batch.device)
        device.delivered += delivered
        device.lost += lost + shipment.given_up
        if last_gap is not None:
            is_of_this_boot = shipment.batch.time_base is None
            device.last_gap = last_gap if is_of_this_boot else replace(last_gap, seen_s=now_s)
        counts = self._status.counts
        counts["samples_delivered"] += delivered
        counts["gaps_delivered"] += gaps
        if left_out:
            counts["samples_left_out"] += left_out
        if shipment.given_up:
            counts["samples_refused"] += shipment.given_up


def _ignore() -> None:
    """Do nothing."""
