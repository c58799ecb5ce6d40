"""Records of one device -> the messages that carry them; pure."""

from collections.abc import Container, Sequence
from typing import NamedTuple

from gateway.clock import TimeBase
from gateway.model import Batch, BatchKind, Gap, GapCause, Record, Sample
from gateway.mqtt import topics
from gateway.mqtt.names import Names
from gateway.mqtt.payloads import SamplePayloads
from gateway.mqtt.topics import Topics
from gateway.timekeeper import TimeKeeper

MAX_HISTORY = 100
"""Most samples in one history message; subscribers rely on it."""

PUBLISH_OVERHEAD = 10
"""Bytes of a PUBLISH besides topic and payload, at most: fixed header 5, topic length 2, packet
identifier 2, no properties 1. Source: MQTT 5, sections 2.1 and 3.3."""


class Message(NamedTuple):
    """One PUBLISH with records."""

    topic: str
    payload: bytes
    retain: bool
    records: tuple[Record, ...]
    """What it carries; or, if `is_substitute`, the samples whose loss it reports."""
    is_substitute: bool = False
    is_preview: bool = False
    """Whether what it carries comes again."""

    @property
    def correlation(self) -> None:
        """Nothing: samples answer nobody."""

    @property
    def packet_bytes(self) -> int:
        """Size of the packet, at most."""
        return len(self.topic.encode()) + len(self.payload) + PUBLISH_OVERHEAD


class Composer:
    """Makes messages of records: state, history and gap, in the order of the records."""

    def __init__(
        self,
        below: Topics,
        timekeeper: TimeKeeper,
        batch_max: int = MAX_HISTORY,
        names: Names | None = None,
    ) -> None:
        """At most `batch_max` samples share a message; without `names` keys are levels."""
        self.max_packet_bytes: int | None = None
        """The broker's limit; None when it has not said one."""
        self.unwanted: Container[str] = frozenset()
        """Devices of which nothing is published."""
        self._topics = below
        self._names = Names() if names is None else names
        self._timekeeper = timekeeper
        self._batch_max = min(batch_max, MAX_HISTORY)
        self._payloads = SamplePayloads()

    def compose(self, batch: Batch) -> list[Message]:
        """Return the messages that carry the records of `batch`, each of them exactly once.

        The newest sample of a live batch becomes the state, unless it is of a device that was
        replaced: the state is of who has its place. All others share history messages, in
        runs between gaps. What does not fit into the broker's packets is split; a single sample
        that does not fit is replaced by a gap. A preview that does not fit is left out. Samples
        without values, and what is of unwanted devices, are in no message.

        Raises:
            ValueError: the device's name is no slug.
        """
        if batch.device in self.unwanted:
            return []
        base = self._base(batch)
        if batch.kind is BatchKind.PREVIEW:
            return self._preview(batch, base)
        device, records = batch.device, batch.records
        is_newest_here = batch.kind is BatchKind.LIVE and not self._names.is_replaced(device)
        newest = _newest(records) if is_newest_here else None
        if newest is not None and len(records) == 1:  # by far the most frequent
            return [self._state(device, newest, base)]
        messages: list[Message] = []
        run: list[Sample] = []
        for record in records:
            if isinstance(record, Sample) and record is not newest:
                if record.values:
                    run.append(record)
                if len(run) < self._batch_max:
                    continue
            messages += self._history(device, run, base)
            run = []
            if isinstance(record, Gap):
                messages.append(self._gap(device, record, (record,)))
            elif record is newest:
                messages.append(self._state(device, record, base))
        return messages + self._history(device, run, base)

    def smaller(self, batch: Batch, message: Message) -> list[Message]:
        """Return what to send instead of a message of `batch` whose content or size was refused.

        Halves of a history, so that one bad sample does not take others with it; a gap instead of
        a single sample; nothing instead of a refused gap.
        """
        samples = [record for record in message.records if isinstance(record, Sample)]
        if message.is_substitute or not samples:
            return []
        if len(samples) == 1:
            return [self._substitute(batch.device, samples[0])]
        return self._halves(batch.device, samples, self._base(batch))

    def _base(self, batch: Batch) -> TimeBase:
        return self._timekeeper.base() if batch.time_base is None else batch.time_base

    def _preview(self, batch: Batch, base: TimeBase) -> list[Message]:
        newest = _newest(batch.records)
        if newest is None or self._names.is_replaced(batch.device):
            return []
        message = self._state(batch.device, newest, base)
        return [] if message.is_substitute else [message._replace(is_preview=True)]

    def _state(self, device: str, sample: Sample, base: TimeBase) -> Message:
        topic = self._topics.full(topics.state(self._names.level(device)))
        payload = self._payloads.state(sample, base)
        message = Message(topic, payload, retain=True, records=(sample,))
        return message if self._fits(message) else self._substitute(device, sample)

    def _gap(self, device: str, gap: Gap, records: tuple[Record, ...]) -> Message:
        topic = self._topics.full(topics.gap(self._names.level(device)))
        return Message(topic, self._payloads.gap(gap), retain=False, records=records)

    def _history(self, device: str, samples: list[Sample], base: TimeBase) -> list[Message]:
        if not samples:
            return []
        topic = self._topics.full(topics.history(self._names.level(device)))
        payload = self._payloads.history(samples, base)
        message = Message(topic, payload, retain=False, records=tuple(samples))
        if self._fits(message):
            return [message]
        if len(samples) == 1:
            return [self._substitute(device, samples[0])]
        return self._halves(device, samples, base)

    def _halves(self, device: str, samples: list[Sample], base: TimeBase) -> list[Message]:
        middle = len(samples) // 2
        return [
            *self._history(device, samples[:middle], base),
            *self._history(device, samples[middle:], base),
        ]

    def _substitute(self, device: str, sample: Sample) -> Message:
        cause = GapCause.REFUSED
        gap = Gap(device, sample.boot, sample.seq, sample.seq, cause, sample.taken_s)
        return self._gap(device, gap, (sample,))._replace(is_substitute=True)

    def _fits(self, message: Message) -> bool:
        return self.max_packet_bytes is None or message.packet_bytes <= self.max_packet_bytes


def _newest(records: Sequence[Record]) -> Sample | None:
    for record in reversed(records):
        if isinstance(record, Sample) and record.values:
            return record
    return None
