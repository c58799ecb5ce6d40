"""board/ring.py: what a board keeps until it is safe."""

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firmware.under_test import load

Ring = load("board.ring").Ring


def record(size: int, mark: int = 0) -> bytes:
    return bytes((size,)) + bytes((mark & 255,)) * (size - 1)


def copied(ring: Any, seq: int, room: int = 2000) -> list[bytes]:  # noqa: ANN401 - the firmware is untyped
    """Take records out of the ring as a session does."""
    target = bytearray(room + 7)
    size, records = ring.copy(seq, target, 7, room)
    taken = []
    at = 7
    for _ in range(records):
        taken.append(bytes(target[at : at + target[at]]))
        at += target[at]
    assert at == 7 + size
    return taken


def test_records_are_numbered_from_zero() -> None:
    ring = Ring(64)

    numbers = [ring.push(record(8), 8) for _ in range(3)]

    assert numbers == [0, 1, 2]
    assert (ring.first, ring.count, ring.next_seq(), ring.used) == (0, 3, 3, 24)


def test_a_full_ring_drops_its_oldest_and_counts_it() -> None:
    ring = Ring(32)
    for mark in range(6):
        ring.push(record(8, mark), 8)

    assert (ring.first, ring.count, ring.lost) == (2, 4, 2)
    assert copied(ring, 2) == [record(8, mark) for mark in (2, 3, 4, 5)]


def test_released_records_are_not_lost() -> None:
    ring = Ring(64)
    for mark in range(4):
        ring.push(record(8, mark), 8)

    ring.release(3)

    assert (ring.first, ring.count, ring.lost, ring.safe) == (3, 1, 0, 3)
    assert copied(ring, 3) == [record(8, 3)]


def test_releasing_more_than_there_is_empties_the_ring() -> None:
    ring = Ring(64)
    ring.push(record(8), 8)

    ring.release(1)
    ring.release(0)

    assert (ring.first, ring.count, ring.used, ring.safe) == (1, 0, 0, 1)


def test_only_whole_records_are_copied() -> None:
    ring = Ring(100)
    for mark in range(4):
        ring.push(record(10, mark), 10)

    assert copied(ring, 1, room=29) == [record(10, 1), record(10, 2)]
    assert copied(ring, 0, room=9) == []
    assert copied(ring, 0, room=10) == [record(10, 0)]


def test_records_are_copied_from_wherever_one_likes() -> None:
    ring = Ring(64)
    for mark in range(20):
        ring.push(record(8, mark), 8)
        if mark > 9:  # 8 of them fit
            for seq in (mark, mark - 7, mark - 3, mark - 2, mark - 5):
                assert copied(ring, seq, room=8) == [record(8, seq)]


def test_a_part_of_a_longer_buffer_is_pushed() -> None:
    ring = Ring(24)
    buffer = bytearray(record(10, 1) + b"left over")

    for _ in range(3):
        ring.push(buffer, 10)

    assert copied(ring, 1) == [record(10, 1)] * 2


@pytest.mark.parametrize(("size", "n"), [(8, 9), (9, 8), (65, 65)])
def test_a_record_whose_length_lies_is_refused(size: int, n: int) -> None:
    ring = Ring(64)

    with pytest.raises(ValueError, match="length"):
        ring.push(record(size), n)

    assert ring.count == 0


@given(
    st.integers(40, 90),
    st.lists(st.one_of(st.integers(6, 40), st.integers(-8, -1)), max_size=120),
)
def test_the_ring_is_a_queue_that_forgets_its_oldest(size: int, steps: list[int]) -> None:
    ring = Ring(size)
    model: deque[bytes] = deque()
    first = lost = 0

    for number, step in enumerate(steps):
        if step > 0:
            model.append(record(step, number))
            while sum(map(len, model)) > size:
                model.popleft()
                first += 1
                lost += 1
            ring.push(record(step, number), step)
        else:
            taken = min(-step, len(model))
            for _ in range(taken):
                model.popleft()
            first += taken
            ring.release(first)

        assert (ring.first, ring.count, ring.lost) == (first, len(model), lost)
        assert ring.used == sum(map(len, model))
        half = first + len(model) // 2
        assert copied(ring, half) == list(model)[half - first :]
        assert copied(ring, first) == list(model)
