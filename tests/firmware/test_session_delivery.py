"""board/session.py: batches, window, credit, retransmission, pause."""

from itertools import pairwise
from typing import Any

import pytest

from tests.firmware.model_gateway import (
    MORE,
    OLDEST,
    READ,
    RESENT,
    Batch,
    ack_line,
    batch,
    drain,
    welcome_line,
)
from tests.firmware.session_bench import EPOCH, INFO, Ring, Session, board, push


def at_work(credit: int = 3, ring_bytes: int = 4096) -> Any:  # noqa: ANN401 - the firmware is untyped
    session = board(ring_bytes)
    drain(session, 0)
    session.on_line(welcome_line(credit=credit), 0)
    drain(session, 0)
    return session


def reads(session: Any, now_ms: int) -> list[Batch]:  # noqa: ANN401 - the firmware is untyped
    return [batch(frame) for frame in drain(session, now_ms) if frame.kind == READ]


def spans(session: Any, now_ms: int) -> list[tuple[int, int]]:  # noqa: ANN401 - the firmware is untyped
    return [(read.first_seq, read.next_seq) for read in reads(session, now_ms)]


# A READ of at most 400 characters carries 275 bytes of records: 22 records of 12 bytes.


def test_a_fresh_record_is_sent_at_once() -> None:
    session = at_work()
    records = push(session, 1)

    assert session.due_ms(500) == 0
    (read,) = reads(session, 500)

    assert read == Batch(OLDEST, EPOCH, 0, 500, 0, records)


def test_lines_of_readings_stay_within_400_characters() -> None:
    session = at_work(credit=255)
    for size in (12, 30, 255, 7, 100, 64, 17) * 6:
        push(session, 1, size)

    lines = list(iter(lambda: session.next_line(10), None))

    assert max(map(len, lines)) <= 400


def test_only_a_window_of_batches_is_in_flight() -> None:
    session = at_work()
    push(session, 100)

    flags = [read.flags for read in reads(session, 10)]

    assert flags == [OLDEST | MORE, MORE, MORE]
    assert spans(session, 20) == []


def test_an_ack_makes_room_for_the_next_batch() -> None:
    session = at_work()
    push(session, 100)
    drain(session, 10)

    session.on_line(ack_line(22), 20)

    assert session.ring.first == 22
    assert spans(session, 20) == [(66, 88)]


def test_what_was_received_is_kept_and_not_sent_again() -> None:
    session = at_work()
    push(session, 44)
    drain(session, 10)

    session.on_line(ack_line(0, got=44), 100)

    assert session.ring.count == 44
    assert spans(session, 500) == []
    assert spans(session, 7000) == []


def test_an_ack_without_the_tail_says_received_is_safe() -> None:
    session = at_work()
    push(session, 10)
    drain(session, 10)

    session.on_line(ack_line(10), 20)

    assert session.ring.count == 0


def test_an_unanswered_batch_is_sent_again_ever_later() -> None:
    session = at_work()
    push(session, 1)
    times = []

    for now_ms in range(1, 40_000):
        session._heard_ms = now_ms  # noqa: SLF001 - the gateway is there, and only its ACKs are lost
        times += [now_ms] * len(reads(session, now_ms))

    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == [400, 800, 1600, 3200, 6400, 8000, 8000, 8000]


def test_all_batches_in_flight_are_sent_again() -> None:
    session = at_work()
    push(session, 100)
    drain(session, 10)

    again = reads(session, 410)

    assert [(read.first_seq, read.next_seq) for read in again] == [(0, 22), (22, 44), (44, 66)]
    assert [read.flags for read in again] == [RESENT | OLDEST | MORE, RESENT | MORE, RESENT | MORE]


def test_progress_resets_the_patience() -> None:
    session = at_work()
    push(session, 100)
    for now_ms in (10, 410, 1210):
        assert reads(session, now_ms)

    session.on_line(ack_line(22), 1300)
    drain(session, 1300)

    assert session.due_ms(1300) == 400


def test_a_repeated_ack_does_not_put_off_the_retransmission() -> None:
    session = at_work()
    push(session, 100)
    drain(session, 10)

    for now_ms in range(50, 400, 50):
        session.on_line(ack_line(0), now_ms)

    assert session.due_ms(400) == 10


def test_a_hole_is_filled_at_once() -> None:
    session = at_work()
    push(session, 66)
    drain(session, 10)

    session.on_line(ack_line(22, rewind=True), 20)

    assert spans(session, 20) == [(22, 44), (44, 66)]


