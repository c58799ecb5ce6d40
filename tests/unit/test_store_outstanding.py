"""What the ledger says of stored samples is right at any moment: a kill may come after each."""

from dataclasses import dataclass, field
from itertools import chain, repeat

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.ledger import Entry
from gateway.store.missing import missing
from gateway.store.outstanding import Epoch, Outstanding
from tests.support.effort import examples

SHED: Epoch = ("shed", 1)


@dataclass
class World:
    """Parcels of one epoch, of which some are stored, some delivered, in any order."""

    outstanding: Outstanding = field(default_factory=Outstanding)
    rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    """On disk, by n."""
    delivered: set[int] = field(default_factory=set)
    entry: Entry = field(default_factory=lambda: Entry(*SHED, 0, 0, 0, 0))

    def write(self) -> None:
        if marks := self.outstanding.take_changed().get(SHED):
            self.entry = self.entry._replace(**marks._asdict())

    def store(self, n: int, first_seq: int, last_seq: int) -> None:
        self.rows[n] = (first_seq, last_seq)
        self.outstanding.stored(SHED, first_seq, last_seq, n)
        self.write()

    def deliver(self, n: int, first_seq: int, last_seq: int, *, is_known: bool) -> None:
        """`is_known`: the store is told; it need not be of what it never had."""
        self.delivered.add(n)
        if n in self.rows or is_known:
            row = n if n in self.rows else None
            deletable = self.outstanding.settled(SHED, first_seq, last_seq, row)
            self.write()
            for each in deletable:
                assert each in self.delivered
                del self.rows[each]

    def check(self) -> None:
        assert missing(self.entry, self.rows.values()) == [], "nothing is lost"
        for n, (_, last_seq) in self.rows.items():
            if n not in self.delivered:
                assert last_seq >= self.entry.settled_next, "salvage would drop it"


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.booleans()), max_size=60)
"""Whether something is stored, else which of the oldest is delivered; whether that is told."""


@given(st.lists(st.integers(1, 3), min_size=1, max_size=12), STEPS)
@settings(max_examples=examples(500))
def test_nothing_is_called_missing_whatever_is_delivered_ahead_of_its_turn(
    sizes: list[int], steps: list[tuple[bool, int, bool]]
) -> None:
    world, first_seq = World(), 0
    waiting: list[tuple[int, int, int]] = []
    for n, size in enumerate(sizes, 1):
        waiting.append((n, first_seq, first_seq + size - 1))
        first_seq += size
    unsaved = list(waiting)
    for is_storing, which, is_told in chain(steps, repeat((False, 0, True))):
        if not waiting:
            break
        if is_storing and unsaved:
            world.store(*unsaved.pop(0))
        else:
            parcel = waiting.pop(min(which, len(waiting) - 1))
            if parcel in unsaved:
                unsaved.remove(parcel)
            world.deliver(*parcel, is_known=is_told and SHED in world.outstanding)
        world.check()
    assert world.rows == {}, "all that is delivered is deleted"
    assert SHED not in world.outstanding
    assert world.entry.is_settled


@given(st.lists(st.integers(1, 3), min_size=1, max_size=8))
def test_what_is_stored_in_order_is_missed_when_it_is_gone(sizes: list[int]) -> None:
    world, seq = World(), 5
    for n, size in enumerate(sizes, 1):
        world.store(n, seq, seq + size - 1)
        seq += size

    assert missing(world.entry, []) == [(5, seq - 1)]
    assert world.entry.first_n == 1


def test_a_row_behind_a_hole_is_missed_once_all_before_it_is_delivered() -> None:
    world = World()
    world.store(1, 0, 9)
    world.deliver(2, 10, 19, is_known=False)
    world.store(3, 20, 29)
    assert missing(world.entry, []) == [(0, 9)]

    world.deliver(1, 0, 9, is_known=True)

    assert missing(world.entry, []) == [(20, 29)]


def test_a_repetition_claims_nothing_that_was_delivered_since() -> None:
    outstanding = Outstanding()
    outstanding.stored(SHED, 600, 695, 5)
    outstanding.stored(SHED, 696, 736, 6)
    outstanding.stored(SHED, 737, 740, 7)
    assert outstanding.settled(SHED, 600, 695, 5) == [5]
    assert outstanding.settled(SHED, 696, 736, 6) == [6]

    outstanding.stored(SHED, 600, 695, 50)  # a board that had no ACK sent them to the next run

    marks = outstanding.take_changed()[SHED]
    entry = Entry(*SHED, 0, 0, marks.stored_next, marks.settled_next)
    assert missing(entry, [(600, 695), (737, 740)]) == []
    assert outstanding.settled(SHED, 600, 695, 50) == [50]
