import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import Clock
from gateway.model import Batch, BatchKind, Gap, GapCause, Readings, Record, Sample
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.store.parcels import MAX_RECORDS
from tests.support.effort import examples


def memory_outbox(
    max_records: int = 1000, counts: Counter[str] | None = None, batch_max: int = 100
) -> Outbox:
    counts = Counter() if counts is None else counts
    return Outbox(OutboxOptions(max_records=max_records, batch_max=batch_max), counts)


def readings(device: str, first: int, count: int = 1, safe: list[int] | None = None) -> Readings:
    records = tuple(
        Sample(device, 1, seq, float(seq), {"n": seq}) for seq in range(first, first + count)
    )
    return Readings(device, records, None if safe is None else lambda: safe.append(first))


def without_values(device: str, first: int, count: int = 1) -> Readings:
    """Of which the configuration left nothing."""
    numbered = range(first, first + count)
    return Readings(device, tuple(Sample(device, 1, seq, float(seq), {}) for seq in numbered))


def numbers(records: tuple[Record, ...]) -> list[int]:
    """The sequence numbers that samples and gaps stand for, in order."""
    return [
        seq
        for record in records
        for seq in (
            range(record.first_seq, record.last_seq + 1)
            if isinstance(record, Gap)
            else [record.seq]
        )
    ]


async def take_all(outbox: Outbox) -> list[Batch]:
    batches = []
    while outbox.has_waiting:
        batches.append(await outbox.take())
    return batches


async def test_samples_of_one_device_share_a_batch_in_order() -> None:
    outbox = memory_outbox()
    outbox.put(readings("a", 0, 3))
    outbox.put(readings("a", 3, 2))

    batch = await outbox.take()

    assert numbers(batch.records) == [0, 1, 2, 3, 4]
    assert outbox.size == 5
    outbox.delivered(batch)
    assert outbox.size == 0


async def test_devices_take_turns_however_much_one_of_them_sends() -> None:
    outbox = memory_outbox(batch_max=10)
    for seq in range(50):
        outbox.put(readings("chatty", seq))
    outbox.put(readings("quiet", 0))

    batches = [await outbox.take() for _ in range(3)]

    assert [batch.device for batch in batches] == ["chatty", "quiet", "chatty"]


async def test_readings_are_safe_once_and_only_when_all_of_them_are_delivered() -> None:
    outbox = memory_outbox(batch_max=2)
    safe: list[int] = []
    outbox.put(readings("a", 0, 2, safe))
    outbox.put(readings("a", 2, 2, safe))

    first, second = await outbox.take(), await outbox.take()
    outbox.delivered(second)
    assert safe == [2]
    outbox.delivered(first)

    assert safe == [2, 0]


async def test_a_taker_waits_until_something_is_put() -> None:
    outbox = memory_outbox(10, Counter())

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        taking = tasks.create_task(outbox.take())
        await asyncio.sleep(0)
        assert not taking.done()
        outbox.put(readings("a", 7))

    assert numbers(taking.result().records) == [7]


async def test_returned_batches_come_again_first_and_in_order() -> None:
    outbox = memory_outbox(batch_max=2)
    safe: list[int] = []
    for seq in range(6):
        outbox.put(readings("a", seq, safe=safe))
    first, second = await outbox.take(), await outbox.take()

    outbox.returned(second)
    outbox.returned(first)

    batches = await take_all(outbox)
    assert [numbers(batch.records) for batch in batches] == [[0, 1], [2, 3], [4, 5]]
    assert safe == []
    for batch in batches:
        outbox.delivered(batch)
    assert safe == [0, 1, 2, 3, 4, 5]


async def test_a_full_outbox_drops_the_oldest_and_says_so_in_their_place() -> None:
    counts: Counter[str] = Counter()
    outbox = memory_outbox(4, counts)
    safe: list[int] = []

    for seq in range(10):
        outbox.put(readings("a", seq, safe=safe))

    batch = await outbox.take()
    gap = batch.records[0]
    assert gap == Gap("a", 1, 0, 6, GapCause.STORE_OVERFLOW, seen_s=gap.seen_s)  # type: ignore[union-attr]
    assert numbers(batch.records) == list(range(10))
    assert counts["samples_dropped"] == 7, "the gap takes a place, too"
    assert safe == []
    outbox.delivered(batch)
    assert sorted(safe) == list(range(10))


