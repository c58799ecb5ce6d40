import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import Clock
from gateway.model import Gap, GapCause, Record, Sample
from gateway.mqtt.messages import MAX_HISTORY, Composer, Message
from gateway.mqtt.topics import Topics

CLOCK = Clock(monotonic_s=lambda: 100.0, unix_s=lambda: 1_795_330_800.0)


def composer() -> Composer:
    return Composer(Topics("edge/pi"), CLOCK, lambda: "synced")


def sample(seq: int, text: str = "") -> Sample:
    return Sample("dev", 1, seq, 100.0, {"text": text})


def gap(first_seq: int, last_seq: int) -> Gap:
    return Gap("dev", 1, first_seq, last_seq, GapCause.RING_OVERFLOW, 100.0)


def told(message: Message) -> tuple[str, list[int]]:
    """The last level of the topic, and the sequence numbers a subscriber reads in the payload."""
    kind = message.topic.removeprefix("edge/pi/dev/")
    document = json.loads(message.payload)
    if kind == "gap":
        return kind, list(range(document["from"], document["to"] + 1))
    entries = document if kind == "history" else [document]
    return kind, [int(entry["id"].split("/")[2]) for entry in entries]


def test_one_sample_becomes_the_retained_state() -> None:
    (message,) = composer().compose("dev", [sample(5)])

    assert message.topic == "edge/pi/dev/state"
    assert message.retain
    assert told(message) == ("state", [5])


def test_of_many_samples_the_newest_becomes_the_state_and_the_others_one_history() -> None:
    messages = composer().compose("dev", [sample(seq) for seq in range(5)])

    assert [told(message) for message in messages] == [("history", [0, 1, 2, 3]), ("state", [4])]
    assert [message.retain for message in messages] == [False, True]


def test_a_gap_keeps_its_place_in_the_order() -> None:
    records: list[Record] = [sample(0), sample(1), gap(2, 4), sample(5), sample(6)]

    messages = composer().compose("dev", records)

    assert [told(message) for message in messages] == [
        ("history", [0, 1]),
        ("gap", [2, 3, 4]),
        ("history", [5]),
        ("state", [6]),
    ]


def test_a_gap_at_the_end_follows_the_newest_sample() -> None:
    messages = composer().compose("dev", [sample(0), sample(1), gap(2, 2)])

    assert [told(message) for message in messages] == [
        ("history", [0]),
        ("state", [1]),
        ("gap", [2]),
    ]


def test_gaps_alone_touch_no_state() -> None:
    messages = composer().compose("dev", [gap(0, 1), gap(5, 6)])

    assert [told(message) for message in messages] == [("gap", [0, 1]), ("gap", [5, 6])]
    assert not any(message.retain for message in messages)


def test_a_history_has_at_most_a_hundred_samples() -> None:
    messages = composer().compose("dev", [sample(seq) for seq in range(251)])

    assert [(kind, len(seqs)) for kind, seqs in map(told, messages)] == [
        ("history", MAX_HISTORY),
        ("history", MAX_HISTORY),
        ("history", 50),
        ("state", 1),
    ]


def test_a_history_that_is_too_large_for_the_broker_is_split() -> None:
    small = composer()
    small.max_packet_bytes = 1000

    messages = small.compose("dev", [sample(seq, "x" * 100) for seq in range(20)])

    assert [seq for message in messages for seq in told(message)[1]] == list(range(20))
    assert all(message.packet_bytes <= 1000 for message in messages)
    assert len(messages) > 2
    assert not any(message.is_substitute for message in messages)


def test_a_sample_that_is_too_large_by_itself_becomes_a_gap_and_the_others_are_published() -> None:
    small = composer()
    small.max_packet_bytes = 1000

    messages = small.compose("dev", [sample(0), sample(1, "x" * 2000), sample(2)])

    assert [told(message) for message in messages] == [
        ("history", [0]),
        ("gap", [1]),
        ("state", [2]),
    ]
    assert json.loads(messages[1].payload)["cause"] == "refused"
    assert [message.is_substitute for message in messages] == [False, True, False]


def test_the_size_counted_is_never_below_the_packet_s() -> None:
    (message,) = composer().compose("dev", [sample(0)])

    # MQTT 5, 3.3: type and remaining length (here 2 bytes), topic with its length, packet
    # identifier, property length, payload.
    packet = 1 + 2 + 2 + len(message.topic) + 2 + 1 + len(message.payload)
    assert packet <= message.packet_bytes <= packet + 2


def test_what_the_broker_finds_unfit_is_halved_until_the_culprit_is_alone() -> None:
    sender = composer()
    messages = sender.compose("dev", [sample(seq) for seq in range(9)])[:1]

    sent: list[tuple[str, list[int]]] = []
    while messages:
        message = messages.pop(0)
        kind, seqs = told(message)
        if kind == "history" and 5 in seqs:  # the broker does not like number 5
            messages[:0] = sender.smaller("dev", message)
        else:
            sent.append((kind, seqs))

    assert ("gap", [5]) in sent
    assert [seq for _, seqs in sent for seq in seqs] == list(range(8))


def test_a_refused_report_of_a_loss_is_not_repeated() -> None:
    sender = composer()
    (state,) = sender.compose("dev", [sample(0)])
    (substitute,) = sender.smaller("dev", state)
    (reported,) = sender.compose("dev", [gap(1, 2)])

    assert substitute.is_substitute
    assert sender.smaller("dev", substitute) == []
    assert sender.smaller("dev", reported) == []


def test_a_device_without_a_proper_name_is_refused() -> None:
    with pytest.raises(ValueError, match="not a topic"):
        composer().compose("a/+", [Sample("a/+", 1, 0, 100.0, {})])


RECORDS = st.lists(st.sampled_from(["sample", "large", "gap"]), min_size=1, max_size=130)


@given(RECORDS, st.sampled_from([None, 400, 700, 5000]))
def test_every_number_is_told_exactly_once_and_in_order(
    kinds: list[str], max_packet_bytes: int | None
) -> None:
    records: list[Record] = []
    for seq, kind in enumerate(kinds):
        records.append(
            gap(seq, seq) if kind == "gap" else sample(seq, "x" * 500 * (kind == "large"))
        )
    sender = composer()
    sender.max_packet_bytes = max_packet_bytes

    messages = sender.compose("dev", records)

    assert [seq for message in messages for seq in told(message)[1]] == list(range(len(kinds)))
    assert [record for message in messages for record in message.records] == records
    assert sum(message.retain for message in messages) <= 1
    assert all(message.retain == message.topic.endswith("/state") for message in messages)
    assert all(message.packet_bytes <= (max_packet_bytes or 10**6) for message in messages)
