"""Attends to the outbox with a store: commits what waits, deletes what is delivered, reads back."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, ParamSpec, TypeVar

from gateway.backoff import Backoff
from gateway.clock import Clock, TimeBase, TimeQuality
from gateway.errors import StoreDamagedError, StoreError
from gateway.progress import Progress
from gateway.status import StoreStatus
from gateway.store.jobs import Committed, Drop, Job, Limits, Opened, Settled
from gateway.store.lanes import Lane
from gateway.store.ledger import Entry
from gateway.store.one_thread import LONG_S, OneThread
from gateway.store.outbox import Outbox
from gateway.store.parcels import Parcel
from gateway.store.rows import Moment, machine_boot_number
from gateway.store.store import Store

_log = logging.getLogger(__name__)

COMMIT_PAUSE_S = 0.02
"""From one commit to the next: what comes in meanwhile shares the next one."""
DELETE_PAUSE_S = 1.0
"""From one deletion of delivered rows to the next, unless a commit comes along that takes them."""
WATERMARKS_S = 60.0
"""From one note of the boards' watermarks to the next."""
EXPIRY_S = 600.0
READ_RECORDS = 500
COMMIT_PARCELS = 5000
"""Most that share a commit: what is being saved cannot make room, and a disk may take its time."""
OPENING_S = 30.0
"""For so long nothing goes out before it is stored while the store is being opened (`always`): the
pages of 256 MB are checked within seconds, but much damage takes its time."""
BACKOFF_CAP_S = 10.0
CLOSE_TIMEOUT_S = 10.0
_ONLY_THE_BROKER = "only the broker's word counts"

_P = ParamSpec("_P")
_T = TypeVar("_T")

Watermark = tuple[str, int, int, int]
"""Device, boot, safe_next, claimed_next."""


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """When to store."""

    spill_after_s: float = 2.0
    """What the broker has not acknowledged by then is committed."""
    always_stores: bool = False
    """Commit everything at once."""
    limits: Limits = field(default_factory=Limits)
    opening_s: float = OPENING_S


