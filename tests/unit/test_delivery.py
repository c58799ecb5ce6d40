import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.delivery import MAX_EPOCHS, DeliveryBook, Watermark


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_safe_next_is_the_first_seq_that_is_not_safe_in_whatever_order_ranges_become_safe(
    sizes: list[int], rng: random.Random
) -> None:
    mark = Watermark(7, 100)
    ranges = []
    next_seq = 100
    for size in sizes:
        ranges.append((next_seq, next_seq + size - 1))
        next_seq += size
    rng.shuffle(ranges)
    safe: set[int] = set()

    for first_seq, last_seq in ranges:
        mark.mark_safe(first_seq, last_seq)
        safe |= set(range(first_seq, last_seq + 1))
        assert mark.safe_next == next(seq for seq in range(100, next_seq + 1) if seq not in safe)

    assert mark.safe_next == next_seq


def test_a_watermark_tells_only_when_safe_next_moved() -> None:
    mark = Watermark(7, 0)
    told: list[int] = []
    mark.on_advance = lambda: told.append(mark.safe_next)

    mark.mark_safe(5, 9)
    mark.mark_safe(0, 4)

    assert told == [10]


def test_a_device_has_one_speaker_until_that_lets_go() -> None:
    book = DeliveryBook()

    assert book.claim("b1", "link 1")
    assert book.claim("b1", "link 1")
    assert not book.claim("b1", "link 2")
    book.release("link 2")
    assert not book.claim("b1", "link 2")
    book.release("link 1")
    assert book.claim("b1", "link 2")


def test_a_link_speaks_for_one_device_at_a_time() -> None:
    book = DeliveryBook()
    book.claim("b1", "link 1")

    book.claim("b2", "link 1")

    assert book.claim("b1", "link 2")
    assert not book.claim("b2", "link 2")


def test_a_refused_claim_changes_nothing() -> None:
    book = DeliveryBook()
    book.claim("b1", "link 1")
    book.claim("b2", "link 2")

    assert not book.claim("b1", "link 2")

    assert not book.claim("b2", "link 3")


def test_what_was_started_is_remembered_by_device_and_epoch() -> None:
    book = DeliveryBook()

    first, second = book.start("b1", 7, 0), book.start("b1", 8, 5)

    assert book.watermark("b1", 7) is first
    assert book.watermark("b1", 8) is second
    assert book.watermark("b1", 9) is None
    assert book.watermark("b2", 7) is None
    assert (second.received_next, second.safe_next) == (5, 5)


def test_an_epoch_can_be_started_anew() -> None:
    book = DeliveryBook()
    book.start("b1", 7, 0)

    anew = book.start("b1", 7, 3)

    assert book.watermark("b1", 7) is anew


def test_of_a_device_the_last_epochs_are_remembered() -> None:
    book = DeliveryBook()

    for epoch in range(65_530, 65_530 + MAX_EPOCHS + 1):
        book.start("b1", epoch, 0)

    assert book.watermark("b1", 65_530) is None
    assert book.watermark("b1", 65_531) is not None


@pytest.mark.parametrize("devices", [10, 1000])
def test_the_book_forgets_the_device_unseen_for_longest_that_nobody_speaks_for(
    devices: int,
) -> None:
    book = DeliveryBook(max_devices=4)
    book.start("claimed", 1, 0)
    book.claim("claimed", "link 1")
    book.start("seen again", 1, 0)

    for number in range(devices):
        book.start(f"d{number}", 1, 0)
        assert book.watermark("seen again", 1) is not None

    remembered = [n for n in range(devices) if book.watermark(f"d{n}", 1) is not None]
    assert remembered == [devices - 2, devices - 1]
    assert book.watermark("claimed", 1) is not None


def test_numbers_never_repeat() -> None:
    book = DeliveryBook()

    assert len({book.next_number() for _ in range(100)}) == 100
