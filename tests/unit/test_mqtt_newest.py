"""The newest states: published again when they are wanted, never behind a newer one."""

import pytest

from gateway.mqtt.newest import NewestStates


@pytest.fixture
def newest() -> NewestStates:
    states = NewestStates()
    states.sent("a/state")
    states.confirmed("a/state", b"1")
    return states


def due(newest: NewestStates) -> list[tuple[str, bytes]]:
    taken = []
    while (each := newest.take_due(lambda _topic: True)) is not None:
        taken.append(each)
    return taken


def test_what_was_sent_on_this_connection_comes_again_when_it_is_wanted(
    newest: NewestStates,
) -> None:
    newest.again("a/state")

    assert due(newest) == [("a/state", b"1")]
    assert due(newest) == []


def test_what_is_on_its_way_needs_no_repetition(newest: NewestStates) -> None:
    newest.sent("a/state")
    newest.sent("a/state")
    newest.again("a/state")
    newest.confirmed("a/state", b"2")
    newest.again("a/state")

    assert due(newest) == []


def test_a_newer_one_takes_the_place_of_what_is_to_come_again(newest: NewestStates) -> None:
    newest.again("a/state")
    newest.sent("a/state")
    newest.confirmed("a/state", b"2")

    assert due(newest) == []
    newest.again("a/state")
    assert due(newest) == [("a/state", b"2")]


def test_a_broker_that_lost_all_gets_what_was_not_sent_on_this_connection(
    newest: NewestStates,
) -> None:
    newest.connecting()
    newest.all_lost()
    before = due(newest)
    newest.sent("a/state")
    newest.all_lost()

    assert before == [("a/state", b"1")]
    assert due(newest) == []


def test_of_a_topic_nobody_knows_nothing_comes(newest: NewestStates) -> None:
    newest.again("b/state")

    assert due(newest) == []