class Keeper:
    """Runs the store in a thread of its own, one job after the other."""

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        store: Store,
        outbox: Outbox,
        options: KeeperOptions,
        *,
        clock: Clock,
        time_base: Callable[[], TimeBase],
        status: StoreStatus,
        watermarks: Callable[[], Sequence[Watermark]] = tuple,
        recall: Callable[[Sequence[Entry]], None] = lambda _entries: None,
        progress: Progress | None = None,
    ) -> None:
        """`watermarks` tells which sessions moved since it was last asked.

        `recall` is called once, with what is known of each boot of each device.
        """
        self._store = store
        self._outbox = outbox
        self._options = options
        self._clock = clock
        self._time_base = time_base
        self._status = status
        self._watermarks = watermarks
        self._recall = recall
        self._machine_boot = machine_boot_number(clock.boot_id)
        progress = progress or Progress()
        self._stage = progress.stage("store")
        self._thread = OneThread("store", store.path, progress)
        self._backoff = Backoff(cap_s=BACKOFF_CAP_S)
        self._wake = asyncio.Event()
        self._pending: asyncio.Future[Committed] | None = None
        self._is_claimed = False
        self._is_open = False
        self._is_damaged = False
        self._unnoted: Sequence[Watermark] = ()
        """Watermarks that are asked for only once, and not in the ledger yet."""
        self._unread: list[Lane] = []
        """Lanes that go on once the store is mended."""
        self._flushed: asyncio.Future[None] | None = None
        """Everything is to be committed; done when it is."""
        self._committed_s = self._deleted_s = self._marked_s = self._expired_s = float("-inf")
        self._dated: TimeQuality = "unsynced"
        """What is noted of the offset of this boot, to which the times of its rows belong."""
        # Looking now and then is cheaper than to be woken by each sample, and as exact: nothing is
        # due earlier than `spill_after_s` after it arrived.
        outbox.on_unsaved = self._wake.set if options.always_stores else _nothing
        outbox.on_read = self._read
        outbox.on_ask_newest = self._ask_newest
        outbox.hand_out_stored_only(options.always_stores)

    async def open_ledger(self) -> None:
        """Claim the store, and recall what is known of each boot; `run` tries it again.

        Raises:
            StoreError: the folder cannot be used.
            ConfigError: another gateway uses it.
        """
        entries = await self._in_thread(self._store.open_ledger)
        self._is_claimed = True
        outstanding = (entry for entry in entries if entry.stored_next > entry.settled_next)
        self._outbox.await_stock(entry.device for entry in outstanding)
        self._recall(entries)

    async def run(self) -> NoReturn:
        """Open the store, and keep it, whatever the disk does."""
        self._marked_s = self._expired_s = self._clock.monotonic_s()
        while True:
            try:
                if not self._is_open:
                    self._stage.works_long("opening", LONG_S)
                    await self._open()
                elif self._is_damaged:
                    self._stage.works_long("mending", LONG_S)
                    await self._rebuild()
                else:
                    await self._until_due()
                    if not self._is_damaged:
                        await self._commit()
            except StoreDamagedError as exc:
                _log.error("%s", exc)
                self._is_damaged = self._is_open
                await self._pause(exc)
            except StoreError as exc:
                await self._pause(exc)

    def begin_to_stop(self) -> None:
        """Hand out what cannot be stored any more: the store is not open yet."""
        if not self._is_open:
            self._outbox.hand_out_stored_only(False)

    async def flush(self, timeout_s: float) -> None:
        """Commit all that is only in memory; give up after `timeout_s`."""
        self._wake.set()
        # Not asyncio.timeout(): on Python 3.11.2 it does not end what is being cancelled.
        flushed = self._flushed = asyncio.get_running_loop().create_future()
        if self._outbox.unsaved:
            await asyncio.wait([flushed], timeout=timeout_s)

    async def close(self) -> None:
        """Commit what is left, note the watermarks, and let go of the files; `run` has ended."""
        if self._pending is not None:
            await asyncio.wait([self._pending], timeout=CLOSE_TIMEOUT_S)
        try:
            if self._is_open and not self._is_damaged:
                parcels = self._outbox.begin_saving(float("inf"))
                await asyncio.wait([self._submit(parcels)], timeout=CLOSE_TIMEOUT_S)
            watermarks = [*self._unnoted, *self._watermarks()]
            noting = self._thread.start(self._store.note_watermarks, watermarks)
            await asyncio.wait([noting], timeout=CLOSE_TIMEOUT_S)
            if noting.done():
                noting.result()
        except StoreError as exc:
            _log.error("%s", exc)
        finally:
            closing = self._thread.start(self._store.close)
            await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_S)
            self._thread.end()
            if not closing.done():
                _log.error("the store is still busy; what it had committed is safe")
            elif isinstance(error := closing.exception(), StoreError):
                _log.error("%s", error)

    # ---- opening ----

    async def _open(self) -> None:
        if self._status.state != "failing":
            self._status.state = "opening"
        if not self._is_claimed:
            await self.open_ledger()
        opening = self._thread.start_long(self._store.open, self._now())
        if self._options.always_stores:
            await asyncio.wait([opening], timeout=self._options.opening_s)
            if not opening.done():
                _log.warning("the store is still being opened; until then %s", _ONLY_THE_BROKER)
                self._outbox.hand_out_stored_only(False)
        opened = await asyncio.shield(opening)
        self._outbox.opened(*opened[:2], opened.epochs)
        self._is_open = True
        records = sum(stock.records for stock in opened.stock)
        if records:
            _log.info("%d records of %d devices wait on disk", records, len(opened.stock))
        self._is_sound(opened.size_bytes)

    async def _rebuild(self) -> None:
        outbox = self._outbox
        settled, outbox.settled = outbox.settled, []
        parcels = list(outbox.stored_in_memory())
        numbers = (outbox.cursors(), outbox.first_unsaved_n())
        try:
            opened: Opened = await self._in_thread(
                self._store.rebuild, parcels, self._now(), settled, *numbers
            )
        except StoreError:
            outbox.settled = [*settled, *outbox.settled]  # empty once it was noted
            raise
        while self._unread:
            outbox.not_read(self._unread.pop())
        outbox.restock(*opened[:2], opened.epochs)
        self._is_damaged = False
        self._is_sound(opened.size_bytes)

    # ---- the rhythm ----

    async def _until_due(self) -> None:
        while not self._is_damaged and (delay_s := self._due_in_s()) > 0:
            self._wake.clear()
            self._thread.knock()
            # What is due may have changed between looking and clearing: nothing runs in between.
            step_s = min(delay_s, self._options.spill_after_s / 2)
            await _wait(self._wake, self._stage.beat_s(step_s))

    def _due_in_s(self) -> float:
        if self._status.state == "failing":
            return 0.0  # `_pause` is over
        now_s = self._clock.monotonic_s()
        outbox = self._outbox
        due_s = min(self._marked_s + WATERMARKS_S, self._expired_s + EXPIRY_S)
        if outbox.unsaved:
            if self._options.always_stores or self._flushed is not None:
                due_s = self._committed_s + COMMIT_PAUSE_S
            else:
                oldest = next(iter(outbox.unsaved.values()))
                due_s = min(due_s, oldest.put_s + self._options.spill_after_s)
        if outbox.settled:
            due_s = min(due_s, self._deleted_s + DELETE_PAUSE_S)
        if self._dated == "unsynced" and outbox.on_disk:
            due_s = now_s if self._time_base().quality == "synced" else min(due_s, now_s + 1.0)
        return due_s - now_s

    async def _commit(self) -> None:
        now_s = self._clock.monotonic_s()
        half_s = self._options.spill_after_s / 2  # so that a commit takes more than a few
        is_all = self._options.always_stores or self._flushed is not None
        before_s = now_s if is_all else now_s - half_s
        parcels = self._outbox.begin_saving(before_s, COMMIT_PARCELS)
        self._stage.works("committing")
        pending = self._submit(parcels)
        await asyncio.wait([pending])
        pending.result()
        if self._flushed is not None and not self._outbox.unsaved:
            self._flushed.set_result(None)
            self._flushed = None

    def _submit(self, parcels: list[Parcel]) -> asyncio.Future[Committed]:
        """Start a commit; its end is noted even if nobody waits for it any more."""
        outbox = self._outbox
        now_s = self._clock.monotonic_s()
        settled: list[Settled] = []
        if outbox.settled and (not self._options.always_stores or self._is_deletion_due(now_s)):
            settled, outbox.settled = outbox.settled, []
            self._deleted_s = now_s
        moment = self._now()
        job = Job(moment, parcels, settled, self._what_to_drop(moment))
        if now_s >= self._marked_s + WATERMARKS_S:
            self._marked_s = now_s
            self._unnoted = self._unnoted or self._watermarks()
        job.watermarks = self._unnoted
        pending = self._thread.start(self._store.commit, job)
        pending.add_done_callback(partial(self._on_committed, job))
        self._pending = pending
        return pending

    def _is_deletion_due(self, now_s: float) -> bool:
        return now_s >= self._deleted_s + DELETE_PAUSE_S

    def _what_to_drop(self, moment: Moment) -> Drop | None:
        _, base, now_s = moment
        is_time_for_age = now_s >= self._expired_s + EXPIRY_S
        if is_time_for_age:
            self._expired_s = now_s
        elif self._status.bytes < self._options.limits.max_bytes * 0.9:
            return None
        unix_s = None
        if is_time_for_age and base.quality == "synced":
            unix_s = now_s + base.offset_s
        return Drop(self._outbox.cursors(), self._outbox.first_resident_n(), unix_s)

    def _on_committed(self, job: Job, pending: asyncio.Future[Committed]) -> None:
        self._pending = None
        self._committed_s = self._clock.monotonic_s()
        if pending.cancelled() or pending.exception() is not None:  # told by whoever waits for it
            self._outbox.settled = [*job.settled, *self._outbox.settled]
            self._outbox.not_saved(job.parcels)
            return
        committed = pending.result()
        self._unnoted = ()
        if committed.epochs is not None:
            self._outbox.stored_epochs = committed.epochs
        self._dated = job.moment.base.quality
        self._status.commits += 1
        self._status.stored += sum(len(parcel.records) for parcel in job.parcels)
        self._outbox.saved(job.parcels)
        self._outbox.dropped(committed.dropped)
        self._status.oldest_unix_s = committed.oldest_unix_s
        self._is_sound(committed.size_bytes)

    def _is_sound(self, size_bytes: int) -> None:
        self._status.bytes = size_bytes
        if self._status.state != "ok":
            if self._status.error:
                _log.info("the store works again")
            self._status.state, self._status.error = "ok", ""
            self._outbox.hand_out_stored_only(self._options.always_stores)
        self._backoff.reset()

    async def _pause(self, exc: StoreError) -> None:
        """Try again later: nothing is acknowledged but what the broker has."""
        self._status.failures += 1
        if self._status.state != "failing":
            _log.error("%s; until it works again %s", exc, _ONLY_THE_BROKER)
        self._status.state, self._status.error = "failing", str(exc)
        self._outbox.hand_out_stored_only(False)
        if not self._is_open:
            self._outbox.await_stock(())  # nobody knows for how long
        await self._stage.rest(self._backoff.next_delay_s(), asyncio.sleep)

    # ---- reading back ----

    def _read(self, lane: Lane) -> None:
        span = (lane.device, lane.cursor, lane.last_disk_n)
        reading = self._thread.start(self._store.read, *span, READ_RECORDS, self._now())
        reading.add_done_callback(partial(self._on_read, lane))

    def _on_read(self, lane: Lane, reading: asyncio.Future[list[Parcel]]) -> None:
        try:
            parcels = reading.result()
        except StoreDamagedError as exc:
            _log.error("%s", exc)
            self._status.failures += 1
            self._unread.append(lane)
            self._is_damaged = True
            self._wake.set()
        except StoreError as exc:
            if self._status.state != "failing":
                _log.error("%s", exc)
            loop = asyncio.get_running_loop()
            loop.call_later(self._backoff.next_delay_s(), self._outbox.not_read, lane)
        else:
            self._outbox.read_back(lane, parcels)

    def _ask_newest(self, lanes: Sequence[Lane]) -> None:
        asked = [(lane.device, lane.cursor) for lane in lanes]
        asking = self._thread.start(self._store.newest, asked, self._now())
        asking.add_done_callback(self._on_newest)

    def _on_newest(self, asking: asyncio.Future[list[Parcel]]) -> None:
        try:
            self._outbox.newest_known(asking.result())
        except StoreError as exc:
            _log.debug("%s", exc)  # whoever reads the rows themselves tells it

    # ---- the thread ----

    def _now(self) -> Moment:
        return Moment(self._machine_boot, self._time_base(), self._clock.monotonic_s())

    async def _in_thread(
        self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        future = self._thread.start_long(function, *args, **kwargs)
        return await asyncio.shield(future)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass


def _nothing() -> None:
    """Do nothing."""
