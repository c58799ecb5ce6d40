"""What may be retained on which topic, and the newest states a broker may have lost."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.mqtt.documents import EMPTIED_S, Documents, Post
from gateway.mqtt.newest import NewestStates
from gateway.mqtt.retained import Retained


class PaperLedger:
    """Notes when it is told to."""

    def __init__(self) -> None:
        self.asked: dict[str, Callable[[], None]] = {}
        self.forgotten: list[str] = []

    def note(self, topic: str, on_noted: Callable[[], None]) -> None:
        assert topic not in self.asked, "asked once is enough"
        self.asked[topic] = on_noted

    def forget(self, topic: str) -> None:
        self.forgotten.append(topic)

    def commit(self) -> None:
        asked, self.asked = self.asked, {}
        for on_noted in asked.values():
            on_noted()


@pytest.fixture
def ledger() -> PaperLedger:
    return PaperLedger()


@pytest.fixture
def retained(ledger: PaperLedger) -> Retained:
    return Retained(ledger)


@pytest.fixture
def documents(retained: Retained) -> Documents:
    documents = Documents(Counter(), retained)
    retained.on_noted = documents.noted
    return documents


def taken(documents: Documents) -> list[tuple[str, bytes]]:
    posts = []
    while (post := documents.next()) is not None:
        posts.append((post.topic, post.payload))
    return posts


def test_a_document_waits_until_its_topic_is_noted(
    documents: Documents, ledger: PaperLedger
) -> None:
    documents.retain("b/x/info", b"1")
    documents.retain("b/x/info", b"2")
    assert taken(documents) == []
    assert documents.start_over() == 0  # a new connection does not let it out

    ledger.commit()
    assert taken(documents) == [("b/x/info", b"2")]

    documents.retain("b/x/info", b"3")
    assert taken(documents) == [("b/x/info", b"3")]


def test_a_topic_is_cleared_on_each_connection_and_leaves_the_ledger_by_and_by(
    documents: Documents, ledger: PaperLedger
) -> None:
    """The broker may lose its power, and have again what it had when it last wrote its database."""
    emptied(documents, ledger)

    documents.look(1000.0)
    documents.look(1000.0 + EMPTIED_S - 1)
    assert documents.start_over() == 1
    assert taken(documents) == [("b/x/info", b"")]
    documents.acknowledged(Post("b/x/info", b"", retain=True))
    assert ledger.forgotten == []

    documents.look(1000.0 + EMPTIED_S)
    assert ledger.forgotten == ["b/x/info"]
    assert documents.start_over() == 0
    documents.retain("b/x/info", b"again")
    assert list(ledger.asked) == ["b/x/info"]


@pytest.mark.parametrize("is_claimed", [False, True])
def test_what_is_retained_again_on_a_cleared_topic_stays(
    documents: Documents, retained: Retained, ledger: PaperLedger, is_claimed: bool
) -> None:
    emptied(documents, ledger)

    if is_claimed:
        retained.claim("b/x/info")
        documents.claimed("b/x/info")
    else:
        documents.retain("b/x/info", b"again")
    documents.start_over()

    assert taken(documents) == ([] if is_claimed else [("b/x/info", b"again")])
    documents.look(0.0)
    documents.look(EMPTIED_S)
    assert ledger.forgotten == []


def test_a_claim_while_a_topic_is_cleared_once_more_survives_a_lost_connection(
    documents: Documents, retained: Retained, ledger: PaperLedger
) -> None:
    emptied(documents, ledger)
    documents.start_over()
    taken(documents)
    retained.claim("b/x/info")
    documents.claimed("b/x/info")
    assert not retained.keeps("b/x/info")  # the empty message is under way

    documents.start_over()

    assert taken(documents) == []
    assert retained.is_claimed("b/x/info")


def test_a_clearing_that_the_broker_refuses_is_tried_once_a_connection(
    documents: Documents, ledger: PaperLedger
) -> None:
    documents.retain("b/x/info", b"1")
    ledger.commit()
    documents.retain("b/x/info", None)

    for _ in range(2):
        documents.start_over()
        assert taken(documents) == [("b/x/info", b"")]
        documents.refused(Post("b/x/info", b"", retain=True))
        assert taken(documents) == []
    assert ledger.forgotten == []


def test_a_device_that_is_removed_twice_while_the_broker_is_away_is_gone(
    documents: Documents, retained: Retained, ledger: PaperLedger
) -> None:
    retained.claim("b/x/state")
    ledger.commit()
    documents.retain("b/x/state", None)
    retained.claim("b/x/state")
    documents.claimed("b/x/state")

    documents.retain("b/x/state", None)
    assert taken(documents) == [("b/x/state", b"")]
    documents.acknowledged(Post("b/x/state", b"", retain=True))

    assert not retained.keeps("b/x/state")
    documents.look(0.0)
    documents.look(EMPTIED_S)
    assert ledger.forgotten == ["b/x/state"]


def emptied(documents: Documents, ledger: PaperLedger) -> None:
    """Have a document that was removed, and of which the broker knows that."""
    documents.retain("b/x/info", b"1")
    ledger.commit()
    documents.retain("b/x/info", None)
    taken(documents)
    documents.acknowledged(Post("b/x/info", b"", retain=True))
    ledger.asked.clear()


def test_a_topic_that_is_written_again_before_the_answer_stays_in_the_ledger(
    documents: Documents, ledger: PaperLedger
) -> None:
    documents.retain("b/x/info", b"1")
    ledger.commit()
    documents.retain("b/x/info", None)
    taken(documents)

    documents.retain("b/x/info", b"2")
    documents.acknowledged(Post("b/x/info", b"", retain=True))

    assert ledger.forgotten == []
    assert taken(documents) == [("b/x/info", b"2")]


def test_what_an_earlier_run_left_is_known_as_strange(
    documents: Documents, retained: Retained
) -> None:
    documents.retain("b/x/info", b"1")
    retained.claim("b/x/state")

    retained.load(["b/x/info", "b/x/state", "old/x/info", "old/x/state"])

    assert retained.strangers(documents) == ["old/x/info", "old/x/state"]


async def test_a_state_waits_for_the_ledger_and_for_the_clearing_of_its_topic(
    retained: Retained, ledger: PaperLedger
) -> None:
    async def waits() -> bool:
        """Tell whether it is still not ready after some turns of the loop."""
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(retained.wait("b/x/state"))
            for _ in range(5):
                await asyncio.sleep(0)
            is_waiting = not waiting.done()
            waiting.cancel()
        return is_waiting

    assert not await waits()  # nobody claims it: it will not be retained
    assert not retained.keeps("b/x/state")

    retained.claim("b/x/state")
    assert await waits()
    ledger.commit()
    assert not await waits()
    assert retained.keeps("b/x/state")

    retained.clear("b/x/state")
    assert not retained.keeps("b/x/state")
    retained.claim("b/x/state")  # the device is back before the broker's answer
    assert await waits()
    assert not retained.keeps("b/x/state")
    retained.cleared("b/x/state")
    assert not await waits()
    assert retained.keeps("b/x/state")
    assert ledger.forgotten == []


async def test_a_broker_that_refuses_to_clear_holds_up_nobody(
    retained: Retained, ledger: PaperLedger
) -> None:
    retained.claim("b/x/state")
    ledger.commit()
    retained.clear("b/x/state")
    retained.claim("b/x/state")

    retained.cleared("b/x/state")

    assert retained.keeps("b/x/state")
    assert ledger.forgotten == []


def test_without_a_ledger_everything_may_be_retained() -> None:
    retained = Retained()

    assert retained.is_noted("b/x/info")
    assert retained.keeps("b/x/state")


def is_ready(topic: str) -> bool:
    return topic != "not noted yet"


def states(*confirmed: str) -> NewestStates:
    newest = NewestStates()
    newest.connecting()
    for topic in confirmed:
        newest.sent(topic)
        newest.confirmed(topic, f"of {topic}".encode())
    return newest


def due(newest: NewestStates) -> list[str]:
    found = []
    while (state := newest.take_due(is_ready)) is not None:
        assert state[1] == f"of {state[0]}".encode()
        found.append(state[0])
    return found


def test_lost_states_are_due_unless_a_newer_one_was_sent_on_this_connection() -> None:
    newest = states("a", "b", "c")
    newest.connecting()
    newest.sent("a")

    newest.all_lost()
    newest.sent("b")

    assert due(newest) == ["c"]


def test_states_that_the_broker_did_not_confirm_are_due_on_the_next_connection() -> None:
    newest = states("a", "b", "c")
    newest.connecting()
    newest.all_lost()
    assert due(newest) == ["a", "b", "c"]
    newest.confirmed("b", b"of b")

    newest.connecting()  # this broker has our status: nothing is called lost

    assert due(newest) == ["a", "c"]


def test_a_state_moves_to_the_new_name_of_its_device() -> None:
    newest = states("a")

    newest.move("a", "b")

    assert newest.take_due(is_ready) == ("b", b"of a")
    assert len(newest) == 1


def test_a_state_moves_back_to_where_one_was_sent_before() -> None:
    newest = states("a")
    newest.move("a", "b")
    assert newest.take_due(is_ready) == ("b", b"of a")

    newest.move("b", "a")

    assert newest.take_due(is_ready) == ("a", b"of a")


def test_a_state_moves_when_its_new_topic_is_noted() -> None:
    newest = states("a")
    newest.move("a", "not noted yet")

    assert newest.take_due(is_ready) is None
    assert newest.take_due(lambda _topic: True) == ("not noted yet", b"of a")


def test_a_state_that_was_dropped_is_not_due() -> None:
    newest = states("a", "b")
    newest.connecting()
    newest.all_lost()
    newest.drop("a")

    assert due(newest) == ["b"]
    assert len(newest) == 1
