"""The example of a subscriber, fed what the gateway writes."""

import random

from gateway.clock import Clock
from gateway.model import Batch, BatchKind, Gap, GapCause, Record, Sample
from gateway.mqtt.messages import Composer, Message
from gateway.mqtt.names import Names
from gateway.mqtt.topics import Topics
from gateway.timekeeper import TimeKeeper
from tests.support.exactly_once import ExactlyOnce

COMPOSER = Composer(Topics("edge/pi"), TimeKeeper(Clock()))


def sample(seq: int) -> Sample:
    return Sample("dev", 7, seq, 0.0, {"n": seq})


def gap(first_seq: int, last_seq: int) -> Gap:
    return Gap("dev", 7, first_seq, last_seq, GapCause.RING_OVERFLOW, 0.0)


def messages(*records: Record, kind: BatchKind = BatchKind.LIVE) -> list[Message]:
    return COMPOSER.compose(Batch("dev", records, kind))


def numbers(once: ExactlyOnce, sent: list[Message]) -> list[int]:
    """The numbers of the readings that are new to it."""
    return [
        reading["n"] for message in sent for reading in once.feed(message.topic, message.payload)
    ]


def test_a_subscriber_has_each_reading_once_though_all_comes_twice() -> None:
    once = ExactlyOnce()
    sent = messages(sample(0), sample(1), sample(2))

    assert numbers(once, sent) == [0, 1, 2]
    assert numbers(once, sent) == []
    assert list(once.readings) == ["dev/7/0", "dev/7/1", "dev/7/2"]


def test_what_was_previewed_is_dropped_from_the_history() -> None:
    once = ExactlyOnce()

    first = numbers(once, messages(sample(2), kind=BatchKind.PREVIEW))
    then = numbers(once, messages(sample(0), sample(1), sample(2), kind=BatchKind.BACKLOG))

    assert (first, then) == ([2], [0, 1])


def test_gaps_are_listed_once() -> None:
    once = ExactlyOnce()
    sent = messages(sample(0), gap(1, 3), sample(4))

    assert numbers(once, sent) + numbers(once, sent) == [0, 4]
    lost = {"device": "dev", "boot": 7, "from": 1, "to": 3, "cause": "ring_overflow", "count": 3}
    assert once.gaps == {("dev", 7, 1): lost}


def test_a_gap_is_its_devices_whatever_that_is_called_by_now() -> None:
    once, names = ExactlyOnce(), Names()
    composer = Composer(Topics("edge/pi"), TimeKeeper(Clock()), names=names)
    for level in ("dev", "attic"):
        names.put("dev", level)
        for message in composer.compose(Batch("dev", (gap(1, 3),), BatchKind.LIVE)):
            once.feed(message.topic, message.payload)

    assert list(once.gaps) == [("dev", 7, 1)]


def test_after_any_faults_readings_and_gaps_are_what_was_produced() -> None:
    rng = random.Random(seed := 20_261_122)
    once = ExactlyOnce()
    lost = {seq for seq in range(300) if rng.random() < 0.1}
    records = [gap(seq, seq) if seq in lost else sample(seq) for seq in range(300)]
    printed: list[int] = []

    at = 0
    while at < len(records):
        count = rng.randint(1, 30)
        kind = rng.choice((BatchKind.LIVE, BatchKind.BACKLOG))
        if rng.random() < 0.3 and (rest := [r for r in records[at:] if isinstance(r, Sample)]):
            printed += numbers(once, messages(rng.choice(rest), kind=BatchKind.PREVIEW))
        sent = messages(*records[at : at + count], kind=kind)
        printed += numbers(once, sent)
        if rng.random() < 0.7:  # else the connection is lost: all of it is sent again
            at += count

    assert sorted(printed) == [seq for seq in range(300) if seq not in lost], f"seed {seed}"
    assert {first for _, _, first in once.gaps} == lost


def test_a_state_that_was_cleared_is_no_reading() -> None:
    assert ExactlyOnce().feed("edge/pi/attic/state", b"") == []
