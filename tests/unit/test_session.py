"""The gateway's session against hand-made frames; the firmware's own is met back to back."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.frames import Frame, open_frame
from gateway.protocol.messages import (
    Ack,
    AckFlag,
    ActuatorReport,
    Bye,
    Channel,
    Command,
    Hello,
    HelloRequest,
    Log,
    Message,
    MessageType,
    Ping,
    Pong,
    Read,
    ReadFlag,
    Response,
    Stream,
    StreamRequest,
    Welcome,
    decode,
    encode,
)
from gateway.protocol.requests import Order
from gateway.protocol.session import Session
from gateway.protocol.session_events import (
    ActuatorStated,
    BoardTime,
    CommandEnded,
    CommandReturned,
    Described,
    Forgotten,
    Joined,
    LeaveReason,
    Left,
    Logged,
    Missed,
    Outcome,
    Received,
    Refused,
    SessionEvent,
    SessionFault,
)
from tests.support.effort import examples

UNIX_S = 1_790_000_000.123
_NUMBERS = count()
STREAM = Stream(0, "climate", "h", (Channel("temperature", "°C", -2, "temperature"),))
OTHER_STREAM = Stream(1, "light", "I", (Channel("light", "lx", 0, "illuminance"),))
PUMP = ActuatorReport("pump", "Pump", "switch", state=False)


def hello(**said: Any) -> Hello:  # noqa: ANN401  # any field of a HELLO
    fields: dict[str, Any] = {
        "protocol": 1,
        "id": "b1",
        "epoch": 7,
        "next_seq": 0,
        "unacked": 0,
        "streams": 1,
        "nonce": 99,
    }
    return Hello(**fields | said)


def read(first_seq: int, count: int = 2, *, flags: int = 0, epoch: int = 7) -> Read:
    records = b"".join(pack("<BBIh", 8, 0, 1000 + first_seq + n, n) for n in range(count))
    return Read(flags, epoch, first_seq, 5000, 0, count, records)


class Peer:
    """Plays the board of one session, and keeps the time."""

    def __init__(self, book: DeliveryBook | None = None, session_id: str = "5e55") -> None:
        self.book = DeliveryBook() if book is None else book
        self.session = Session(self.book, session_id)
        self.now_s = 100.0
        self.outputs = 0
        self.session.on_output = self._count_output

    def _count_output(self) -> None:
        self.outputs += 1

    def command(
        self,
        name: str,
        arguments: Any,  # noqa: ANN401  # any JSON
        ttl_s: float,
        **differently: Any,  # noqa: ANN401  # any field of an Order
    ) -> tuple[str, CommandEnded | CommandReturned | None]:
        """Give the session an order for the board of `hello()`; return its id and what it says."""
        order = Order(
            f"5e55.{next(_NUMBERS)}", name, arguments, self.now_s + ttl_s, "b1", hello().life
        )
        order = replace(order, **differently)
        return order.command_id, self.session.command(order, self.now_s)

    def say(self, *messages: Message, mid: int = 0) -> list[SessionEvent]:
        return [
            event
            for message in messages
            for event in self.session.receive(encode(message, mid), self.now_s, UNIX_S)
        ]

    def wait(self, for_s: float) -> list[SessionEvent]:
        """Let time pass; ticks come when they are due."""
        events: list[SessionEvent] = []
        end_s = self.now_s + for_s
        while (deadline_s := self.session.deadline_s) is not None and deadline_s <= end_s:
            self.now_s = max(self.now_s, deadline_s)
            events += self.session.tick(self.now_s)
        self.now_s = end_s
        return events

    def heard(self) -> list[Message]:
        messages = []
        for line in self.session.data_to_send().splitlines():
            frame = open_frame(line)
            assert isinstance(frame, Frame)
            message = decode(frame)
            assert isinstance(message, Message)
            messages.append(message)
        return messages

    def mids(self) -> list[int]:
        frames = [open_frame(line) for line in self.session.data_to_send().splitlines()]
        return [frame.mid for frame in frames if isinstance(frame, Frame)]

    def join(self, **said: Any) -> None:  # noqa: ANN401  # any field of a HELLO
        self.say(hello(**said), STREAM)
        self.heard()


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def joined(peer: Peer) -> Peer:
    peer.join()
    return peer


def received(events: Iterable[SessionEvent]) -> list[int]:
    """Seqs of the records received."""
    return [
        event.first_seq + at
        for event in events
        if isinstance(event, Received)
        for at in range(len(event.records))
    ]


def make_safe(events: Iterable[SessionEvent]) -> None:
    for event in events:
        if isinstance(event, Received):
            event.watermark.mark_safe(event.first_seq, event.first_seq + len(event.records) - 1)
        if isinstance(event, Missed):
            event.watermark.mark_safe(event.first_seq, event.last_seq)


def faults(events: Iterable[SessionEvent]) -> list[SessionFault]:
    return [event.fault for event in events if isinstance(event, Refused)]


# ---- joining


def test_a_hello_is_welcomed_with_time_credit_and_resume_point(peer: Peer) -> None:
    events = peer.say(hello(next_seq=9, unacked=4, acked=5))

    assert events == [Joined("b1", hello(next_seq=9, unacked=4, acked=5))]
    assert peer.heard() == [Welcome("5e55", 1_790_000_000, 123, 7, 5, 3, 5.0)]


def test_a_board_of_a_later_protocol_is_not_welcomed(peer: Peer) -> None:
    events = peer.say(hello(protocol=2))

    assert faults(events) == [SessionFault.UNSUPPORTED_PROTOCOL]
    assert peer.heard() == []


def test_a_board_is_described_once_all_its_streams_and_actuators_are_known(peer: Peer) -> None:
    peer.say(hello(streams=2, actuators=1))

    assert peer.say(OTHER_STREAM, PUMP) == []
    assert peer.say(STREAM) == [Described((STREAM, OTHER_STREAM), (PUMP,))]


def test_a_board_that_has_nothing_is_described_at_once(peer: Peer) -> None:
    events = peer.say(hello(streams=0))

    assert events == [Joined("b1", hello(streams=0)), Described((), ())]


def test_what_is_repeated_unchanged_is_no_news(joined: Peer) -> None:
    assert joined.say(STREAM) == []


def test_a_stream_that_changes_is_news(joined: Peer) -> None:
    changed = Stream(0, "climate", "I", STREAM.channels)

    assert joined.say(changed) == [Described((changed,), ())]


def test_an_actuators_new_state_is_told_and_its_new_range_describes_the_board_anew(
    peer: Peer,
) -> None:
    peer.join(actuators=1)
    peer.say(PUMP)
    on = ActuatorReport("pump", "Pump", "switch", state=True)
    dimmer = ActuatorReport("pump", "Pump", "number", 0, 100, state=1)

    assert peer.say(on, on) == [ActuatorStated(on)]
    assert peer.say(dimmer) == [Described((STREAM,), (dimmer,))]


def test_a_missing_description_is_asked_for_once_a_second_and_ten_times(peer: Peer) -> None:
    peer.say(hello(streams=2), STREAM)
    peer.heard()
    asked: list[object] = []
    events: list[SessionEvent] = []

    for _ in range(100):
        events += peer.wait(0.125)
        peer.say(Log(2, "alive"))
        asked += [(peer.now_s, message) for message in peer.heard()]

    assert asked == [(101.0 + n, StreamRequest(255)) for n in range(10)]
    assert faults(events) == [SessionFault.UNDESCRIBED]
    assert events[-1] == Described((STREAM,), ())


def test_a_board_that_invents_streams_is_taken_with_its_first_512_channels(peer: Peer) -> None:
    peer.join(streams=3)
    streams = [
        Stream(number, "s", "b" * 200, (Channel("k", "", None, ""),) * 200) for number in (1, 2, 3)
    ]

    (described,) = peer.say(*streams)

    assert described == Described((STREAM, *streams[:2]), ())


def test_records_are_not_taken_before_the_board_is_described_and_then_called_for(
    peer: Peer,
) -> None:
    peer.say(hello(streams=2), STREAM)
    peer.heard()

    assert received(peer.say(read(0))) == []
    assert peer.heard() == [Ack(7, 0, 3, 0, 0)]
    peer.say(OTHER_STREAM)
    assert peer.heard() == [Ack(7, 0, 3, AckFlag.REWIND, 0)]
    assert received(peer.say(read(0))) == [0, 1]


def test_a_board_that_restarted_is_described_anew_before_its_records_are_taken(
    joined: Peer,
) -> None:
    joined.say(hello(nonce=100))

    assert received(joined.say(read(0))) == []
    joined.say(STREAM)
    assert received(joined.say(read(0))) == [0, 1]


def test_a_board_that_only_joins_again_is_still_known(joined: Peer) -> None:
    joined.say(hello())

    assert received(joined.say(read(0))) == [0, 1]


def test_a_strange_boards_frames_are_answered_with_a_hello_request_once_a_second(
    peer: Peer,
) -> None:
    requests = 0

    for _ in range(25):
        peer.say(read(0), Ping(5), STREAM, PUMP, Bye(0))
        requests += peer.heard().count(HelloRequest())
        peer.wait(0.1)

    assert requests == 3


def test_a_strange_boards_log_is_not_lost(peer: Peer) -> None:
    assert peer.say(Log(3, "hot")) == [Logged(3, "hot")]
    assert peer.heard() == [HelloRequest()]


def test_the_second_board_of_an_id_is_told_of_once_and_joins_when_the_first_leaves() -> None:
    first = Peer()
    second = Peer(first.book)
    first.join()

    refused = second.say(hello(epoch=9), hello(epoch=9), hello(epoch=9))

    assert faults(refused) == [SessionFault.DUPLICATE_ID]
    assert second.heard() == []
    first.say(Bye(0))
    assert any(isinstance(event, Joined) for event in second.say(hello(epoch=9)))


def test_ids_that_would_share_a_topic_are_one_id() -> None:
    first = Peer()
    second = Peer(first.book)
    first.join(id="Board 1")

    assert faults(second.say(hello(id="board#1"))) == [SessionFault.DUPLICATE_ID]


def test_another_board_on_the_same_link_replaces_the_first(joined: Peer) -> None:
    events = joined.say(hello(id="b2"))

    assert events == [Left("b1", LeaveReason.REPLACED), Joined("b2", hello(id="b2"))]
    assert Peer(joined.book).say(hello(epoch=8)) == [Joined("b1", hello(epoch=8))]


def test_an_epoch_that_starts_over_is_refused_with_a_resume_point_beyond_it(joined: Peer) -> None:
    joined.say(read(0, 5))
    joined.heard()

    events = joined.say(hello(next_seq=4, unacked=4))

    assert faults(events) == [SessionFault.EPOCH_REUSED]
    (welcome,) = joined.heard()
    assert isinstance(welcome, Welcome)
    assert (welcome.epoch, welcome.next_seq) == (7, 2**32 - 1)
    assert joined.say(read(0, 4)) == []
    assert [event for event in joined.say(hello(epoch=8)) if isinstance(event, Joined)]


def test_numbers_the_board_was_heard_to_use_are_not_used_again_in_the_same_epoch(
    joined: Peer,
) -> None:
    joined.say(Ping(1000, next_seq=9))  # they never arrived

    events = joined.say(hello(next_seq=8, unacked=8))

    assert faults(events) == [SessionFault.EPOCH_REUSED]


# ---- earlier lives of a board, earlier runs of the gateway


def forgotten(events: Iterable[SessionEvent]) -> list[tuple[int, int, int]]:
    return [
        (event.watermark.epoch, event.first_seq, event.last_seq)
        for event in events
        if isinstance(event, Forgotten)
    ]


@pytest.mark.parametrize(
    "claim",
    [
        hello(next_seq=5, unacked=3),
        Ping(2000, next_seq=5),
        read(4, 1),  # behind a hole
    ],
    ids=["hello", "ping", "read"],
)
def test_what_an_epoch_used_and_never_delivered_is_given_up_when_the_next_begins(
    joined: Peer, claim: Message
) -> None:
    joined.say(read(0, 2), claim)

    events = joined.say(hello(epoch=8, nonce=100))

    assert forgotten(events) == [(7, 2, 4)]
    assert isinstance(events[0], Joined), "a gap has a device"
    assert joined.session.counts.forgotten == 3
    assert forgotten(joined.say(hello(epoch=8, nonce=100))) == []


def test_an_old_ping_claims_nothing(joined: Peer) -> None:
    joined.say(read(0, 2), Ping(2000))

    assert forgotten(joined.say(hello(epoch=8))) == []


def test_what_was_given_up_is_safe_once_it_is_published(joined: Peer) -> None:
    joined.say(Ping(2000, next_seq=5))
    (lost,) = [event for event in joined.say(hello(epoch=8)) if isinstance(event, Forgotten)]

    lost.watermark.mark_safe(lost.first_seq, lost.last_seq)

    assert [(m.epoch, m.safe_next, m.claimed_next) for m in joined.book.changed()] == [
        (7, 5, 5),
        (8, 0, 0),
    ]


def test_a_board_that_knows_how_far_its_last_epoch_went_makes_the_loss_exact(joined: Peer) -> None:
    joined.say(read(0, 2))

    events = joined.say(hello(epoch=8, previous_epoch=7, previous_next=40))

    assert forgotten(events) == [(7, 2, 39)]


def test_an_epoch_nobody_heard_of_is_lost_from_where_the_board_was_told_it_is_safe(
    peer: Peer,
) -> None:
    said = {"previous_epoch": 7, "previous_next": 40, "previous_acked": 30}

    assert forgotten(peer.say(hello(epoch=8, **said))) == [(7, 30, 39)]
    assert forgotten(peer.say(hello(epoch=8, **said))) == []


def test_of_an_epoch_nobody_heard_of_nothing_is_guessed(peer: Peer) -> None:
    assert forgotten(peer.say(hello(epoch=8, previous_epoch=7, previous_next=40))) == []


def test_an_epoch_that_names_itself_as_the_one_before_means_nothing_by_it(peer: Peer) -> None:
    said = {"previous_epoch": 7, "previous_next": 40, "previous_acked": 0}

    assert forgotten(peer.say(hello(**said))) == []
    peer.say(STREAM)
    assert received(peer.say(read(0))) == [0, 1]


def test_the_records_of_a_closed_epoch_are_taken_before_the_next_one(joined: Peer) -> None:
    """The gateway knows of more than the board had written to flash when its power went."""
    make_safe(joined.say(read(0, 4)))
    joined.say(Ping(2000, next_seq=12))
    closed = hello(next_seq=10, unacked=10, is_closed=True, nonce=100)

    events = joined.say(closed, STREAM, read(0, 6), read(6, 4))
    (welcome,) = [message for message in joined.heard() if isinstance(message, Welcome)]
    after = joined.say(hello(epoch=8, nonce=100, previous_epoch=7, previous_next=10))

    assert faults(events) == []
    assert (welcome.epoch, welcome.next_seq) == (7, 4)
    assert received(events) == [4, 5, 6, 7, 8, 9]
    assert forgotten(after) == [(7, 10, 11)]


def test_a_closed_epoch_may_have_less_than_what_arrived_before(joined: Peer) -> None:
    make_safe(joined.say(read(0, 4)))
    joined.heard()

    events = joined.say(hello(next_seq=3, unacked=3, is_closed=True))

    (welcome,) = joined.heard()
    assert isinstance(welcome, Welcome)
    assert faults(events) == []
    assert (welcome.epoch, welcome.next_seq) == (7, 4)


def restored(safe_next: int, claimed_next: int) -> Peer:
    peer = Peer()
    peer.book.restore("b1", 7, safe_next, claimed_next)
    return peer


def test_after_a_restart_of_the_gateway_a_board_resumes_where_it_was_safe() -> None:
    peer = restored(10, 12)

    events = peer.say(hello(next_seq=12, unacked=4, acked=8), STREAM)
    (welcome, *_) = peer.heard()
    events += peer.say(read(8, 4))

    assert isinstance(welcome, Welcome)
    assert welcome.next_seq == 10
    assert received(events) == [10, 11]
    assert not [event for event in events if isinstance(event, Missed | Forgotten)]


def test_what_a_board_was_told_is_safe_after_the_watermark_was_written_is_no_gap() -> None:
    peer = restored(10, 12)

    events = peer.say(hello(next_seq=30, unacked=2, acked=28), STREAM, read(28))

    assert not [event for event in events if isinstance(event, Missed)]
    assert received(events) == [28, 29]
    assert [tuple(progress) for progress in peer.book.changed()] == [("b1", 7, 28, 30)]


def test_what_the_ring_dropped_behind_what_was_safe_is_still_a_gap_after_a_restart() -> None:
    peer = restored(10, 12)

    events = peer.say(hello(next_seq=30, unacked=2, acked=20))

    assert [(e.first_seq, e.last_seq) for e in events if isinstance(e, Missed)] == [(20, 27)]


def test_a_board_that_lost_its_power_while_the_gateway_was_down_is_missed_all_the_same() -> None:
    peer = restored(10, 12)

    assert forgotten(peer.say(hello(epoch=8))) == [(7, 10, 11)]


# ---- records


def test_records_are_acknowledged_once_they_are_safe(joined: Peer) -> None:
    events = joined.say(read(0))

    assert received(events) == [0, 1]
    assert joined.heard() == []
    make_safe(events)
    assert joined.outputs == 1
    assert joined.heard() == [Ack(7, 2, 3, 0, 2)]


def test_acknowledgements_are_coalesced(joined: Peer) -> None:
    make_safe(joined.say(read(0), read(2)))

    assert joined.heard() == [Ack(7, 4, 3, 0, 4)]


def test_records_unsafe_after_100_ms_are_acknowledged_as_received_only(joined: Peer) -> None:
    joined.say(read(0))

    joined.wait(0.09)
    assert joined.heard() == []
    joined.wait(0.02)
    assert joined.heard() == [Ack(7, 0, 3, 0, 2)]
    joined.wait(3)
    assert joined.heard() == []


def test_a_full_window_is_acknowledged_at_once_so_that_the_board_goes_on(joined: Peer) -> None:
    joined.say(read(0), read(2), read(4))

    assert joined.heard() == [Ack(7, 0, 3, 0, 6)]


def test_after_an_acknowledgement_the_window_is_counted_anew(joined: Peer) -> None:
    joined.say(read(0), read(2), read(4))
    joined.heard()

    joined.say(read(6))

    assert joined.heard() == []


def test_what_became_safe_after_the_board_left_is_not_acknowledged_on_its_link(
    joined: Peer,
) -> None:
    events = joined.say(read(0), Bye(0))

    make_safe(events)

    assert joined.outputs == 0
    assert joined.heard() == []


def test_what_became_safe_out_of_order_is_acknowledged_in_order(joined: Peer) -> None:
    first, second = joined.say(read(0)), joined.say(read(2))
    joined.heard()

    make_safe(second)
    assert joined.heard() == []
    make_safe(first)
    assert joined.heard() == [Ack(7, 4, 3, 0, 4)]


def test_records_that_come_again_are_dropped_counted_and_acknowledged_again(joined: Peer) -> None:
    make_safe(joined.say(read(0, 4)))
    joined.heard()

    assert joined.say(read(0, 4, flags=ReadFlag.RESENT)) == []
    assert joined.session.counts.duplicates == 4
    assert joined.heard() == [Ack(7, 4, 3, 0, 4)]


def test_of_a_batch_that_overlaps_only_the_new_records_are_taken(joined: Peer) -> None:
    joined.say(read(0, 3))

    events = joined.say(read(1, 4))

    assert received(events) == [3, 4]
    assert isinstance(events[0], Received)
    assert [record and record[3] for record in events[0].records] == [2, 3]


def test_a_hole_is_answered_with_a_rewind_at_most_every_50_ms(joined: Peer) -> None:
    joined.say(read(0))
    assert received(joined.say(read(4))) == []
    assert joined.heard() == [Ack(7, 0, 3, AckFlag.REWIND, 2)]

    joined.now_s += 0.04
    joined.say(read(6))
    assert joined.heard() == []
    joined.now_s += 0.02
    joined.say(read(8))
    assert joined.heard() == [Ack(7, 0, 3, AckFlag.REWIND, 2)]


def test_another_hole_is_answered_at_once(joined: Peer) -> None:
    joined.say(read(2))
    joined.heard()

    joined.say(read(0), read(4))

    assert joined.heard() == [Ack(7, 0, 3, AckFlag.REWIND, 2)]


def test_what_is_missing_before_the_oldest_record_is_lost(joined: Peer) -> None:
    joined.say(read(0))

    events = joined.say(read(7, flags=ReadFlag.OLDEST))

    assert isinstance(events[0], Missed)
    assert (events[0].first_seq, events[0].last_seq) == (2, 6)
    assert received(events) == [7, 8]
    assert joined.session.counts.missed == 5


def test_a_loss_is_acknowledged_like_a_record_once_it_is_published(joined: Peer) -> None:
    events = joined.say(read(5, flags=ReadFlag.OLDEST))
    joined.wait(0.2)
    assert joined.heard() == [Ack(7, 0, 3, 0, 7)]

    make_safe(events)

    assert joined.heard() == [Ack(7, 7, 3, 0, 7)]


def test_a_hello_tells_what_was_dropped_since_the_last_acknowledgement(peer: Peer) -> None:
    events = peer.say(hello(next_seq=50, unacked=10, acked=25))

    missed = events[1]
    assert isinstance(missed, Missed)
    assert (missed.first_seq, missed.last_seq) == (25, 39)


def test_a_hello_of_a_known_epoch_tells_what_was_dropped_since_the_last_record(
    joined: Peer,
) -> None:
    joined.say(read(0, 10))

    events = joined.say(hello(next_seq=50, unacked=10))

    assert [(e.first_seq, e.last_seq) for e in events if isinstance(e, Missed)] == [(10, 39)]


def test_a_welcome_acknowledges_what_is_safe_and_not_what_is_received(joined: Peer) -> None:
    events = joined.say(read(0, 4))
    make_safe(events)
    joined.say(read(4, 4))

    joined.say(hello(next_seq=8, unacked=8))

    welcome = joined.heard()[0]
    assert isinstance(welcome, Welcome)
    assert welcome.next_seq == 4


def test_the_next_link_continues_where_the_last_one_ended(joined: Peer) -> None:
    events = joined.say(read(0, 4))
    joined.session.close()
    heir = Peer(joined.book)
    heir.say(hello(next_seq=6, unacked=6), STREAM)
    heir.heard()

    assert received(heir.say(read(0, 6))) == [4, 5]
    heir.heard()
    make_safe(events)
    assert heir.heard() == [Ack(7, 4, 3, 0, 6)]
    assert joined.outputs == 0


def test_records_of_another_epoch_are_not_taken(joined: Peer) -> None:
    events = joined.say(read(0, epoch=6))

    assert faults(events) == [SessionFault.WRONG_EPOCH]
    assert received(events) == []
    assert joined.heard() == [HelloRequest()]


def test_an_unknown_stream_ends_a_batch_and_is_asked_for(joined: Peer) -> None:
    strange = pack("<BBII", 10, 1, 1000, 77)
    known = pack("<BBIh", 8, 0, 1000, 1)
    batch = Read(0, 7, 0, 5000, 0, 3, known + strange + known)
    joined.wait(1.0)

    assert received(joined.say(batch)) == [0]
    assert joined.heard() == [Ack(7, 0, 3, 0, 1), StreamRequest(1)]
    joined.say(OTHER_STREAM)
    assert joined.heard() == [Ack(7, 0, 3, AckFlag.REWIND, 1)]
    assert received(joined.say(batch)) == [1, 2]


def test_a_stream_that_is_never_described_is_given_up_after_ten_requests(joined: Peer) -> None:
    batch = Read(0, 7, 0, 5000, 0, 1, pack("<BBII", 10, 1, 1000, 77))
    asked, events = 0, []

    for _ in range(130):
        events += joined.say(batch)
        events += joined.wait(0.1)
        asked += joined.heard().count(StreamRequest(1))

    assert asked == 10
    assert faults(events) == [SessionFault.UNDESCRIBED, SessionFault.BAD_RECORD]
    assert [event.records for event in events if isinstance(event, Received)] == [[None]]


def test_a_record_that_fits_no_stream_is_lost_and_the_rest_stands(joined: Peer) -> None:
    short = pack("<BBIb", 7, 0, 1000, 1)
    events = joined.say(Read(0, 7, 0, 5000, 0, 2, short + pack("<BBIh", 8, 0, 1000, 5)))

    assert faults(events) == [SessionFault.BAD_RECORD]
    assert [event.records for event in events if isinstance(event, Received)] == [
        [None, (8, 0, 1000, 5)]
    ]
    assert joined.session.counts.unreadable == 1


# ---- pause


def test_a_pause_takes_the_credit_away_and_what_is_in_flight_still_arrives(joined: Peer) -> None:
    joined.session.hold(paused=True)
    assert joined.outputs == 1
    assert joined.heard() == [Ack(7, 0, 0, 0, 0)]

    assert received(joined.say(read(0), read(2), read(4))) == list(range(6))
    assert received(joined.say(read(6))) == []
    assert joined.session.counts.held_off == 1
    assert joined.heard() == [Ack(7, 0, 0, 0, 6)]


def test_what_all_boards_have_on_their_way_at_a_pause_is_bounded() -> None:
    book = DeliveryBook()
    boards = [Peer(book) for _ in range(1000)]
    for number, board in enumerate(boards):
        board.say(hello(id=f"b{number}"), STREAM)
        board.heard()
    book.pause_room.records = 100
    taken: dict[int, list[int]] = {}

    for board in boards:
        board.session.hold(paused=True)
    for number, board in enumerate(boards):
        taken[number] = received(board.say(read(0), read(2), read(4)))
    assert sum(map(len, taken.values())) == 100

    for board in boards:
        board.session.hold(paused=False)
    for number, board in enumerate(boards):
        taken[number] += received(board.say(read(0), read(2), read(4)))
    assert all(seqs == list(range(6)) for seqs in taken.values())


def test_after_a_pause_the_board_is_called_for_what_was_refused(joined: Peer) -> None:
    joined.session.hold(paused=True)
    joined.say(read(0), read(2), read(4), read(6))
    joined.heard()

    joined.session.hold(paused=False)

    assert joined.heard() == [Ack(7, 0, 3, AckFlag.REWIND, 6)]


def test_a_board_that_joins_during_a_pause_gets_no_credit(peer: Peer) -> None:
    peer.session.hold(paused=True)

    peer.say(hello(), STREAM)

    welcome = peer.heard()[0]
    assert isinstance(welcome, Welcome)
    assert welcome.credit == 0
    assert received(peer.say(read(0))) == []


# ---- heartbeat


def test_a_ping_is_answered_with_the_time_and_the_last_acknowledgement(joined: Peer) -> None:
    make_safe(joined.say(read(0)))
    joined.heard()

    events = joined.say(Ping(1234), mid=9)

    assert events == [BoardTime(1234)]
    assert joined.heard() == [Pong(1234, 1_790_000_000, 123), Ack(7, 2, 3, 0, 2)]


def test_a_pong_carries_the_pings_number(joined: Peer) -> None:
    joined.say(Ping(1234), mid=9)

    assert joined.mids()[0] == 9


def test_a_board_silent_for_three_heartbeats_is_gone(joined: Peer) -> None:
    joined.wait(10)
    joined.say(Log(1, "x"))

    assert joined.wait(14.9) == []
    assert joined.wait(0.2) == [Left("b1", LeaveReason.SILENT)]
    assert joined.session.deadline_s is None
    assert Peer(joined.book).say(hello(epoch=8)) == [Joined("b1", hello(epoch=8))]


def test_a_bye_says_when_the_board_will_be_back(joined: Peer) -> None:
    assert joined.say(Bye(60_000)) == [Left("b1", LeaveReason.BYE, 60.0)]


def test_our_own_frames_that_come_back_are_no_sign_of_life(joined: Peer) -> None:
    echoes: list[Message] = [
        Ack(7, 0, 3),
        Welcome("s", 0, 0, 7, 0, 3, 5),
        HelloRequest(),
        StreamRequest(0),
    ]

    events = joined.say(*echoes, Pong(0, 0, 0), Command("set", None, 5, "x"))

    assert faults(events) == [SessionFault.ECHO] * 6
    assert joined.heard() == []
    joined.wait(10)
    joined.say(Ack(7, 0, 3))
    assert joined.wait(5.1) == [Left("b1", LeaveReason.SILENT)]


def test_an_echo_before_joining_is_not_answered(peer: Peer) -> None:
    peer.say(HelloRequest())

    assert peer.heard() == []


def test_unknown_and_bad_messages_are_told_apart_and_are_signs_of_life(joined: Peer) -> None:
    joined.wait(10)

    events = joined.session.receive(Frame(0x60, 0, b"abc"), joined.now_s, UNIX_S)
    events += joined.session.receive(Frame(MessageType.PING, 0, b""), joined.now_s, UNIX_S)

    assert faults(events) == [SessionFault.UNKNOWN_TYPE, SessionFault.BAD_MESSAGE]
    assert joined.wait(14) == []


# ---- commands


def test_a_command_is_sent_with_its_time_and_ends_with_the_answer(joined: Peer) -> None:
    command_id, refused = joined.command("set", {"pump": True}, 10.0)

    assert refused is None
    assert joined.outputs == 1
    assert joined.heard() == [Command("set", {"pump": True}, 10_000, command_id)]
    assert joined.say(Response(command_id, 1), mid=1) == [CommandEnded(command_id, Outcome.DONE, 1)]
    assert joined.say(Response(command_id, 1), mid=1) == []


def test_a_commands_error_is_its_end(joined: Peer) -> None:
    command_id, _ = joined.command("x", None, 10.0)

    assert joined.say(Response(command_id, error="no"), mid=1) == [
        CommandEnded(command_id, Outcome.FAILED, error="no")
    ]


def test_a_command_is_repeated_every_second_with_the_same_ids_and_less_time(joined: Peer) -> None:
    command_id, _ = joined.command("x", None, 2.5)
    sent = []

    for _ in range(24):
        sent += joined.heard()
        joined.wait(0.1)

    assert sent == [Command("x", None, ttl_ms, command_id) for ttl_ms in (2500, 1500, 500)]


def test_an_answer_with_another_number_or_id_ends_nothing(joined: Peer) -> None:
    command_id, _ = joined.command("x", None, 10.0)

    assert joined.say(Response(command_id, 1), mid=2) == []
    assert joined.say(Response("other", 1), mid=1) == []


def test_one_question_at_a_time_is_on_its_way(joined: Peer) -> None:
    first, _ = joined.command("a", None, 10.0)
    second, _ = joined.command("b", None, 10.0)
    batch = Read(0, 7, 0, 5000, 0, 1, pack("<BBII", 10, 1, 1000, 77))
    joined.say(batch)

    assert joined.heard() == [Ack(7, 0, 3, 0, 0), Command("a", None, 10_000, first)]
    joined.wait(0.5)
    assert joined.heard() == []
    joined.say(Response(first, 1), mid=1)
    assert joined.heard() == [Command("b", None, 9_500, second)]
    joined.say(Response(second, 1), mid=2)
    joined.wait(0.5)
    assert joined.heard() == [StreamRequest(1)]


def test_a_command_and_a_missing_description_take_turns(peer: Peer) -> None:
    peer.say(hello(streams=2), STREAM)
    peer.heard()
    command_id, _ = peer.command("x", None, 10.0)
    sent = []

    for _ in range(46):
        peer.wait(0.1)
        sent += [type(message) for message in peer.heard()]

    assert sent == [Command, StreamRequest, Command, StreamRequest]
    assert peer.say(Response(command_id, 1), mid=1)


def test_a_command_that_was_never_sent_expires(joined: Peer) -> None:
    joined.command("a", None, 10.0)
    command_id, _ = joined.command("x", None, 2.0)

    assert joined.wait(1.9) == []
    assert joined.wait(0.2) == [CommandEnded(command_id, Outcome.EXPIRED)]
    assert command_id not in {m.command_id for m in joined.heard() if isinstance(m, Command)}


def test_a_command_that_was_sent_and_never_answered_may_have_been_done(joined: Peer) -> None:
    command_id, _ = joined.command("x", None, 2.0)

    assert joined.wait(2.1) == [CommandEnded(command_id, Outcome.UNKNOWN)]


@pytest.mark.parametrize("said", [{"nonce": 0}, {"nonce": 100}, {"epoch": 8}])
def test_a_board_that_lost_its_memory_is_not_asked_again(peer: Peer, said: dict[str, int]) -> None:
    first = hello(**({"nonce": 0} if "nonce" in said and not said["nonce"] else {}))
    peer.join(nonce=first.nonce)
    sent, _ = peer.command("x", None, 20.0, life=first.life)
    waiting, _ = peer.command("y", None, 20.0, life=first.life)
    peer.heard()

    events = peer.say(hello(**said))

    assert events[:2] == [CommandEnded(sent, Outcome.UNKNOWN), CommandReturned(waiting, False)]
    peer.say(STREAM)
    peer.wait(3.0)
    assert not any(isinstance(message, Command) for message in peer.heard())


@pytest.mark.parametrize(
    "differently", [{"device": "b2"}, {"life": hello(nonce=100).life}, {"life": ""}]
)
def test_a_command_for_another_board_or_another_of_its_lives_is_given_back(
    joined: Peer, differently: dict[str, str]
) -> None:
    command_id, returned = joined.command("x", None, 10.0, **differently)

    assert returned == CommandReturned(command_id, was_sent=False)
    assert joined.heard() == []


def test_a_command_for_a_board_that_is_not_there_is_given_back(peer: Peer) -> None:
    command_id, returned = peer.command("x", None, 10.0, was_sent=True)

    assert returned == CommandReturned(command_id, was_sent=True)
    assert peer.session.deadline_s is None


def test_a_command_of_an_earlier_run_is_sent_again_under_its_id(joined: Peer) -> None:
    command_id, _ = joined.command("x", None, 10.0, command_id="earlier.1", was_sent=True)

    assert joined.heard() == [Command("x", None, 10_000, "earlier.1")]
    assert joined.say(Response("earlier.1", 1), mid=1) == [
        CommandEnded("earlier.1", Outcome.DONE, 1)
    ]
    assert command_id == "earlier.1"


def test_a_command_of_an_earlier_run_that_finds_no_answer_is_unknown(joined: Peer) -> None:
    joined.command("a", None, 10.0)
    command_id, _ = joined.command("x", None, 2.0, was_sent=True)  # its turn never comes

    assert joined.wait(2.1) == [CommandEnded(command_id, Outcome.UNKNOWN)]


def test_a_board_without_a_name_for_its_life_is_never_asked_again(peer: Peer) -> None:
    peer.join(nonce=0)

    command_id, ended = peer.command("x", None, 10.0, life="", was_sent=True)

    assert ended == CommandEnded(command_id, Outcome.UNKNOWN)
    assert peer.heard() == []


def test_a_board_that_remembers_is_asked_again(joined: Peer) -> None:
    command_id, _ = joined.command("x", None, 20.0)
    joined.heard()

    joined.say(hello())
    joined.wait(1.0)

    assert Command("x", None, 19_000, command_id) in joined.heard()


@pytest.mark.parametrize(
    "leaving",
    [hello(id="b2"), Bye(5000), hello(epoch=6, next_seq=0)],
    ids=["other", "bye", "reused"],
)
def test_commands_are_given_back_when_their_board_leaves(leaving: Message) -> None:
    joined = Peer()
    joined.book.start("b1", 6, 5).claim(9)
    joined.join()
    first, _ = joined.command("x", None, 20.0)
    second, _ = joined.command("y", None, 20.0)

    events = joined.say(leaving)

    assert events[:2] == [
        CommandReturned(first, was_sent=True),
        CommandReturned(second, was_sent=False),
    ]
    assert isinstance(events[2], Left)
    assert not any(isinstance(message, Command) for message in joined.heard())


def test_commands_are_given_back_when_the_board_falls_silent(joined: Peer) -> None:
    command_id, _ = joined.command("x", None, 60.0)

    assert joined.wait(15.0) == [
        CommandReturned(command_id, was_sent=True),
        Left("b1", LeaveReason.SILENT),
    ]


def test_a_command_too_long_for_the_line_is_refused(joined: Peer) -> None:
    _, refused = joined.command("set", "x" * 200, 10.0)

    assert isinstance(refused, CommandEnded)
    assert refused.outcome is Outcome.FAILED
    assert joined.heard() == []


def test_no_line_to_a_board_is_longer_than_256_characters(joined: Peer) -> None:
    longest = 0
    for size in range(200):
        peer = Peer(session_id="5e55" * 16)
        peer.join()
        peer.command("set", "x" * size, 86_400.0)
        lines = peer.session.data_to_send().splitlines(keepends=True)
        longest = max([longest, *map(len, lines)])
    joined.session.receive(encode(hello(next_seq=2**32 - 1, unacked=9, acked=2**32 - 10)), 1, 2**32)
    welcome = Peer(session_id="5e55" * 16)
    welcome.say(hello(epoch=65_535, next_seq=2**32 - 1))

    assert 250 < longest <= 256
    assert len(welcome.session.data_to_send()) <= 256


def test_a_session_has_at_most_two_commands_at_once(joined: Peer) -> None:
    refused = [joined.command("x", n, 10.0)[1] for n in range(3)]

    assert refused[:2] == [None] * 2
    assert isinstance(refused[2], CommandEnded)
    assert refused[2].outcome is Outcome.FAILED


def test_closing_gives_commands_back_and_lets_the_board_go(joined: Peer) -> None:
    command_id, _ = joined.command("x", None, 10.0)

    events = joined.session.close()

    assert events == [
        CommandReturned(command_id, was_sent=True),
        Left("b1", LeaveReason.CLOSED),
    ]
    assert Peer(joined.book).say(hello(epoch=8)) == [Joined("b1", hello(epoch=8))]


# ---- whatever comes


@settings(max_examples=examples(150), deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.builds(Frame, st.integers(0, 255), st.just(0), st.binary(max_size=60)),
            st.builds(
                lambda first, count, flags, raw: encode(Read(flags, 7, first, 9, 0, count, raw)),
                st.integers(0, 2**32 - 256),
                st.integers(0, 255),
                st.integers(0, 7),
                st.binary(max_size=60),
            ),
            st.sampled_from(
                [encode(m) for m in (hello(), hello(epoch=8), STREAM, PUMP, Ping(1), Bye(1))]
            ),
        ),
        max_size=30,
    )
)
def test_whatever_comes_output_is_bounded_and_a_tick_moves_the_deadline(
    frames: list[Frame],
) -> None:
    peer = Peer()

    for frame in frames:
        peer.session.receive(frame, peer.now_s, UNIX_S)
        peer.now_s += 0.3
        peer.session.tick(peer.now_s)  # nobody collects: the link may be stuck
        deadline_s = peer.session.deadline_s
        assert deadline_s is None or deadline_s > peer.now_s

    assert len(peer.session.data_to_send()) <= 5 * 256
    assert peer.session.data_to_send() == b""
