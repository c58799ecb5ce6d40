"""Whatever happens, and in whatever order: each number comes out, in order, for each device."""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import Clock, TimeBase
from gateway.model import Batch, BatchKind, Gap, Readings, Record, Sample
from gateway.store.jobs import Drop, Job, Limits
from gateway.store.lanes import Lane
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.store.parcels import Parcel
from gateway.store.rows import Moment
from gateway.store.store import Store

LIVE_S = 2.0
DEVICES = "abc"


def has_values(seq: int) -> bool:
    """Whether the configuration left something of a sample to publish."""
    return seq % 7 < 3


@dataclass(eq=False)
class Sent:
    """What a board sent and keeps until it is safe."""

    device: str
    first: int
    count: int
    is_safe: bool = False

    def readings(self) -> Readings:
        seqs = range(self.first, self.first + self.count)
        records = tuple(
            Sample(self.device, 1, seq, float(seq), {"n": seq} if has_values(seq) else {})
            for seq in seqs
        )
        return Readings(self.device, records, self.safe)

    def safe(self) -> None:
        assert not self.is_safe, "told twice"
        self.is_safe = True


@dataclass
class World:
    """Boards, the outbox, its store, and a broker; the keeper's part is played step by step."""

    folder: Path
    always_stores: bool
    now_s: float = 100.0
    produced: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DEVICES, 0))
    sent: list[Sent] = field(default_factory=list)
    delivered: dict[str, list[int]] = field(default_factory=lambda: {d: [] for d in DEVICES})
    runs: int = 0
    may_lose: bool = False
    shown: dict[str, int] = field(default_factory=dict)
    """What the state of each device shows."""

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.runs += 1
        self.in_flight: list[Batch] = []
        loop = asyncio.get_running_loop()
        options = OutboxOptions(live_s=LIVE_S, always_stores=self.always_stores, drain_rate=1e9)
        self.outbox = Outbox(options, Counter(), Clock(monotonic_s=lambda: self.now_s))
        self.outbox.on_unsaved = lambda: None
        self.outbox.on_read = lambda lane: loop.call_soon(  # type: ignore[assignment]
            self.outbox.read_back, lane, self.read(lane)
        )
        self.outbox.on_ask_newest = lambda lanes: loop.call_soon(  # type: ignore[assignment]
            self.outbox.newest_known, self.newest(lanes)
        )
        # Whenever it may drop something, it drops all that it may.
        limits = Limits(max_bytes=0)
        self.store = Store(self.folder / f"run-{self.runs}" / "outbox.db", limits)
        entries = self.store.open_ledger()
        waiting = (entry.device for entry in entries if entry.stored_next > entry.settled_next)
        self.outbox.await_stock(waiting)
        self.outbox.hand_out_stored_only(self.always_stores)
        self.is_open = False

    def open(self) -> Store:
        """Return the store; it is opened in the background, and others go on meanwhile."""
        if not self.is_open:
            self.is_open = True
            opened = self.store.open(self.moment())
            self.outbox.opened(opened.stock, opened.last_n, opened.epochs)
        return self.store

    def moment(self) -> Moment:
        return Moment(1, TimeBase(0.0, "synced"), self.now_s)

    # ---- what may happen ----

    async def put(self, device: str, count: int) -> None:
        sent = Sent(device, self.produced[device], count)
        self.produced[device] += count
        self.sent.append(sent)
        self.outbox.put(sent.readings())

    async def take(self, _device: str, _count: int) -> None:
        taking = asyncio.ensure_future(self.outbox.take())  # noqa: TID251 - cancelled below
        for _ in range(5):  # an answer from disk takes two turns of the loop
            await asyncio.sleep(0)
        if not taking.done():
            taking.cancel()
        elif (batch := taking.result()).kind is not BatchKind.PREVIEW:
            self.in_flight.append(batch)
        else:
            self.show(batch)

    async def deliver(self, _device: str, _count: int) -> None:
        if self.in_flight:
            batch = self.in_flight.pop(0)
            has_gaps = any(isinstance(record, Gap) for record in batch.records)
            assert self.may_lose or not has_gaps, "nothing is lost"
            self.delivered[batch.device] += numbers(batch.records)
            self.show(batch)
            self.outbox.delivered(batch)

    async def lose_connection(self, _device: str, _count: int) -> None:
        while self.in_flight:
            self.outbox.returned(self.in_flight.pop())
        self.outbox.reconnected()

    async def commit(self, _device: str, count: int) -> None:
        self.open()
        parcels = self.outbox.begin_saving(self.now_s if count > 2 else self.now_s - LIVE_S / 2)
        settled, self.outbox.settled = self.outbox.settled, []
        committed = self.store.commit(Job(self.moment(), parcels, settled))
        if committed.epochs is not None:
            self.outbox.stored_epochs = committed.epochs
        self.outbox.saved(parcels)

    async def commit_slowly(self, _device: str, count: int) -> None:
        """The broker acknowledges while the commit runs, also what is not part of it."""
        self.open()
        parcels = self.outbox.begin_saving(self.now_s if count > 3 else self.now_s - LIVE_S / 2)
        settled, self.outbox.settled = self.outbox.settled, []
        for _ in range(count):
            await self.deliver("", 0)
        committed = self.store.commit(Job(self.moment(), parcels, settled))
        if committed.epochs is not None:
            self.outbox.stored_epochs = committed.epochs
        self.outbox.saved(parcels)

    async def give_up_the_oldest(self, _device: str, count: int) -> None:
        """The store is full; a device may just be asking for more of its rows."""
        self.may_lose = True
        self.now_s += LIVE_S
        await self.commit("", 5)
        while True:
            taking = asyncio.ensure_future(self.outbox.take())  # noqa: TID251 - cancelled below
            await asyncio.sleep(0)
            if not taking.done() or taking.result().kind is not BatchKind.PREVIEW:
                break
            self.show(taking.result())
        drop = Drop(self.outbox.cursors(), self.outbox.first_resident_n(), None)
        self.open()
        parcels = self.outbox.begin_saving(self.now_s if count > 3 else self.now_s - LIVE_S / 2)
        settled, self.outbox.settled = self.outbox.settled, []
        committed = self.store.commit(Job(self.moment(), parcels, settled, drop))
        for _ in range(5):
            await asyncio.sleep(0)
        if committed.epochs is not None:
            self.outbox.stored_epochs = committed.epochs
        self.outbox.saved(parcels)
        self.outbox.dropped(committed.dropped)
        if not taking.done():
            taking.cancel()
        else:
            self.in_flight.append(taking.result())

    async def fail_to_commit(self, _device: str, _count: int) -> None:
        self.open()
        parcels = self.outbox.begin_saving(self.now_s)
        await self.deliver("", 0)
        self.outbox.not_saved(parcels)

    async def wait(self, _device: str, count: int) -> None:
        self.now_s += 0.7 * count

    async def hold(self, device: str, _count: int) -> None:
        self.outbox.hold(device)

    async def release(self, device: str, _count: int) -> None:
        self.outbox.release(device)

    async def kill(self, _device: str, count: int) -> None:
        """The files are as they were at that instant; boards send again what is not safe.

        And some of what is, as the last acknowledgements did not reach them.
        """
        before = self.folder / f"run-{self.runs}"
        shutil.copytree(before, self.folder / f"run-{self.runs + 1}")
        self.store.close()
        shutil.rmtree(before)
        self.start()
        acked = dict.fromkeys(DEVICES, 0)
        for sent in self.sent:
            if sent.is_safe and sent.first < self.produced[sent.device] - 2 * count:
                acked[sent.device] = sent.first + sent.count
        for sent in self.sent:
            if not sent.is_safe:
                self.outbox.put(sent.readings())
            elif sent.first >= acked[sent.device]:
                self.outbox.put(replace(sent, is_safe=False).readings())

    async def rebuild(self, _device: str, _count: int) -> None:
        """The database is found damaged while it runs."""
        self.open()
        parcels = list(self.outbox.stored_in_memory())
        opened = self.store.rebuild(parcels, self.moment(), [])
        self.outbox.restock(opened.stock, opened.last_n, opened.epochs)

    def newest(self, lanes: Sequence[Lane]) -> list[Parcel]:
        asked = [(lane.device, lane.cursor) for lane in lanes]
        return self.store.newest(asked, self.moment())

    def show(self, batch: Batch) -> None:
        samples = [record for record in batch.records if isinstance(record, Sample)]
        seqs = [sample.seq for sample in samples if sample.values]
        if batch.kind is not BatchKind.BACKLOG and seqs:
            self.shown[batch.device] = seqs[-1]

    # ---- the end ----

    def read(self, lane: Lane) -> list[Parcel]:
        span = (lane.device, lane.cursor, lane.last_disk_n)
        return self.store.read(*span, 3, self.moment())

    async def finish(self) -> None:
        for device in DEVICES:
            self.outbox.release(device)
        self.open()
        for _ in range(300):
            if not self.outbox.size:
                break
            await self.commit("", 5)
            await self.take("", 0)
            await self.deliver("", 0)
        await self.commit("", 5)


