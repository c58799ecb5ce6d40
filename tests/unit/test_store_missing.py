from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.ledger import Entry
from gateway.store.missing import missing
from tests.support.effort import examples

NUMBERS = st.integers(0, 60)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12)


def stored(settled_next: int, stored_next: int) -> Entry:
    return Entry("shed", 1, 0, 0, stored_next, settled_next)


@pytest.mark.parametrize(
    ("settled_next", "stored_next", "found", "gone"),
    [
        (0, 0, [], []),
        (5, 5, [(0, 9)], []),
        (0, 10, [], [(0, 9)]),
        (3, 10, [(3, 9)], []),
        (3, 10, [(0, 99)], []),
        (3, 10, [(7, 9), (3, 4)], [(5, 6)]),
        (3, 10, [(4, 4), (6, 6), (8, 8)], [(3, 3), (5, 5), (7, 7), (9, 9)]),
        (3, 10, [(0, 2), (10, 12)], [(3, 9)]),
        (3, 10, [(12, 15)], [(3, 9)]),
        (3, 10, [(4, 8), (5, 6)], [(3, 3), (9, 9)]),
        (3, 10, [(5, 4)], [(3, 9)]),
    ],
)
def test_what_no_row_covers_is_missing(
    settled_next: int, stored_next: int, found: list[tuple[int, int]], gone: list[tuple[int, int]]
) -> None:
    assert missing(stored(settled_next, stored_next), found) == gone


@settings(max_examples=examples(1000), deadline=None, derandomize=True)
@given(NUMBERS, NUMBERS, ROWS)
def test_missing_and_found_are_all_that_was_stored(
    settled_next: int, stored_next: int, rows: list[tuple[int, int]]
) -> None:
    ranges = missing(stored(settled_next, stored_next), iter(rows))

    covered = {number for first, last in rows for number in range(first, last + 1)}
    gone = [number for first, last in ranges for number in range(first, last + 1)]
    assert gone == sorted(set(range(settled_next, stored_next)) - covered)


@settings(max_examples=examples(500), deadline=None, derandomize=True)
@given(NUMBERS, NUMBERS, ROWS)
def test_ranges_are_merged(
    settled_next: int, stored_next: int, rows: list[tuple[int, int]]
) -> None:
    ranges = missing(stored(settled_next, stored_next), rows)

    assert all(first <= last for first, last in ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))


def test_numbers_of_64_bits_cost_no_more_than_small_ones() -> None:
    top = 2**64 - 1

    assert missing(stored(0, top), [(1, top - 2)]) == [(0, 0), (top - 1, top - 1)]
