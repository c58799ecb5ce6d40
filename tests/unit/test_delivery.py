import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.delivery import MAX_EPOCHS, DeliveryBook, Progress, Watermark
from tests.support.effort import examples


@settings(max_examples=examples(200), deadline=None, derandomize=True)
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


def test_skipping_takes_what_became_safe_out_of_order_along() -> None:
    mark = Watermark(7, 0)
    mark.mark_safe(5, 9)
    mark.mark_safe(20, 24)

    mark.skip_to(7)

    assert (mark.safe_next, mark.received_next, mark.claimed_next) == (10, 10, 10)
    mark.mark_safe(10, 19)
    assert mark.safe_next == 25


def test_what_becomes_safe_behind_the_watermark_changes_nothing() -> None:
    mark = Watermark(7, 0)
    mark.skip_to(10)
    told: list[int] = []
    mark.on_advance = lambda: told.append(mark.safe_next)

    mark.mark_safe(2, 5)
    mark.skip_to(9)

    assert (mark.safe_next, told) == (10, [])
    mark.mark_safe(8, 11)
    assert (mark.safe_next, told) == (12, [12])


def test_a_restored_epoch_stands_where_it_stood() -> None:
    book = DeliveryBook()

    book.restore("b1", 7, 100, 120)

    mark = book.watermark("b1", 7)
    assert mark is not None
    assert (mark.safe_next, mark.received_next, mark.claimed_next) == (100, 100, 120)
    assert book.changed() == []


def test_what_is_known_by_now_is_not_restored() -> None:
    book = DeliveryBook()
    mark = book.start("b1", 7, 200)

    book.restore("b1", 7, 100, 120)

    assert book.watermark("b1", 7) is mark
    assert mark.safe_next == 200


def test_what_changed_is_told_once_and_as_it_stands_now() -> None:
    book = DeliveryBook()
    first, second = book.start("b1", 7, 0), book.start("b2", 1, 5)
    assert book.changed() == [Progress("b1", 7, 0, 0), Progress("b2", 1, 5, 5)]

    first.claim(9)
    first.mark_safe(0, 3)
    first.claim(8)
    second.mark_safe(7, 8)  # out of order: nothing that would be written down

    assert book.changed() == [Progress("b1", 7, 4, 9)]
    assert book.changed() == []


def test_what_was_forgotten_is_not_told() -> None:
    book = DeliveryBook(max_devices=2)
    gone = book.start("b1", 7, 0)
    book.start("b2", 7, 0)
    book.start("b3", 7, 0)

    gone.mark_safe(0, 5)

    assert [progress.device for progress in book.changed()] == ["b2", "b3"]


def test_the_epoch_unseen_for_longest_is_forgotten_first() -> None:
    book = DeliveryBook()
    for epoch in (9, 8, 7, 6):  # restored in whatever order
        book.restore("b1", epoch, 0, 0)
    book.watermark("b1", 9)

    book.start("b1", 10, 0)

    assert book.watermark("b1", 8) is None
    assert book.watermark("b1", 9) is not None


def test_a_board_owes_what_its_other_epochs_used_and_did_not_deliver() -> None:
    book = DeliveryBook()
    book.restore("b1", 6, 3, 3)
    book.restore("b1", 7, 10, 14)
    present = book.start("b1", 8, 0)
    present.claim(5)

    lost = book.give_up("b1", 8)

    assert [(mark.epoch, first, last) for mark, first, last in lost] == [(7, 10, 13)]
    assert book.give_up("b1", 8) == []
    assert present.received_next == 0
