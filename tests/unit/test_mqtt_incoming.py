"""What arrives from the broker: whose it is, and what it tells of our own status."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.mqtt.incoming import Inbox, Incoming, matches
from gateway.mqtt.own_status import OwnStatus
from gateway.mqtt.rivalry import Rivalry

ONLINE = b'{"state":"online","session":"mine"}'


def message(
    topic: str,
    payload: bytes = b"",
    *,
    is_retained: bool = False,
    is_again: bool = False,
    done: Callable[[], None] = lambda: None,
) -> Incoming:
    return Incoming(topic, payload, is_retained, is_again, packet_id=1, done=done)


# From MQTT 5, section 4.7.1: examples there, and the rule about $ of 4.7.2.
@pytest.mark.parametrize(
    ("topic_filter", "topic", "does"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "sport/tennis", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/x", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/x", True),
        ("e/status", "e/status", True),
        ("e/status", "e/statuses", False),
    ],
)
def test_filters_match_as_the_standard_says(topic_filter: str, topic: str, does: bool) -> None:
    assert matches(topic_filter, topic) is does


def test_the_first_whose_filter_matches_takes_a_message() -> None:
    taken: list[str] = []
    inbox = Inbox(Counter())
    inbox.add(["e/status", "e/+/set"], lambda heard: taken.append(f"first {heard.topic}"))
    inbox.add(["e/#"], lambda heard: taken.append(f"second {heard.topic}"))

    for topic in ("e/status", "e/pump/set", "e/other"):
        inbox.take(message(topic))

    assert inbox.filters == ["e/status", "e/+/set", "e/#"]
    assert taken == ["first e/status", "first e/pump/set", "second e/other"]


def test_what_nobody_takes_is_counted_and_confirmed() -> None:
    confirmed: list[None] = []
    counts: Counter[str] = Counter()

    Inbox(counts).take(message("e/x", done=lambda: confirmed.append(None)))

    assert (counts["messages_unwanted"], len(confirmed)) == (1, 1)


def test_a_handler_that_fails_is_told_once_and_the_message_does_not_come_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_message: Incoming) -> None:
        raise ZeroDivisionError

    confirmed: list[None] = []
    counts: Counter[str] = Counter()
    inbox = Inbox(counts)
    inbox.add(["e/#"], fail)

    for _ in range(3):
        inbox.take(message("e/x", done=lambda: confirmed.append(None)))

    assert (counts["messages_failed"], len(confirmed)) == (3, 3)
    assert len(caplog.records) == 1


def own_status(lost: list[str]) -> OwnStatus:
    status = OwnStatus(ONLINE, Rivalry("client", "e", "mine"))
    status.on_retained_lost = lambda: lost.append("lost")
    status.connecting()
    return status


@pytest.mark.parametrize("session", ["earlier", "mine"])
def test_a_broker_that_still_had_our_last_status_has_lost_nothing(session: str) -> None:
    lost: list[str] = []
    status = own_status(lost)

    before = json.dumps({"state": "offline", "session": session}).encode()
    status.hear(message("e/status", before, is_retained=True))
    status.hear(message("e/status", ONLINE))

    assert (lost, status.is_stale) == ([], False)


def test_a_broker_that_never_published_our_will_went_down_and_may_have_lost_much() -> None:
    lost: list[str] = []
    status = own_status(lost)

    status.hear(message("e/status", ONLINE, is_retained=True))
    status.hear(message("e/status", ONLINE))

    assert (lost, status.is_stale) == (["lost"], False)


def test_the_birth_of_the_last_connection_that_comes_again_is_not_taken_for_the_new_one() -> None:
    lost: list[str] = []
    status = own_status(lost)
    before = json.dumps({"state": "offline"}).encode()

    status.hear(message("e/status", ONLINE, is_again=True))
    status.hear(message("e/status", before, is_retained=True))
    status.hear(message("e/status", ONLINE))

    assert (lost, status.is_stale) == ([], False)


@pytest.mark.parametrize(("number", "told"), [(2, []), (1, ["lost"])], ids=["last", "older"])
def test_a_broker_with_the_will_of_an_older_connection_has_lost_what_came_since(
    number: int, told: list[str]
) -> None:
    lost: list[str] = []
    status = own_status(lost)
    wills = {each: json.dumps({"state": "offline", "connection": each}).encode() for each in (1, 2)}

    status.connecting(wills[2])
    status.hear(message("e/status", wills[number], is_retained=True))
    status.hear(message("e/status", ONLINE))

    assert (lost, status.is_stale) == (told, False)


def test_a_broker_without_our_status_has_lost_what_was_retained() -> None:
    lost: list[str] = []
    status = own_status(lost)

    status.hear(message("e/status", b'{"state":"offline","session":"mine"}'))  # kept by the session
    status.hear(message("e/status", ONLINE))
    status.hear(message("e/status", ONLINE))

    assert (lost, status.is_stale) == (["lost"], False)


def test_each_connection_is_looked_at_anew() -> None:
    lost: list[str] = []
    status = own_status(lost)
    status.hear(message("e/status", ONLINE, is_retained=True))
    status.hear(message("e/status", ONLINE))
    offline = b'{"state":"offline","session":"mine"}'

    status.connecting()
    status.hear(message("e/status", offline, is_retained=True))
    status.hear(message("e/status", ONLINE))
    assert lost == ["lost"]

    status.connecting()
    status.hear(message("e/status", ONLINE))
    assert lost == ["lost", "lost"]


def test_a_will_that_comes_after_our_birth_makes_the_status_stale() -> None:
    status = own_status([])
    status.hear(message("e/status", b'{"state":"offline","session":"earlier"}', is_retained=True))
    status.hear(message("e/status", ONLINE))
    assert not status.is_stale

    status.hear(message("e/status", b'{"state":"offline","session":"earlier"}'))

    assert status.is_stale
