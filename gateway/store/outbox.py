"""The outbox: every record waits here until the broker has acknowledged it."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from gateway.clock import Clock
from gateway.model import Batch, BatchKind, Gap, Readings, Sample
from gateway.progress import Stage
from gateway.store.database import Stock
from gateway.store.jobs import Settled
from gateway.store.lanes import Lane
from gateway.store.outstanding import Epoch
from gateway.store.parcels import MAX_RECORDS, Parcel, cut
from gateway.store.retention import Dropped
from gateway.store.turns import Turns

_CROWDED_SHARE = 0.8
_RELAXED_SHARE = 0.6
"""Boards keep their samples from the first share of `max_records` on, until the second."""

_READS = 4
"""Devices whose rows are read back at the same time; bounds what of a backlog is in memory."""


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """How records wait."""

    max_records: int = 100_000
    """Most records that are only in memory."""
    batch_max: int = MAX_RECORDS
    """Most records of a batch, unless a single parcel has more."""
    live_s: float = 2.0
    """What waited longer is backlog; in the mode `spill` it is committed, too."""
    drain_rate: float = 2000.0
    """Records of a backlog handed out a second, besides as many as come in."""
    always_stores: bool = False
    """Hand out only what is on disk (durability `always`)."""


class Outbox:
    """Records in, batches out; bounded, fair among devices, in order for each device.

    What waits too long goes to disk, and comes back from there, where a `Keeper` attends to it;
    without one this is an outbox in memory.

    When the memory is full, the oldest records of the device that holds most make room, and a `Gap`
    takes their place, so that what was dropped is published as dropped. `on_crowded` gives the
    sources that can keep their samples the time to do so before that happens.
    """

    def __init__(
        self, options: OutboxOptions, counts: Counter[str], clock: Clock | None = None
    ) -> None:
        """`samples_dropped` and `gaps_dropped` are counted in `counts`."""
        self.on_crowded: Callable[[bool], None] = lambda _crowded: None
        """Called with True when the memory is nearly full, with False when there is room again."""
        self.on_unsaved: Callable[[], None] | None = None
        """Called when there is something to store or to delete; set by the keeper."""
        self.on_read: Callable[[Lane], None] | None = None
        """Called to read more rows of a lane; set by the keeper, which answers `read_back`."""
        self.on_ask_newest: Callable[[Sequence[Lane]], None] | None = None
        """Called to learn the newest samples of lanes; the keeper answers `newest_known`."""
        self.unsaved: dict[int, Parcel] = {}
        """What is only in memory, in flight or not, oldest first; empty without a keeper."""
        self.settled: list[Settled] = []
        """What the broker has, and the keeper does not know yet."""
        self.stored_epochs: frozenset[Epoch] = frozenset()
        """Epochs with something on disk."""
        self._options = options
        self._counts = counts
        self._monotonic_s = (clock or Clock()).monotonic_s
        self._saving: set[Epoch] = set()
        """Epochs of which something is being committed now."""
        self._lanes: dict[str, Lane] = {}
        self._turns = Turns(options.live_s, options.drain_rate, self._monotonic_s)
        self._reads = 0
        self._emptied = asyncio.Event()
        self._taken: dict[Batch, tuple[Parcel, ...]] = {}
        self._resident: deque[Parcel] = deque()
        self._next_n = 1
        self._in_flight = 0
        self._waiting = 0
        self._safe = 0
        """Records in memory that are on disk as well: few, and no reason to drop others."""
        self._on_disk = 0
        self._is_crowded = False
        self._stored_only = False

    @property
    def size(self) -> int:
        """Records not yet acknowledged by the broker: waiting, in flight and on disk."""
        return self._waiting + self._in_flight + self._on_disk

    @property
    def in_memory(self) -> int:
        """Records in memory, of those."""
        return self._waiting + self._in_flight

    @property
    def _only_in_memory(self) -> int:
        return self._waiting + self._in_flight - self._safe

    @property
    def room(self) -> int:
        """Records the memory can still take before others make room for them."""
        return max(0, self._options.max_records - self._only_in_memory)

    @property
    def on_disk(self) -> int:
        """Records that are on disk and not in memory."""
        return self._on_disk

    @property
    def has_waiting(self) -> bool:
        """Whether there is something to take now or soon."""
        return self._turns.has_any

    @property
    def lanes(self) -> int:
        """How many devices have something waiting."""
        return len(self._lanes)

    def oldest_s(self) -> float | None:
        """Return the monotonic time of the oldest sample waiting in memory, or None."""
        oldest = (parcel.records[0] for lane in self._lanes.values() if (parcel := lane.oldest()))
        return min(
            (record.seen_s if isinstance(record, Gap) else record.taken_s for record in oldest),
            default=None,
        )

    # ---- the sources ----

    def put(self, readings: Readings) -> None:
        """Take over `readings`, at least one record; `on_safe` follows once all are safe."""
        records = readings.records
        count = len(records)
        if count > MAX_RECORDS or (count > 1 and records[0].boot != records[-1].boot):
            for part in cut(readings):
                self._put(part)
        else:
            self._put(readings)

    def pass_over(self, readings: Readings) -> None:
        """Let readings that nobody wants go by: they are safe at once, `on_safe` is called."""
        for part in cut(readings):
            parcel = Parcel(0, part.device, part.records, part.on_safe, self._monotonic_s())
            self._settle(parcel)
            parcel.tell_safe()

    def _put(self, readings: Readings) -> None:
        count = len(readings.records)
        lane = self._lane(readings.device)
        now_s = self._monotonic_s()
        if self._waiting + self._in_flight - self._safe + count > self._options.max_records:
            self._make_room(count, lane, now_s)
        n = self._next_n
        self._next_n = n + 1
        parcel = Parcel(n, readings.device, readings.records, readings.on_safe, now_s)
        is_backlog = lane.queue is self._turns.backlog or lane.is_reading
        lane.put(parcel)
        self._waiting += count
        if is_backlog:
            self._turns.tokens.came_in(count)
            self._turns.preview(lane.device)
        elif lane.queue is None and not self._stored_only:
            self._turns.enqueue(lane)
        if self.on_unsaved is not None:
            self.unsaved[n] = parcel
            if self._options.always_stores or len(self.unsaved) == 1:
                self.on_unsaved()
        if (
            not self._is_crowded
            and self._only_in_memory >= self._options.max_records * _CROWDED_SHARE
        ):
            self._is_crowded = True
            self.on_crowded(True)

    # ---- the publisher ----

    def tell_waits(self, stage: Stage) -> None:
        """Have a stage told while `take` only waits."""
        self._turns.stage = stage

    async def take(self) -> Batch:
        """Wait for records and return those of one device.

        Devices take turns. The batch belongs to the caller until `delivered` or `returned`; one of
        the kind PREVIEW needs neither.
        """
        while (batch := self._next()) is None:
            await self._turns.wait()
        return batch

    def delivered(self, batch: Batch) -> None:
        """Forget `batch`: the broker has it. Calls `on_safe` of all its readings."""
        parcels = self._taken.pop(batch)
        self._in_flight -= len(batch.records)
        for parcel in parcels:
            self._settle(parcel)
        if self._is_crowded:
            self._relax()
        if not self.size:
            self._emptied.set()
        for parcel in parcels:
            parcel.tell_safe()

    def returned(self, batch: Batch) -> None:
        """Put `batch` back in front of its device's line; return several newest first."""
        parcels = self._taken.pop(batch)
        self._in_flight -= len(batch.records)
        lane = self._lane(batch.device)
        lane.give_back(parcels)
        self._waiting += len(batch.records)
        self._turns.enqueue(lane)

    def reconnected(self) -> None:
        """Show the newest sample of every device that has a backlog, before anything else."""
        since_s = self._turns.since_s()
        unknown: list[Lane] = []
        for lane in self._lanes.values():
            lane.shown_n = 0
            if lane.is_backlog(since_s):
                if lane.newest is not None:
                    self._turns.preview(lane.device)
                elif lane.disk_rows:
                    unknown.append(lane)
        if unknown and self.on_ask_newest is not None:
            self.on_ask_newest(unknown)

    def hold(self, device: str) -> None:
        """Hand out nothing of `device` until `release`; what it sends goes on waiting."""
        self._turns.hold(device)
        if (lane := self._lanes.get(device)) is not None:
            self._turns.leave(lane)

    def release(self, device: str) -> None:
        """End `hold`."""
        self._turns.release(device)
        if (lane := self._lanes.get(device)) is not None:
            self._turns.enqueue(lane)

    async def wait_empty(self) -> None:
        """Wait until the broker has acknowledged everything."""
        while self.size:
            self._emptied.clear()
            await self._emptied.wait()

    # ---- the keeper ----

    def await_stock(self, devices: Iterable[str]) -> None:
        """Let nothing of these devices pass until `opened`: older samples of them are on disk.

        Called anew with others, or with none if the store cannot be opened.
        """
        self._turns.await_stock(devices)
        for lane in self._lanes.values():
            self._turns.enqueue(lane)

    def opened(self, stock: Iterable[Stock], last_n: int, epochs: frozenset[Epoch]) -> None:
        """Take in what the store holds from before; numbers go on from there."""
        self.restock(stock, last_n, epochs)
        self.await_stock(())
        # Perhaps the broker has been there for a while: nobody says `reconnected` again.
        unknown = [lane for lane in self._lanes.values() if lane.disk_rows and lane.newest is None]
        if unknown and self.on_ask_newest is not None:
            self.on_ask_newest(unknown)

    def restock(self, stock: Iterable[Stock], last_n: int, epochs: frozenset[Epoch]) -> None:
        """Take in what the store holds, now that it was made anew; parcels in memory are known.

        What is not stored gets numbers behind `last_n`, the highest in the store.
        """
        self._renumber(last_n)
        self.stored_epochs = epochs
        in_memory: Counter[str] = Counter()
        records: Counter[str] = Counter()
        settled: dict[str, int] = {}
        first_fresh: dict[str, int] = {}
        for parcel in self.stored_in_memory():
            in_memory[parcel.device] += 1
            records[parcel.device] += len(parcel.records)
        for done in self.settled:
            if done.n is not None:  # about to be deleted
                in_memory[done.device] += 1
                settled[done.device] = max(done.n, settled.get(done.device, 0))
        for lane in self._lanes.values():
            self._on_disk -= lane.disk_records
            lane.disk_rows = lane.disk_records = 0
            if stored := next((parcel for parcel in lane.fresh if parcel.is_stored), None):
                first_fresh[lane.device] = stored.n
        for each in stock:
            lane = self._lane(each.device)
            lane.disk_rows = max(0, each.rows - in_memory[each.device])
            lane.disk_records = each.records - records[each.device] if lane.disk_rows else 0
            lane.last_disk_n = first_fresh.get(each.device, each.last_n + 1) - 1
            lane.cursor = max(lane.cursor, each.first_n - 1, settled.get(each.device, 0))
            self._on_disk += lane.disk_records
            self._turns.enqueue(lane)
        if not self.size:
            self._emptied.set()
        for lane in [lane for lane in self._lanes.values() if not lane.has_any]:
            self._forget(lane)

    def _renumber(self, last_n: int) -> None:
        first_n = self.first_unsaved_n()
        by = last_n + 1 - first_n
        if by <= 0:
            return
        for parcel in self.unsaved.values():
            parcel.n += by
        for lane in self._lanes.values():
            lane.newest_n += by if lane.newest_n >= first_n else 0
            lane.shown_n += by if lane.shown_n >= first_n else 0
        self.unsaved = {parcel.n: parcel for parcel in self.unsaved.values()}
        self._next_n += by

    def stored_in_memory(self) -> Iterator[Parcel]:
        """Return all parcels that are on disk as well as in memory, in flight or not."""
        for lane in self._lanes.values():
            for parcels in (lane.front, lane.fresh):
                yield from (parcel for parcel in parcels if parcel.is_stored)
        for parts in self._taken.values():
            yield from (parcel for parcel in parts if parcel.is_stored)

    def begin_saving(self, before_s: float, most: int | None = None) -> list[Parcel]:
        """Return what arrived before a moment and is only in memory; it must not change now.

        The oldest, where it is more than `most` parcels.
        """
        parcels: list[Parcel] = []
        for parcel in islice(self.unsaved.values(), most):
            if parcel.put_s > before_s:
                break
            parcel.is_saving = True
            parcels.append(parcel)
        self._saving = {(parcel.device, parcel.boot) for parcel in parcels}
        return parcels

    def saved(self, parcels: Iterable[Parcel]) -> None:
        """Note that parcels are on disk: they are safe."""
        for parcel in parcels:
            parcel.is_saving = False
            parcel.is_stored = True
            self.unsaved.pop(parcel.n, None)
            if parcel.is_settled:
                self.settled.append(_settled(parcel))
                continue
            self._safe += len(parcel.records)
            self._resident.append(parcel)
            parcel.tell_safe()
            if self._options.always_stores and parcel.is_waiting:
                lane = self._lanes[parcel.device]
                if lane.queue is None:
                    self._turns.enqueue(lane)
        self._evict()
        if self._is_crowded:
            self._relax()

    def not_saved(self, parcels: Iterable[Parcel]) -> None:
        """Note that a commit failed; parcels the broker has meanwhile need none."""
        for parcel in parcels:
            parcel.is_saving = False
            parcel.may_have_row = True
            if parcel.is_settled:
                self.unsaved.pop(parcel.n, None)
                self.settled.append(_settled(parcel))

    def read_back(self, lane: Lane, parcels: list[Parcel]) -> None:
        """Take in the answer to `on_read`."""
        self._reads -= 1
        lane.is_reading = False
        records = lane.disk_records
        lane.read_back(parcels)
        if not parcels or lane.disk_rows <= 0:
            lane.disk_rows = lane.disk_records = 0
        self._on_disk += lane.disk_records - records
        count = sum(len(parcel.records) for parcel in parcels)
        self._waiting += count
        self._safe += count
        if not lane.has_any:
            self._forget(lane)
            if not self.size:
                self._emptied.set()
        else:
            self._turns.go_on(lane)
        self._turns.wake()

    def not_read(self, lane: Lane) -> None:
        """Note that rows could not be read; they are asked for again at the next turn."""
        self._reads -= 1
        lane.is_reading = False
        if lane.has_any:
            self._turns.enqueue(lane)
        else:
            self._forget(lane)

    def newest_known(self, parcels: Iterable[Parcel]) -> None:
        """Take in the answer to `on_ask_newest`."""
        for parcel in parcels:
            lane = self._lanes.get(parcel.device)
            if lane is not None and lane.newest is None:
                lane.learn_newest(parcel)
                self._turns.preview(lane.device)

    def dropped(self, losses: Iterable[Dropped]) -> None:
        """Note what retention gave up."""
        for loss in losses:
            self._counts["samples_dropped"] += loss.samples
            lane = self._lanes.get(loss.device)
            if lane is not None:
                lane.disk_rows -= loss.rows
                lane.disk_records -= loss.records
                self._on_disk -= loss.records

    def cursors(self) -> dict[str, int]:
        """Return for each device with rows on disk up to which of them it is in memory."""
        return {lane.device: lane.cursor for lane in self._lanes.values() if lane.disk_rows}

    def first_resident_n(self) -> int:
        """Return the number from which on all is in memory."""
        first = (lane.fresh[0].n for lane in self._lanes.values() if lane.fresh)
        return min(first, default=self._next_n)

    def first_unsaved_n(self) -> int:
        """Return the number from which on nothing is on disk."""
        return next(iter(self.unsaved), self._next_n)

    def hand_out_stored_only(self, stored_only: bool) -> None:  # noqa: FBT001 - the mode, on or off
        """Hand out only what is on disk; or, while the disk fails, everything."""
        self._stored_only = stored_only
        if not stored_only:
            for lane in self._lanes.values():
                self._turns.enqueue(lane)

    # ---- inside ----

    def _next(self) -> Batch | None:
        now_s = self._monotonic_s()
        since_s = now_s - self._options.live_s
        while True:
            while (device := self._turns.next_preview()) is not None:
                if (batch := self._preview(device)) is not None:
                    return batch
            if (lane := self._turns.next_fresh()) is None:
                return self._next_of_backlog(now_s, since_s)
            if lane.is_backlog(since_s):
                self._turns.enqueue(lane)  # waited too long in the line; it has a preview now
            elif parts := lane.cut(self._options.batch_max, stored_only=self._stored_only):
                return self._hand_out(lane, parts, BatchKind.LIVE)

    def _next_of_backlog(self, now_s: float, since_s: float) -> Batch | None:
        while (lane := self._turns.first_backlog(now_s)) is not None:
            if lane.disk_rows and not lane.front:
                if self._reads >= _READS or self.on_read is None:
                    return None  # an answer is under way, and wakes the taker
                self._turns.leave(lane)
                lane.is_reading = True
                self._reads += 1
                self.on_read(lane)
                continue
            self._turns.leave(lane)
            kind = BatchKind.BACKLOG if lane.is_backlog(since_s) else BatchKind.LIVE
            if parts := lane.cut(self._options.batch_max, stored_only=self._stored_only):
                batch = self._hand_out(lane, parts, kind)
                self._turns.tokens.spend(len(batch.records))
                return batch
        return None

    def _hand_out(self, lane: Lane, parts: tuple[Parcel, ...], kind: BatchKind) -> Batch:
        if parts[-1].n < lane.shown_n:
            kind = BatchKind.BACKLOG  # a newer sample was shown: `state` must not go back
        if len(parts) == 1:
            records = tuple(parts[0].records)
        else:
            records = tuple([record for part in parts for record in part.records])
        batch = Batch(lane.device, records, kind, parts[0].time_base)
        self._taken[batch] = parts
        self._waiting -= len(records)
        self._in_flight += len(records)
        if not lane.has_any:
            self._forget(lane)
        elif lane.front and kind is BatchKind.BACKLOG:
            self._turns.go_on(lane)  # its turn lasts until what was read back is gone
        else:
            self._turns.enqueue(lane)
        return batch

    def _preview(self, device: str) -> Batch | None:
        lane = self._lanes.get(device)
        if lane is None or lane.newest is None or lane.newest_n <= lane.shown_n:
            return None
        if self._turns.is_held(device) or not self._turns.is_behind(lane):
            return None  # if it is not behind, its turn comes at once
        lane.shown_n = lane.newest_n
        return Batch(device, (lane.newest,), BatchKind.PREVIEW, lane.newest_base)

    def _settle(self, parcel: Parcel) -> None:
        parcel.is_settled = True
        if parcel.is_stored:
            self._safe -= len(parcel.records)
            self.settled.append(_settled(parcel))
        elif parcel.is_saving:
            return  # `saved` comes
        elif self.on_unsaved is not None:
            self.unsaved.pop(parcel.n, None)
            # The store must know what was never stored between two rows, or it would be missed.
            epoch = (parcel.device, parcel.boot)
            if parcel.may_have_row or epoch in self.stored_epochs or epoch in self._saving:
                self.settled.append(_settled(parcel))
        if len(self.settled) == 1 and self.on_unsaved is not None:
            self.on_unsaved()

    def _lane(self, device: str) -> Lane:
        lane = self._lanes.get(device)
        if lane is None:
            lane = self._lanes[device] = Lane(device)
        return lane

    def _forget(self, lane: Lane) -> None:
        """A device that left must not cost memory for ever."""
        self._turns.leave(lane)
        if not lane.is_reading:
            self._lanes.pop(lane.device, None)

    def _evict(self) -> None:
        """Let what is on disk and waits for long leave the memory."""
        before_s = self._monotonic_s() - self._options.live_s / 2
        while self._resident and self._resident[0].put_s <= before_s:
            parcel = self._resident.popleft()
            if parcel.is_settled or not parcel.is_waiting:
                continue
            lane = self._lanes[parcel.device]
            if lane.evict(parcel):
                count = len(parcel.records)
                self._waiting -= count
                self._safe -= count
                self._on_disk += count

    def _relax(self) -> None:
        if self._only_in_memory <= self._options.max_records * _RELAXED_SHARE:
            self._is_crowded = False
            self.on_crowded(False)

    def _make_room(self, count: int, lane: Lane, now_s: float) -> None:
        while self._only_in_memory + count > self._options.max_records:
            fair_share = self._options.max_records // len(self._lanes)
            if lane.count == 0 or lane.count < fair_share:
                lane = max(self._lanes.values(), key=lambda lane: lane.count)
            before = lane.count
            dropped = lane.drop_oldest(now_s)
            if dropped is None:
                return  # the rest is in flight or being saved; both are bounded
            self._waiting += lane.count - before
            victim, loss, forgotten = dropped
            if loss.n != victim.n:
                self.unsaved.pop(victim.n, None)
            elif self.on_unsaved is not None:
                self.unsaved[loss.n] = loss
            self._counts["samples_dropped"] += sum(
                isinstance(record, Sample) for record in victim.records
            )
            if forgotten is not None:
                self.unsaved.pop(forgotten.n, None)
                self._counts["gaps_dropped"] += len(forgotten.records)
                forgotten.tell_safe()


def _settled(parcel: Parcel) -> Settled:
    n = parcel.n if parcel.is_stored or parcel.may_have_row else None
    return Settled(parcel.device, parcel.boot, parcel.first_seq, parcel.last_seq, n)