async def test_numbers_that_jump_make_few_gaps_that_count_exactly() -> None:
    outbox = memory_outbox(100)

    for seq in range(0, 10_000, 10):
        outbox.put(readings("a", seq))

    batch = await outbox.take()
    gaps = [record for record in batch.records if isinstance(record, Gap)]
    assert len(gaps) == 64
    assert sum(gap.count for gap in gaps) == 1000 - 36
    assert (gaps[-1].last_seq, batch.records[64].seq) == (9630, 9640)  # type: ignore[union-attr]


async def test_a_boot_number_that_never_stays_costs_no_memory() -> None:
    counts: Counter[str] = Counter()
    outbox = memory_outbox(100, counts)

    for boot in range(1000):
        outbox.put(Readings("a", (Sample("a", boot, 0, 0.0, {"n": 1}),)))

    batch = await outbox.take()
    assert len(batch.records) == 100
    assert counts["gaps_dropped"] == 1000 - 100


async def test_the_device_that_holds_most_makes_room_for_the_others() -> None:
    outbox = memory_outbox(10, Counter())
    for seq in range(10):
        outbox.put(readings("chatty", seq))

    outbox.put(readings("quiet", 0))
    outbox.put(readings("quiet", 1))

    batches = await take_all(outbox)
    assert [numbers(batch.records) for batch in batches] == [list(range(10)), [0, 1]]
    assert isinstance(batches[0].records[0], Gap)
    assert not any(isinstance(record, Gap) for record in batches[1].records)


async def test_crowding_is_told_once_each_way() -> None:
    outbox = memory_outbox(10, batch_max=1)
    told: list[bool] = []
    outbox.on_crowded = told.append

    for seq in range(9):
        outbox.put(readings("a", seq))
    assert told == [True]
    for batch in await take_all(outbox):
        outbox.delivered(batch)

    assert told == [True, False]


async def test_a_held_device_keeps_waiting_while_others_pass() -> None:
    outbox = memory_outbox()
    outbox.put(readings("a", 0))
    outbox.hold("a")
    outbox.put(readings("a", 1))
    outbox.put(readings("b", 0))

    passing = await take_all(outbox)
    outbox.release("a")
    waiting = await take_all(outbox)

    assert [batch.device for batch in passing] == ["b"]
    assert [(batch.device, numbers(batch.records)) for batch in waiting] == [("a", [0, 1])]


async def test_very_large_readings_are_cut_and_safe_after_the_last_part() -> None:
    outbox = memory_outbox()
    safe: list[int] = []
    outbox.put(readings("a", 0, 2 * MAX_RECORDS + 1, safe))

    batches = await take_all(outbox)
    assert [len(batch.records) for batch in batches] == [MAX_RECORDS, MAX_RECORDS, 1]
    for batch in batches:
        assert safe == []
        outbox.delivered(batch)

    assert safe == [0]


async def test_a_device_that_left_costs_no_memory() -> None:
    outbox = memory_outbox()
    for number in range(500):
        outbox.put(readings(f"device{number}", 0))
    for batch in await take_all(outbox):
        outbox.delivered(batch)

    assert outbox.lanes == 0


class OutboxModel:
    """What must hold whatever happens: each number comes out once, in order, for each device."""

    def __init__(self, max_records: int) -> None:
        self.outbox = memory_outbox(max_records, Counter())
        self.produced = dict.fromkeys("abc", 0)
        self.delivered: dict[str, list[int]] = {device: [] for device in "abc"}
        self.safe: list[int] = []
        self.puts = 0
        self.in_flight: list[Batch] = []

    async def put(self, device: str, count: int) -> None:
        self.outbox.put(readings(device, self.produced[device], count, self.safe))
        self.produced[device] += count
        self.puts += 1

    async def take(self, _device: str, _count: int) -> None:
        if self.outbox.has_waiting:
            self.in_flight.append(await self.outbox.take())

    async def deliver(self, _device: str, _count: int) -> None:
        if self.in_flight:
            batch = self.in_flight.pop(0)
            self.delivered[batch.device] += numbers(batch.records)
            self.outbox.delivered(batch)

    async def lose_connection(self, _device: str, _count: int) -> None:
        while self.in_flight:
            self.outbox.returned(self.in_flight.pop())

    async def deliver_the_rest(self) -> None:
        while self.outbox.has_waiting or self.in_flight:
            await self.take("", 100)
            await self.deliver("", 0)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "take", "deliver", "lose_connection"]),
            st.sampled_from(["a", "b", "c"]),
            st.integers(1, 5),
        ),
        max_size=80,
    ),
    st.integers(3, 30),
)
def test_whatever_happens_each_number_comes_out_once_in_order_as_sample_or_gap(
    steps: list[tuple[str, str, int]], max_records: int
) -> None:
    async def scenario() -> OutboxModel:
        model = OutboxModel(max_records)
        for step, device, count in steps:
            await getattr(model, step)(device, count)
        await model.deliver_the_rest()
        return model

    model = asyncio.run(scenario())

    assert model.delivered == {d: list(range(count)) for d, count in model.produced.items()}
    assert len(model.safe) == model.puts
    assert model.outbox.size == 0


