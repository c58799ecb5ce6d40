import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import Clock, TimeBase
from gateway.model import Batch, BatchKind, Gap, GapCause, Record, Sample
from gateway.mqtt.messages import MAX_HISTORY, Composer, Message
from gateway.mqtt.topics import Topics
from gateway.timekeeper import TimeKeeper

CLOCK = Clock(
    monotonic_s=lambda: 100.0, unix_s=lambda: 1_795_330_800.0, is_synchronised=lambda: True
)
"""At 100 s it is 2026-11-22T07:00:00Z."""

KINDS = st.sampled_from([BatchKind.LIVE, BatchKind.BACKLOG])


def composer(batch_max: int = MAX_HISTORY) -> Composer:
    return Composer(Topics("edge/pi"), TimeKeeper(CLOCK), batch_max)


def batch(records: Sequence[Record], kind: BatchKind = BatchKind.LIVE) -> Batch:
    return Batch("dev", tuple(records), kind)


def sample(seq: int, text: str = "") -> Sample:
    return Sample("dev", 1, seq, 100.0, {"text": text})


def empty(seq: int) -> Sample:
    """Of which the configuration left nothing."""
    return Sample("dev", 1, seq, 100.0, {})


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
    (message,) = composer().compose(batch([sample(5)]))

    assert message.topic == "edge/pi/dev/state"
    assert message.retain
    assert told(message) == ("state", [5])


def test_of_many_samples_the_newest_becomes_the_state_and_the_others_one_history() -> None:
    messages = composer().compose(batch([sample(seq) for seq in range(5)]))

    assert [told(message) for message in messages] == [("history", [0, 1, 2, 3]), ("state", [4])]
    assert [message.retain for message in messages] == [False, True]


def test_a_gap_keeps_its_place_in_the_order() -> None:
    records: list[Record] = [sample(0), sample(1), gap(2, 4), sample(5), sample(6)]

    messages = composer().compose(batch(records))

    assert [told(message) for message in messages] == [
        ("history", [0, 1]),
        ("gap", [2, 3, 4]),
        ("history", [5]),
        ("state", [6]),
    ]


def test_a_gap_at_the_end_follows_the_newest_sample() -> None:
    messages = composer().compose(batch([sample(0), sample(1), gap(2, 2)]))

    assert [told(message) for message in messages] == [
        ("history", [0]),
        ("state", [1]),
        ("gap", [2]),
    ]


def test_gaps_alone_touch_no_state() -> None:
    messages = composer().compose(batch([gap(0, 1), gap(5, 6)]))

    assert [told(message) for message in messages] == [("gap", [0, 1]), ("gap", [5, 6])]
    assert not any(message.retain for message in messages)


def test_a_history_has_at_most_a_hundred_samples() -> None:
    messages = composer().compose(batch([sample(seq) for seq in range(251)]))

    assert [(kind, len(seqs)) for kind, seqs in map(told, messages)] == [
        ("history", MAX_HISTORY),
        ("history", MAX_HISTORY),
        ("history", 50),
        ("state", 1),
    ]


@pytest.mark.parametrize("batch_max", [1, 7, 100])
def test_a_history_has_at_most_as_many_samples_as_the_settings_say(batch_max: int) -> None:
    messages = composer(batch_max).compose(batch([sample(seq) for seq in range(20)]))

    assert [seq for message in messages for seq in told(message)[1]] == list(range(20))
    histories = [len(seqs) for kind, seqs in map(told, messages) if kind == "history"]
    assert max(histories) == min(batch_max, 19)


def test_a_backlog_touches_no_state() -> None:
    records: list[Record] = [sample(0), sample(1), gap(2, 4), sample(5)]

    messages = composer().compose(batch(records, BatchKind.BACKLOG))
    alone = composer().compose(batch([sample(6)], BatchKind.BACKLOG))

    assert [told(message) for message in messages + alone] == [
        ("history", [0, 1]),
        ("gap", [2, 3, 4]),
        ("history", [5]),
        ("history", [6]),
    ]
    assert not any(message.retain for message in messages + alone)


def test_a_preview_is_the_state_that_comes_again_in_the_history() -> None:
    newest = sample(9)

    (preview,) = composer().compose(batch([newest], BatchKind.PREVIEW))
    (later,) = composer().compose(batch([sample(8), newest], BatchKind.BACKLOG))

    assert told(preview) == ("state", [9])
    assert preview.retain
    assert preview.is_preview
    assert not later.is_preview
    assert json.loads(later.payload)[-1] == json.loads(preview.payload)


def test_a_preview_that_is_too_large_for_the_broker_is_left_out() -> None:
    small = composer()
    small.max_packet_bytes = 1000

    assert small.compose(batch([sample(0, "x" * 2000)], BatchKind.PREVIEW)) == []


def test_times_of_an_earlier_boot_of_the_machine_are_told_by_its_own_offset() -> None:
    base = TimeBase(1_795_330_800.0 - 86_400 - 100.0, "unsynced")
    earlier = Batch("dev", (sample(0), sample(1)), BatchKind.LIVE, base)

    history, state = composer().compose(earlier)
    (half, _) = composer().smaller(earlier, history._replace(records=earlier.records))
    (present,) = composer().compose(batch([sample(2)]))

    for document in (*json.loads(history.payload), json.loads(state.payload)):
        assert document["time"] == "2026-11-21T07:00:00.000Z"
        assert document["time_quality"] == "unsynced"
    assert json.loads(half.payload)[0]["time"] == "2026-11-21T07:00:00.000Z"
    document = json.loads(present.payload)
    assert (document["time"], document["time_quality"]) == ("2026-11-22T07:00:00.000Z", "synced")


