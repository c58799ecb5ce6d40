"""The outbox in memory: every record waits here until the broker has acknowledged it."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.model import Batch, Gap, GapCause, Readings, Record, Sample

MAX_READINGS = 100
"""Most records of one `Readings` that stay together; MQTT.md's limit of a history message."""

_CROWDED_SHARE = 0.8
_RELAXED_SHARE = 0.6
"""Boards keep their samples from the first share of `max_records` on, until the second."""

_MAX_LOST_CALLBACKS = 1024
"""Dropped acknowledgements one gap carries; further ones are given at once, which keeps memory
bounded: the source is then told that its sample is settled, as lost, before that is published."""


_MAX_GAPS = 64
"""Gaps a device can have waiting. Boards number their samples one by one, so there are few; where
numbers jump, further losses of a boot widen its newest gap, which goes on counting exactly."""


@dataclass(slots=True)
class _Lane:
    """The waiting records of one device, oldest first."""

    device: str
    waiting: deque[Readings] = field(default_factory=deque)
    count: int = 0
    """Records in `waiting`."""
    lost: list[Gap] = field(default_factory=list)
    """What was dropped: older than everything in `waiting`, and delivered before it."""
    lost_on_safe: list[Callable[[], None]] = field(default_factory=list)
    gaps_dropped: int = 0
    """Gaps that found no room: the source changed its boot number with every sample."""
    is_queued: bool = False
    """Whether the lane stands in the queue of lanes that have something to take."""

    def drop_oldest(self) -> int:
        """Turn the oldest readings into gaps; return how many records that freed."""
        readings = self.waiting.popleft()
        self.count -= len(readings.records)
        for record in readings.records:
            self._lose(record)
        if readings.on_safe is not None:
            if len(self.lost_on_safe) < _MAX_LOST_CALLBACKS:
                self.lost_on_safe.append(readings.on_safe)
            else:
                readings.on_safe()
        return len(readings.records)

    def take_lost(self) -> Readings | None:
        """Return the gaps as readings and forget them; None when nothing was lost."""
        if not self.lost:
            return None
        callbacks, self.lost_on_safe = self.lost_on_safe, []
        gaps, self.lost = tuple(self.lost), []

        def on_safe() -> None:
            for callback in callbacks:
                callback()

        return Readings(self.device, gaps, on_safe)

    def _lose(self, record: Record) -> None:
        gap = record if isinstance(record, Gap) else self._gap_of(record)
        last = self.lost[-1] if self.lost else None
        if last is not None and (last.boot, last.cause) == (gap.boot, gap.cause):
            if last.last_seq + 1 == gap.first_seq and last.missing is gap.missing is None:
                self.lost[-1] = replace(last, last_seq=gap.last_seq)
                return
            if len(self.lost) >= _MAX_GAPS and gap.last_seq > last.last_seq:
                missing = last.count + gap.count
                self.lost[-1] = replace(last, last_seq=gap.last_seq, missing=missing)
                return
        if len(self.lost) >= _MAX_GAPS:
            del self.lost[0]
            self.gaps_dropped += 1
        self.lost.append(gap)

    def _gap_of(self, sample: Sample) -> Gap:
        cause = GapCause.STORE_OVERFLOW
        return Gap(self.device, sample.boot, sample.seq, sample.seq, cause, sample.taken_s)


