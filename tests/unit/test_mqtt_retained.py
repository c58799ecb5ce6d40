"""What may be retained on which topic, and the newest states a broker may have lost."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.mqtt.documents import Documents, Post
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


def test_a_topic_leaves_the_ledger_when_the_broker_knows_that_it_is_empty(
    documents: Documents, ledger: PaperLedger
) -> None:
    documents.retain("b/x/info", b"1")
    ledger.commit()
    taken(documents)

    documents.retain("b/x/info", None)
    assert taken(documents) == [("b/x/info", b"")]
    assert ledger.forgotten == []
    documents.acknowledged(Post("b/x/info", b"", retain=True))

    assert ledger.forgotten == ["b/x/info"]
    documents.retain("b/x/info", b"again")
    assert list(ledger.asked) == ["b/x/info"]


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

    retained.cleared("b/x/state", is_taken=False)

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