def numbers(records: tuple[Record, ...]) -> list[int]:
    return [
        seq
        for record in records
        for seq in (
            range(record.first_seq, record.last_seq + 1)
            if isinstance(record, Gap)
            else [record.seq]
        )
    ]


STEPS = (
    *("put", "put", "put", "take", "take", "deliver", "deliver", "lose_connection", "commit"),
    *(
        "commit",
        "commit_slowly",
        "commit_slowly",
        "fail_to_commit",
        "give_up_the_oldest",
        "wait",
        "hold",
        "release",
        "kill",
        "rebuild",
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.sampled_from(DEVICES), st.integers(1, 5)), max_size=60
    ),
    st.booleans(),
)
def test_each_number_comes_out_in_order_and_the_store_is_empty_at_the_end(
    steps: list[tuple[str, str, int]], always_stores: bool
) -> None:
    async def scenario(folder: Path) -> World:
        world = World(folder, always_stores)
        try:
            for step, device, count in steps:
                await getattr(world, step)(device, count)
            await world.finish()
            rows = list(world.store._opened()[0].rows())  # noqa: SLF001 - what is left on disk
            assert rows == []
        finally:
            world.store.close()
        return world

    with tempfile.TemporaryDirectory() as folder:
        world = asyncio.run(scenario(Path(folder)))

    for device, count in world.produced.items():
        first_time = list(dict.fromkeys(world.delivered[device]))
        assert first_time == list(range(count)), device
        newest = max((seq for seq in range(count) if has_values(seq)), default=-1)
        assert world.may_lose or world.shown.get(device, -1) == newest, "the newest is the state"
        kills = any(step in ("kill", "lose_connection") for step, _, _ in steps)
        if not kills:
            assert len(world.delivered[device]) == count, "nothing twice without a reason"
    assert all(sent.is_safe for sent in world.sent)
    assert world.outbox.lanes == 0
    assert world.outbox.size == 0