class MemoryOutbox:
    """Records in, batches out; bounded, fair among devices, in order for each device.

    When it is full, the oldest records of the device that holds most make room, and a `Gap` takes
    their place, so that what was dropped is published as dropped. `on_crowded` gives the sources
    that can keep their samples the time to do so before that happens.
    """

    def __init__(self, max_records: int, counts: Counter[str]) -> None:
        """Hold at most `max_records`; `samples_dropped` is counted in `counts`."""
        self._max_records = max_records
        self._counts = counts
        self._lanes: dict[str, _Lane] = {}
        self._queue: deque[_Lane] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._held: set[str] = set()
        self._taken: dict[Batch, tuple[Readings, ...]] = {}
        self._in_flight = 0
        self._waiting = 0
        self._is_crowded = False
        self.on_crowded: Callable[[bool], None] = lambda _crowded: None
        """Called with True when the outbox is nearly full, with False when there is room again."""

    @property
    def size(self) -> int:
        """Records not yet acknowledged by the broker: waiting and in flight."""
        return self._waiting + self._in_flight

    @property
    def has_waiting(self) -> bool:
        """Whether `take` would return at once."""
        return bool(self._queue)

    @property
    def lanes(self) -> int:
        """How many devices have something waiting."""
        return len(self._lanes)

    def oldest_s(self) -> float | None:
        """Return the monotonic time of the oldest waiting sample, or None when nothing waits."""
        oldest = (lane.waiting[0].records[0] for lane in self._lanes.values() if lane.waiting)
        return min(
            (record.seen_s if isinstance(record, Gap) else record.taken_s for record in oldest),
            default=None,
        )

    def put(self, readings: Readings) -> None:
        """Take over `readings`, at least one record; `on_safe` follows once the broker has all."""
        if len(readings.records) > MAX_READINGS:
            for part in _split(readings, MAX_READINGS):
                self.put(part)
            return
        lane = self._lane(readings.device)
        count = len(readings.records)
        if self.size + count > self._max_records:
            self._make_room(count, lane)
        lane.waiting.append(readings)
        lane.count += count
        self._waiting += count
        self._enqueue(lane)
        if not self._is_crowded and self.size >= self._max_records * _CROWDED_SHARE:
            self._is_crowded = True
            self.on_crowded(True)

    def reconnected(self) -> None:
        """Do nothing: samples in memory are all of now."""

    async def take(self, max_records: int = MAX_READINGS) -> Batch:
        """Wait for records and return those of one device, at most `max_records`.

        Gaps of dropped records come on top, as they are few and older than the rest.
        Devices take turns. The batch belongs to the caller until `delivered` or `returned`.
        """
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        lane = self._queue.popleft()
        lane.is_queued = False
        parts, count = self._cut(lane, max_records)
        if lane.waiting:
            self._enqueue(lane)
        else:
            del self._lanes[lane.device]  # a device that left must not cost memory for ever
        batch = Batch(lane.device, tuple(record for part in parts for record in part.records))
        self._taken[batch] = parts
        self._in_flight += count
        return batch

    def delivered(self, batch: Batch) -> None:
        """Forget `batch`: the broker has it. Calls `on_safe` of all its readings."""
        parts = self._taken.pop(batch)
        self._in_flight -= len(batch.records)
        if self._is_crowded and self.size <= self._max_records * _RELAXED_SHARE:
            self._is_crowded = False
            self.on_crowded(False)
        if not self.size:
            self._emptied.set()
        for readings in parts:
            if readings.on_safe is not None:
                readings.on_safe()

    async def wait_empty(self) -> None:
        """Wait until the broker has acknowledged everything."""
        while self.size:
            self._emptied.clear()
            await self._emptied.wait()

    def returned(self, batch: Batch) -> None:
        """Put `batch` back in front of its device's line; return several newest first."""
        parts = self._taken.pop(batch)
        self._in_flight -= len(batch.records)
        lane = self._lane(batch.device)
        if (lost := lane.take_lost()) is not None:
            # These gaps were made while the batch was away: they are younger than it.
            lane.waiting.appendleft(lost)
            lane.count += len(lost.records)
            self._waiting += len(lost.records)
        lane.waiting.extendleft(reversed(parts))
        lane.count += len(batch.records)
        self._waiting += len(batch.records)
        self._enqueue(lane)

    def hold(self, device: str) -> None:
        """Hand out nothing of `device` until `release`; what it sends goes on waiting."""
        self._held.add(device)
        lane = self._lanes.get(device)
        if lane is not None and lane.is_queued:
            lane.is_queued = False
            self._queue.remove(lane)

    def release(self, device: str) -> None:
        """End `hold`."""
        self._held.discard(device)
        lane = self._lanes.get(device)
        if lane is not None:
            self._enqueue(lane)

    def _lane(self, device: str) -> _Lane:
        lane = self._lanes.get(device)
        if lane is None:
            lane = self._lanes[device] = _Lane(device)
        return lane

    def _enqueue(self, lane: _Lane) -> None:
        if not lane.is_queued and lane.device not in self._held:
            lane.is_queued = True
            self._queue.append(lane)
            self._filled.set()

    def _cut(self, lane: _Lane, max_records: int) -> tuple[tuple[Readings, ...], int]:
        parts: list[Readings] = []
        count = 0
        if (lost := lane.take_lost()) is not None:
            parts.append(lost)
            count = len(lost.records)
        taken = 0
        while lane.waiting:
            size = len(lane.waiting[0].records)
            if size > max_records:
                lane.waiting.extendleft(reversed(_split(lane.waiting.popleft(), max_records)))
                continue
            if parts and count + size > max_records:
                break
            parts.append(lane.waiting.popleft())
            count += size
            taken += size
        lane.count -= taken
        self._waiting -= taken
        return tuple(parts), count

    def _make_room(self, count: int, lane: _Lane) -> None:
        while self.size + count > self._max_records:
            fair_share = self._max_records // len(self._lanes)
            if lane.count == 0 or lane.count < fair_share:
                lane = max(self._lanes.values(), key=lambda lane: lane.count)
            if not lane.waiting:
                return  # everything is in flight; the window bounds that
            freed = lane.drop_oldest()
            self._waiting -= freed
            self._counts["gaps_dropped"] += lane.gaps_dropped
            lane.gaps_dropped = 0
            self._counts["samples_dropped"] += freed


def _split(readings: Readings, size: int) -> list[Readings]:
    """Cut `readings` into parts of `size` records; the last of them to be safe calls `on_safe`."""
    chunks = [
        readings.records[start : start + size] for start in range(0, len(readings.records), size)
    ]
    if readings.on_safe is None:
        return [Readings(readings.device, chunk) for chunk in chunks]
    on_safe, unsafe = readings.on_safe, len(chunks)

    def on_part_safe() -> None:
        nonlocal unsafe
        unsafe -= 1
        if unsafe == 0:
            on_safe()

    return [Readings(readings.device, chunk, on_part_safe) for chunk in chunks]