def test_a_rewind_may_lie_before_what_was_received() -> None:
    session = at_work()
    push(session, 66)
    drain(session, 10)
    session.on_line(ack_line(0, got=66), 20)

    session.on_line(ack_line(0, got=22, rewind=True), 30)

    assert spans(session, 30) == [(22, 44), (44, 66)]


def test_an_old_ack_is_harmless() -> None:
    session = at_work()
    push(session, 66)
    drain(session, 10)
    session.on_line(ack_line(44), 20)

    session.on_line(ack_line(22), 30)

    assert session.ring.first == 44
    assert spans(session, 30) == []


@pytest.mark.parametrize(
    "line",
    [ack_line(11), ack_line(0, got=11), ack_line(5, got=4), ack_line(2**32 - 1)],
    ids=["safe beyond", "got beyond", "got before safe", "largest"],
)
def test_an_ack_of_what_was_never_sent_is_refused(line: bytes) -> None:
    session = at_work()
    push(session, 10)
    drain(session, 10)

    session.on_line(line, 20)

    assert session.ring.count == 10
    assert session.bad_frames == 1


def test_an_ack_of_another_epoch_is_ignored() -> None:
    session = at_work()
    push(session, 10)
    drain(session, 10)

    session.on_line(ack_line(10, epoch=6), 20)

    assert session.ring.count == 10


def test_a_paused_board_keeps_silent_and_probes() -> None:
    session = at_work()
    push(session, 100)
    drain(session, 10)
    session.on_line(ack_line(22, credit=0), 20)
    push(session, 5)

    silent = [spans(session, now_ms) for now_ms in range(20, 8020, 20)]
    probe = reads(session, 8020)

    assert not any(silent)
    assert [(read.first_seq, read.flags & OLDEST) for read in probe] == [(22, OLDEST)]


def test_a_paused_board_goes_on_when_it_may() -> None:
    session = at_work()
    push(session, 100)
    drain(session, 10)
    session.on_line(ack_line(22, got=66, credit=0), 20)
    drain(session, 20)

    session.on_line(ack_line(22, got=66, credit=2), 3000)

    assert spans(session, 3000) == [(66, 88), (88, 100)]


def test_a_lost_ack_of_safe_records_is_asked_for() -> None:
    session = at_work()
    push(session, 44)
    drain(session, 10)
    session.on_line(ack_line(0, got=44), 100)

    assert session.due_ms(8000) <= 100
    probe = reads(session, 8100)
    session.on_line(ack_line(44), 8110)

    assert [(read.first_seq, read.flags) for read in probe] == [(0, RESENT | OLDEST | MORE)]
    assert session.ring.count == 0


def test_the_credit_is_the_window() -> None:
    session = at_work(credit=1)
    push(session, 100)

    assert spans(session, 10) == [(0, 22)]
    session.on_line(ack_line(22, credit=2), 20)

    assert spans(session, 20) == [(22, 44), (44, 66)]


def test_a_record_lost_in_the_ring_is_told() -> None:
    session = at_work(ring_bytes=120)
    push(session, 5)
    drain(session, 10)

    records = push(session, 12)
    (read,) = reads(session, 10)

    assert (read.first_seq, read.flags, read.lost) == (7, OLDEST, 7)
    assert read.records == records[2:]


def test_lost_records_saturate_their_counter() -> None:
    session = at_work(ring_bytes=12)

    push(session, 70_000)
    (read,) = reads(session, 10)

    assert (read.first_seq, read.lost) == (69_999, 65_535)


def test_sessions_share_a_ring_and_its_acks() -> None:
    ring = Ring(4096)
    usb, uart = (Session(INFO, ring, EPOCH) for _ in range(2))
    for session in (usb, uart):
        drain(session, 0)
        session.on_line(welcome_line(), 0)
    push(usb, 44)
    assert spans(usb, 10) == [(0, 22), (22, 44)]
    assert spans(uart, 10) == [(0, 22), (22, 44)]

    usb.on_line(ack_line(22), 20)
    push(usb, 22)

    assert spans(usb, 20) == [(44, 66)]
    assert spans(uart, 20) == [(44, 66)]
    assert spans(uart, 420) == [(22, 44), (44, 66)]


def test_of_a_closed_epoch_the_gateway_may_have_more_than_was_kept() -> None:
    """It was still to become safe when the board lost its power."""
    session = board()
    session.closed = True
    push(session, 10)
    drain(session, 0)
    session.on_line(welcome_line(safe=5), 0)
    drain(session, 0)

    session.on_line(ack_line(30, 30), 10)

    assert session.ring.count == 0
    assert session.ring.safe == 10
    assert session.bad_frames == 0