def test_a_history_that_is_too_large_for_the_broker_is_split() -> None:
    small = composer()
    small.max_packet_bytes = 1000

    messages = small.compose(batch([sample(seq, "x" * 100) for seq in range(20)]))

    assert [seq for message in messages for seq in told(message)[1]] == list(range(20))
    assert all(message.packet_bytes <= 1000 for message in messages)
    assert len(messages) > 2
    assert not any(message.is_substitute for message in messages)


def test_a_sample_that_is_too_large_by_itself_becomes_a_gap_and_the_others_are_published() -> None:
    small = composer()
    small.max_packet_bytes = 1000

    messages = small.compose(batch([sample(0), sample(1, "x" * 2000), sample(2)]))

    assert [told(message) for message in messages] == [
        ("history", [0]),
        ("gap", [1]),
        ("state", [2]),
    ]
    assert json.loads(messages[1].payload)["cause"] == "refused"
    assert [message.is_substitute for message in messages] == [False, True, False]


def test_the_size_counted_is_never_below_the_packet_s() -> None:
    (message,) = composer().compose(batch([sample(0)]))

    # MQTT 5, 3.3: type and remaining length (here 2 bytes), topic with its length, packet
    # identifier, property length, payload.
    packet = 1 + 2 + 2 + len(message.topic) + 2 + 1 + len(message.payload)
    assert packet <= message.packet_bytes <= packet + 2


def test_what_the_broker_finds_unfit_is_halved_until_the_culprit_is_alone() -> None:
    sender = composer()
    waiting = batch([sample(seq) for seq in range(9)])
    messages = sender.compose(waiting)[:1]

    sent: list[tuple[str, list[int]]] = []
    while messages:
        message = messages.pop(0)
        kind, seqs = told(message)
        if kind == "history" and 5 in seqs:  # the broker does not like number 5
            messages[:0] = sender.smaller(waiting, message)
        else:
            sent.append((kind, seqs))

    assert ("gap", [5]) in sent
    assert [seq for _, seqs in sent for seq in seqs] == list(range(8))


def test_a_refused_report_of_a_loss_is_not_repeated() -> None:
    sender = composer()
    waiting = batch([sample(0)])
    (state,) = sender.compose(waiting)
    (substitute,) = sender.smaller(waiting, state)
    (reported,) = sender.compose(batch([gap(1, 2)]))

    assert substitute.is_substitute
    assert sender.smaller(waiting, substitute) == []
    assert sender.smaller(waiting, reported) == []


def test_a_device_without_a_proper_name_is_refused() -> None:
    with pytest.raises(ValueError, match="not a topic"):
        composer().compose(Batch("a/+", (Sample("a/+", 1, 0, 100.0, {"t": 1}),)))


def test_a_sample_without_values_is_in_no_message() -> None:
    messages = composer().compose(batch([empty(0), sample(1), empty(2), sample(3), empty(4)]))

    assert [told(message) for message in messages] == [("history", [1]), ("state", [3])]
    assert composer().compose(batch([empty(0)])) == []
    assert composer().compose(batch([empty(0), empty(1)], BatchKind.BACKLOG)) == []


def test_a_preview_shows_the_newest_sample_with_values_or_nothing() -> None:
    (message,) = composer().compose(batch([sample(0), empty(1)], BatchKind.PREVIEW))

    assert told(message) == ("state", [0])
    assert composer().compose(batch([empty(1)], BatchKind.PREVIEW)) == []


@pytest.mark.parametrize("kind", BatchKind)
def test_nothing_is_published_of_a_device_that_is_unwanted(kind: BatchKind) -> None:
    sender = composer()
    sender.unwanted = {"dev"}

    assert sender.compose(batch([sample(0), gap(1, 2), sample(3)], kind)) == []


RECORDS = st.lists(st.sampled_from(["sample", "large", "gap", "empty"]), min_size=1, max_size=130)


@given(RECORDS, st.sampled_from([None, 400, 700, 5000]), KINDS)
def test_every_number_with_values_is_told_exactly_once_and_in_order(
    kinds: list[str], max_packet_bytes: int | None, kind_of_batch: BatchKind
) -> None:
    records: list[Record] = []
    for seq, kind in enumerate(kinds):
        match kind:
            case "gap":
                records.append(gap(seq, seq))
            case "empty":
                records.append(empty(seq))
            case _:
                records.append(sample(seq, "x" * 500 * (kind == "large")))
    expected = [seq for seq, kind in enumerate(kinds) if kind != "empty"]
    sender = composer()
    sender.max_packet_bytes = max_packet_bytes

    messages = sender.compose(batch(records, kind_of_batch))

    assert [seq for message in messages for seq in told(message)[1]] == expected
    assert [each for message in messages for each in message.records] == [
        records[seq] for seq in expected
    ]
    assert sum(message.retain for message in messages) <= 1
    assert all(message.retain == message.topic.endswith("/state") for message in messages)
    assert all(message.packet_bytes <= (max_packet_bytes or 10**6) for message in messages)