async def test_what_state_shows_never_goes_back_while_a_backlog_ends() -> None:
    now_s = 100.0
    outbox = Outbox(OutboxOptions(live_s=2.0), Counter(), Clock(monotonic_s=lambda: now_s))
    outbox.put(readings("a", 0, 50))
    outbox.put(readings("a", 50, 100))
    now_s += 5.0
    outbox.reconnected()
    for seq in range(150, 500, 50):
        outbox.put(readings("a", seq, 50))

    batches = await take_all(outbox)

    shown = [numbers(b.records)[-1] for b in batches if b.kind is not BatchKind.BACKLOG]
    assert shown == sorted(shown)
    assert shown[0] == shown[-1] == 499
    published = [b for b in batches if b.kind is not BatchKind.PREVIEW]
    assert [seq for b in published for seq in numbers(b.records)] == list(range(500))


async def test_what_was_in_flight_when_the_broker_went_is_the_state_when_it_is_back() -> None:
    now_s = [100.0]
    outbox = Outbox(OutboxOptions(live_s=2.0), Counter(), Clock(monotonic_s=lambda: now_s[0]))
    outbox.put(readings("a", 0, 3))
    outbox.returned(await outbox.take())
    now_s[0] += 60.0
    outbox.reconnected()

    async with asyncio.timeout(5):
        preview, backlog = await outbox.take(), await outbox.take()

    assert (preview.kind, numbers(preview.records)) == (BatchKind.PREVIEW, [2])
    assert (backlog.kind, numbers(backlog.records)) == (BatchKind.BACKLOG, [0, 1, 2])


async def test_a_preview_is_the_newest_sample_that_has_values() -> None:
    now_s = [100.0]
    outbox = Outbox(OutboxOptions(live_s=2.0), Counter(), Clock(monotonic_s=lambda: now_s[0]))
    outbox.put(readings("a", 0, 3))
    outbox.put(without_values("a", 3, 2))
    mixed = (*readings("b", 0, 2).records, *without_values("b", 2).records)
    outbox.put(Readings("b", mixed))
    outbox.put(without_values("c", 0, 2))
    now_s[0] += 60.0
    outbox.reconnected()

    batches = await take_all(outbox)

    previews = {b.device: numbers(b.records) for b in batches if b.kind is BatchKind.PREVIEW}
    assert previews == {"a": [2], "b": [1]}
    others = [(b.device, numbers(b.records)) for b in batches if b.kind is not BatchKind.PREVIEW]
    assert sorted(others) == [("a", [0, 1, 2, 3, 4]), ("b", [0, 1, 2]), ("c", [0, 1])]


async def test_what_nobody_wants_is_safe_at_once_and_does_not_wait() -> None:
    outbox = memory_outbox()
    safe: list[int] = []

    outbox.pass_over(readings("a", 0, 250, safe))

    assert safe == [0]
    assert (outbox.size, outbox.has_waiting, outbox.lanes) == (0, False, 0)


async def test_any_number_of_devices_may_fall_behind_at_once() -> None:
    now_s = [100.0]
    outbox = Outbox(OutboxOptions(live_s=2.0), Counter(), Clock(monotonic_s=lambda: now_s[0]))
    for number in range(3000):
        device = f"d{number}"
        gap = Gap(device, 1, 0, 3, GapCause.RING_OVERFLOW, now_s[0])
        outbox.put(Readings(device, (gap,)))
    now_s[0] += 3.0

    batches = [await outbox.take() for _ in range(200)]

    assert {batch.kind for batch in batches} == {BatchKind.BACKLOG}
