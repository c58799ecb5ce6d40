"""The office of commands on its own: what is journalled, handed over, answered and refused."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.clock import Clock
from gateway.commands.letter import End, Letter
from gateway.commands.mailbox import MAX_FOR_DEVICE
from gateway.commands.office import Office
from gateway.commands.past import MAX_REMEMBERED, Moment, Past, Remembered
from gateway.commands.reception import MAX_REFUSED
from gateway.drivers.base import OnCommandEnd
from gateway.model import Actuator, Description
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandEnded, CommandReturned, Outcome
from tests.support.command_office import (
    BASE,
    MemoryBroker,
    MemoryDevice,
    MemoryDirectory,
    MemoryJournal,
    board,
    make_office,
)

PUMP = Actuator("pump", "Pump", "switch")
ON = {"set": {"pump": True}}
DAY_S = 86_401.0
THEN = Moment(100.0, 1000.0, "a", is_synchronised=True)
RESULT = f"{BASE}/shed/command/result"


@dataclass
class Post:
    """An office, a disk, a broker and links; time passes when it is told to."""

    now_s: float = 1000.0
    unix_s: float = 1_790_000_000.0
    boot: str = "boot"
    is_synchronised: bool = True
    handed: list[Order] = field(default_factory=list)
    on_end: dict[str, OnCommandEnd] = field(default_factory=dict)
    is_open: bool = True

    def __post_init__(self) -> None:
        self.journal = MemoryJournal(lambda: self.now_s)
        self.broker = MemoryBroker()
        self.directory = MemoryDirectory(
            board("shed", PUMP),
            board("barn", PUMP),
            MemoryDevice("old", Description("old", "Old", "board"), is_enabled=False),
            MemoryDevice("text", Description("text", "Text", "json_lines")),
        )
        self.office = self._office()

    def _office(self) -> Office:
        clock = Clock(
            lambda: self.now_s, lambda: self.unix_s, self.boot, lambda: self.is_synchronised
        )
        return make_office(clock, self.journal, self.broker, self.directory, self._road)

    def _road(self, _link: str, order: Order, on_end: OnCommandEnd) -> bool:
        if self.is_open:
            self.handed.append(order)
            self.on_end[order.command_id] = on_end
        return self.is_open

    def say(self, topic: str, payload: object, **more: Any) -> None:  # noqa: ANN401  # any field of Incoming
        self.broker.publish(self.office, topic, payload, **more)
        self.settle()

    def settle(self) -> None:
        for _ in range(5):
            self.journal.work()
            self.office.work()
            self.broker.work()

    def wait(self, for_s: float) -> None:
        self.now_s += for_s
        self.unix_s += for_s
        self.settle()

    def answer(self, order: Order, outcome: Outcome = Outcome.DONE, **more: Any) -> None:  # noqa: ANN401  # any field of CommandEnded
        self.on_end.pop(order.command_id)(CommandEnded(order.command_id, outcome, **more))
        self.settle()

    def give_back(self, order: Order, *, was_sent: bool) -> None:
        self.on_end.pop(order.command_id)(CommandReturned(order.command_id, was_sent))
        self.settle()

    def ready(self, device: str = "shed", life: str = "1.a") -> None:
        self.office.ready("port", device, life)
        self.settle()

    def restart(self) -> None:
        self.journal.crash(is_late=False)
        self.broker.crash()
        self.office = self._office()
        self.on_end.clear()
        self.broker.redeliver(self.office)
        self.settle()

    def results(self, topic: str = RESULT) -> list[dict[str, Any]]:
        return self.broker.results[topic]


@pytest.fixture
def post() -> Post:
    return Post()


def test_a_command_is_handed_over_once_it_is_on_the_disk_and_confirmed_then(post: Post) -> None:
    post.ready()
    post.journal.is_failing = True

    post.say("shed/command", {"transaction": "a", **ON})
    before = list(post.handed), post.broker.unconfirmed
    post.journal.is_failing = False
    post.settle()

    assert before == ([], 1)
    (order,) = post.handed
    assert (order.name, order.arguments) == ("set", {"pump": True})
    assert (order.device, order.life, order.was_sent) == ("shed", "1.a", False)
    assert post.broker.unconfirmed == 0
    assert post.journal.entries()[0].life == "1.a"


def test_a_command_costs_one_commit_at_its_receipt_and_one_at_its_end(post: Post) -> None:
    post.ready()
    post.say("shed/command", {"transaction": "a", **ON})
    before = post.journal.commits

    post.answer(post.handed[0], result={"pump": True})

    assert before == 1
    assert post.journal.commits == 2


def test_the_result_says_what_the_board_answered_and_how_long_it_took(post: Post) -> None:
    post.ready()
    post.say("shed/command", {"transaction": "a", **ON})
    post.now_s += 0.25

    post.answer(post.handed[0], result={"pump": True})

    assert post.results() == [
        {"transaction": "a", "status": "done", "result": {"pump": True}, "latency_ms": 250}
    ]


def test_a_result_goes_to_the_response_topic_with_the_correlation_data(post: Post) -> None:
    post.ready()
    post.say("shed/command", ON, response_topic="me/answers", correlation=b"\1")
    post.say("shed/pump/set", b"OFF", response_topic="me/plain", correlation=b"\2")

    for order in list(post.handed):
        post.answer(order)

    assert [result["status"] for result in post.results()] == ["done"]
    assert post.broker.correlations == [
        (RESULT, None),
        ("me/answers", b"\1"),
        ("me/plain", b"\2"),
    ]


@pytest.mark.parametrize(
    "topic",
    [f"{BASE}/shed/state", BASE, "homeassistant/x/config", "a/+", "#", "$SYS/x", "x" * 513, "a\0b"],
)
def test_nothing_is_answered_where_a_sender_has_no_business(post: Post, topic: str) -> None:
    post.say("nobody/command", {"call": "reset"}, response_topic=topic)

    assert topic not in post.broker.results


def test_the_topic_of_results_may_be_the_response_topic_and_is_answered_on_once(post: Post) -> None:
    post.ready()
    post.say("shed/command", ON, response_topic=RESULT, correlation=b"\1")

    post.answer(post.handed[0])

    assert post.broker.correlations == [(RESULT, b"\1")]


def test_a_repeated_transaction_gets_its_answer_and_is_not_done_again(post: Post) -> None:
    post.ready()
    said = {"transaction": 7, **ON}
    post.say("shed/command", said)
    post.say("shed/command", {**said, "expires_s": 5})  # what is left of its time
    post.answer(post.handed[0])
    post.wait(10)
    post.restart()
    post.ready()

    post.say("shed/command", said)

    assert len(post.handed) == 1
    assert [result["status"] for result in post.results()] == ["done", "done"]


def test_a_transaction_is_one_of_its_device_and_forgotten_after_a_day(post: Post) -> None:
    post.ready("shed")
    post.ready("barn")
    said = {"transaction": "a", **ON}
    post.say("shed/command", said)
    post.say("barn/command", said)
    for order in list(post.handed):
        post.answer(order)

    post.wait(86_401)
    post.say("barn/command", {"transaction": "b", **ON})
    post.answer(post.handed[-1])
    post.say("shed/command", said)

    assert [order.device for order in post.handed] == ["shed", "barn", "barn", "shed"]
    assert len(post.journal.entries()) == 2


def test_a_transaction_that_names_another_command_is_refused(post: Post) -> None:
    post.ready()
    post.say("shed/command", {"transaction": "a", **ON})
    post.answer(post.handed[0])

    post.say("shed/command", {"transaction": "a", "set": {"pump": False}})

    assert len(post.handed) == 1
    assert [result["status"] for result in post.results()] == ["done", "failed"]
    assert "another command" in post.results()[1]["error"]


def test_whoever_repeats_is_answered_where_he_is_now(post: Post) -> None:
    post.ready()
    said = {"transaction": "a", **ON}
    post.say("shed/command", said, response_topic="me/1")

    post.say("shed/command", said, response_topic="me/2")
    post.answer(post.handed[0])
    post.say("shed/command", said, response_topic="me/3")

    answered = [topic for topic, _ in post.broker.correlations if topic != RESULT]
    assert answered == ["me/2", "me/3"]


@pytest.mark.parametrize(
    ("topic", "payload", "error"),
    [
        ("nobody/command", ON, "no such device: nobody"),
        ("lamp/command", ON, "no such device: lamp; the lamp is lamp_2 in topics"),
        ("old/command", ON, "old is disabled"),
        ("text/command", ON, "text takes no commands: it is no board with our firmware"),
        ("shed/command", {"set": {"lamp": 1}}, 'no actuator "lamp"; there are: pump'),
        ("shed/command", {"set": {"pump": "up"}}, 'pump: expected ON or OFF, got "up"'),
        ("shed/command", b"ON", 'expected a JSON object, got "ON"'),
    ],
)
def test_what_cannot_be_done_is_answered_at_once(
    post: Post, topic: str, payload: object, error: str
) -> None:
    post.say(topic, payload)

    (result,) = post.results(f"{BASE}/{topic}/result")
    assert result["status"] == "failed"
    assert result["error"].startswith(error)
    assert post.broker.unconfirmed == 0
    assert not post.journal.entries()


@pytest.mark.parametrize("level", ["x" * 60_000, "a\x1b[2J", "", "Shed", "\u2028"])
def test_a_level_that_is_none_is_told_in_few_words_and_never_published_on(
    post: Post, caplog: pytest.LogCaptureFixture, level: str
) -> None:
    post.say(f"{level}/command", ON, response_topic="me")
    post.say(f"{level}/pump/set", b"ON", is_retained=True)

    (answer,) = post.results("me")
    assert answer["status"] == "failed"
    assert len(answer["error"]) < 100
    assert answer["error"].isprintable()
    assert set(post.broker.results) == {"me"}
    assert all(len(record.getMessage()) < 500 for record in caplog.records)


def test_a_transaction_that_was_refused_stays_refused_for_a_while(post: Post) -> None:
    said = {"transaction": "a", **ON}
    post.say("new/command", said)
    post.directory.add(board("new", PUMP))
    post.ready("new")

    post.say("new/command", said)
    post.say("new/command", {"transaction": "b", **ON})
    at_first = len(post.handed)
    post.wait(600)
    post.say("new/command", said)

    statuses = [each["status"] for each in post.results(f"{BASE}/new/command/result")]
    assert statuses[:2] == ["failed", "failed"]
    assert at_first == 1
    assert len(post.handed) == 2


def test_so_many_refused_transactions_are_remembered(post: Post) -> None:
    for number in range(MAX_REFUSED + 1):
        post.broker.publish(post.office, "new/command", {"transaction": number, **ON})
    post.directory.add(board("new", PUMP))
    post.ready("new")

    for number in (0, 1):
        post.say("new/command", {"transaction": number, **ON})

    assert len(post.handed) == 1
    (entry,) = post.journal.entries()
    assert entry.letter["transaction"] == 0


def test_a_plain_set_that_fails_is_told_on_the_log_topic_and_has_no_result(post: Post) -> None:
    post.ready()
    post.say("shed/pump/set", b"sideways")
    post.say("shed/pump/set", b"ON")
    post.answer(post.handed[0], Outcome.FAILED, error="stuck")
    post.say("shed/pump/set", b"ON")
    post.answer(post.handed[1])

    assert [(topic, told["text"]) for topic, told in post.broker.remarks] == [
        ("shed/log", 'command failed: set: pump: expected ON or OFF, got "sideways"'),
        ("shed/log", "command failed: set: stuck"),
    ]
    assert not post.broker.results


def test_a_retained_command_is_confirmed_and_not_done(post: Post) -> None:
    post.ready()

    post.say("shed/pump/set", b"ON", is_retained=True)

    assert not post.handed
    assert post.broker.unconfirmed == 0


def test_commands_wait_for_their_board_and_for_no_other(post: Post) -> None:
    post.ready("barn")

    post.say("shed/pump/set", b"ON")
    post.say("barn/pump/set", b"ON")
    first = [order.device for order in post.handed]
    has_mail = post.office.has_mail("shed"), post.office.has_mail("other")
    post.ready("shed")

    assert first == ["barn"]
    assert has_mail == (True, False)
    assert [order.device for order in post.handed] == ["barn", "shed"]


def test_two_commands_of_a_board_are_under_way_until_their_ends_are_on_the_disk(
    post: Post,
) -> None:
    post.ready()
    for number in range(4):
        post.say("shed/command", {"transaction": number, **ON})
    at_first = len(post.handed)
    post.journal.is_failing = True

    post.answer(post.handed[0])
    while_failing = len(post.handed)
    post.journal.is_failing = False
    post.settle()

    assert (at_first, while_failing, len(post.handed)) == (2, 2, 3)


def test_more_than_sixteen_commands_for_a_device_are_refused(post: Post) -> None:
    for number in range(MAX_FOR_DEVICE + 1):
        post.say("shed/command", {"transaction": number, **ON})

    assert [(result["transaction"], result["status"]) for result in post.results()] == [
        (MAX_FOR_DEVICE, "failed")
    ]


def test_a_command_expires_while_its_board_is_away(post: Post) -> None:
    post.say("shed/command", {"transaction": "a", **ON, "expires_s": 5})
    post.say("shed/command", {"transaction": "b", **ON}, expires_s=3.0)  # MQTT's own expiry

    post.wait(2.9)
    before = len(post.results())
    post.wait(0.1)
    post.wait(2.0)
    post.ready()

    assert before == 0
    assert [(each["transaction"], each["status"]) for each in post.results()] == [
        ("b", "expired"),
        ("a", "expired"),
    ]
    assert not post.handed


def test_a_command_that_was_not_sent_waits_again_when_its_board_leaves(post: Post) -> None:
    post.ready(life="1.a")
    post.say("shed/command", {"transaction": "a", **ON})

    post.office.left("port", "shed")
    post.give_back(post.handed[0], was_sent=False)
    post.ready(life="2.b")

    assert [order.life for order in post.handed] == ["1.a", "2.b"]
    assert post.handed[0].command_id == post.handed[1].command_id
    assert post.journal.entries()[0].life == "2.b"


@pytest.mark.parametrize(("life", "status"), [("1.a", "done"), ("1.b", "unknown"), ("", "unknown")])
def test_a_command_that_was_sent_goes_again_only_to_a_board_that_remembers(
    post: Post, life: str, status: str
) -> None:
    post.ready(life="1.a")
    post.say("shed/command", {"transaction": "a", **ON})

    post.office.left("port", "shed")
    post.give_back(post.handed[0], was_sent=True)
    post.ready(life=life)
    for order in post.handed[1:]:
        assert (order.was_sent, order.life) == (True, "1.a")
        post.answer(order)

    assert [result["status"] for result in post.results()] == [status]


def test_a_board_without_a_name_for_its_life_gets_a_command_once(post: Post) -> None:
    post.ready(life="")
    post.say("shed/command", {"transaction": "a", **ON})

    post.office.left("port", "shed")
    post.give_back(post.handed[0], was_sent=True)
    post.ready(life="")

    assert len(post.handed) == 1
    assert [result["status"] for result in post.results()] == ["unknown"]


@pytest.mark.parametrize(("life", "status"), [("1.a", "done"), ("2.b", "unknown")])
def test_after_a_crash_a_handed_command_goes_again_to_a_board_that_remembers(
    post: Post, life: str, status: str
) -> None:
    post.ready(life="1.a")
    post.say("shed/command", {"transaction": "a", **ON})

    post.restart()
    post.ready(life=life)
    for order in post.handed[1:]:
        assert order.was_sent
        assert order.command_id == post.handed[0].command_id
        post.answer(order)

    assert [result["status"] for result in post.results()] == [status]


def test_after_a_crash_a_command_that_was_not_handed_waits_for_what_is_left_of_its_time(
    post: Post,
) -> None:
    post.say("shed/command", {"transaction": "a", **ON, "expires_s": 10})
    post.say("shed/command", {"transaction": "b", **ON, "expires_s": 20})
    post.wait(6)

    post.restart()
    post.wait(5)
    post.ready(life="9.z")

    assert [(each["transaction"], each["status"]) for each in post.results()] == [("a", "expired")]
    (order,) = post.handed
    assert order.expires_s == 1020.0
    assert not order.was_sent


@pytest.mark.parametrize(
    ("is_synchronised", "slept_s", "left_s"),
    [(True, 4.0, 6.0), (True, 60.0, None), (True, -500.0, 10.0), (False, 4.0, None)],
)
def test_after_a_boot_of_the_machine_time_is_told_by_a_clock_that_is_right_or_not_at_all(
    post: Post, *, is_synchronised: bool, slept_s: float, left_s: float | None
) -> None:
    post.say("shed/command", {"transaction": "a", **ON, "expires_s": 10})

    post.now_s, post.unix_s = 3.0, post.unix_s + slept_s
    post.boot, post.is_synchronised = "another", is_synchronised
    post.restart()
    post.ready()

    if left_s is None:
        assert [each["status"] for each in post.results()] == ["expired"]
        assert not post.handed
    else:
        assert post.handed[0].expires_s == pytest.approx(3.0 + left_s)


def test_a_result_that_the_broker_may_not_have_is_told_after_a_crash(post: Post) -> None:
    post.ready()
    post.say("shed/command", {"transaction": "a", **ON})
    post.on_end[post.handed[0].command_id](
        CommandEnded(post.handed[0].command_id, Outcome.DONE, {"pump": True})
    )
    post.journal.work()
    post.broker.crash()

    post.restart()
    post.wait(20)
    post.restart()

    assert [each["status"] for each in post.results()] == ["done"]


def test_a_command_that_cannot_be_journalled_fails_and_is_not_done(post: Post) -> None:
    post.ready()
    post.journal.is_failing = True

    post.say("shed/command", {"transaction": "a", **ON})
    post.wait(10.0)
    post.journal.is_failing = False
    post.wait(1.0)
    post.ready()

    assert not post.handed
    (result,) = post.results()
    assert result["status"] == "failed"
    assert result["error"].startswith("cannot be journalled")
    assert post.broker.unconfirmed == 0


def test_an_end_that_the_disk_does_not_take_is_told_all_the_same(post: Post) -> None:
    post.ready()
    post.say("shed/command", {"transaction": "a", **ON})
    post.journal.is_failing = True

    post.answer(post.handed[0])
    before = len(post.results())
    post.wait(5.0)

    assert before == 0
    assert [each["status"] for each in post.results()] == ["done"]


def test_without_the_journal_of_earlier_runs_nothing_is_taken(post: Post) -> None:
    clock = Clock(lambda: post.now_s, lambda: post.unix_s, "boot", lambda: True)
    office = make_office(
        clock, post.journal, post.broker, post.directory, lambda *_: True, is_loaded=False
    )

    post.broker.publish(office, "shed/command", ON)
    post.settle()

    assert post.results() == [
        {"status": "failed", "error": "cannot be journalled: the state database is not open"}
    ]


def test_what_a_closed_office_hears_is_left_to_the_next_run(post: Post) -> None:
    post.ready()
    post.office.close()

    post.say("shed/pump/set", b"ON")

    assert post.broker.unconfirmed == 1
    assert not post.handed


def test_a_journal_that_was_lost_is_written_again(post: Post) -> None:
    post.ready()
    for transaction in "ab":
        post.say("shed/command", {"transaction": transaction, **ON})
    post.answer(post.handed[0])
    post.journal.database.execute("DELETE FROM commands")

    for sql, rows in post.office.everything():
        post.journal.database.executemany(sql, rows)
    post.restart()
    post.ready()
    post.say("shed/command", {"transaction": "a", **ON})

    assert [order.was_sent for order in post.handed] == [False, False, True]
    assert [each["transaction"] for each in post.results()] == ["a", "a"]


def test_what_makes_no_sense_in_the_journal_is_left_out(post: Post) -> None:
    post.say("shed/command", {"transaction": "a", **ON})
    letter = json.dumps({"device": "shed"})
    post.journal.database.execute(
        "INSERT INTO commands VALUES (99, ?, NULL, NULL, NULL, 0)", (letter,)
    )

    post.restart()
    post.settle()

    assert [entry.number for entry in post.journal.entries()] == [1]


def test_plain_sets_that_have_no_packet_leave_nothing_behind(post: Post) -> None:
    post.ready()

    post.say("shed/pump/set", b"ON", packet_id=0)
    post.answer(post.handed[0])

    assert not post.journal.entries()


def test_at_most_so_many_commands_are_remembered_and_those_under_way_always() -> None:
    past = Past()
    for number in range(MAX_REMEMBERED + 5):
        past.add(Remembered(number, "shed", "shed", number, "", "", THEN))
    waiting = Letter(0, "id", "shed", "set", None, 0.0, 1.0)
    past.get(0).letter = waiting

    forgotten = past.forget_old(THEN)

    assert forgotten == [1, 2, 3, 4, 5]
    assert past.find("shed", 0, "") is past.get(0)
    assert past.find("shed", 1, "") is None


@pytest.mark.parametrize(
    ("now", "is_forgotten"),
    [
        (THEN._replace(monotonic_s=100.0 + DAY_S), True),
        (THEN._replace(unix_s=1000.0 + 2 * DAY_S), False),  # somebody set the clock
        (THEN._replace(unix_s=1000.0 + 2 * DAY_S, boot_id="b"), True),
        (THEN._replace(unix_s=1000.0 + 2 * DAY_S, boot_id="b", is_synchronised=False), False),
    ],
)
@pytest.mark.parametrize("was_synchronised", [True, False])
def test_a_day_is_told_by_a_clock_that_nobody_sets(
    now: Moment, *, is_forgotten: bool, was_synchronised: bool
) -> None:
    past = Past()
    received = THEN._replace(is_synchronised=was_synchronised)
    past.add(Remembered(1, "shed", "shed", "a", "", "", received))

    forgotten = past.forget_old(now)

    is_known = was_synchronised or now.boot_id == THEN.boot_id
    assert forgotten == ([1] if is_forgotten and is_known else [])


def test_a_packet_id_is_of_the_last_message_that_had_it(post: Post) -> None:
    post.ready()

    for payload, is_again in ((b"ON", False), (b"OFF", False), (b"ON", True), (b"ON", True)):
        post.say("shed/pump/set", payload, packet_id=1, is_again=is_again)
        for order in list(post.handed):
            if order.command_id in post.on_end:
                post.answer(order)
    post.say("shed/command", {"transaction": "a", **ON}, packet_id=1)
    post.answer(post.handed[-1])
    post.say("shed/pump/set", b"ON", packet_id=1, is_again=True)
    post.answer(post.handed[-1])
    post.say("shed/pump/set", b"sideways", packet_id=1)
    post.say("shed/pump/set", b"ON", packet_id=1, is_again=True)

    assert [order.arguments for order in post.handed] == [
        {"pump": is_on} for is_on in (True, False, True, True, True, True)
    ]


def told(ends: list[End]) -> Callable[[End], None]:
    return ends.append


def test_the_gateways_own_commands_take_the_same_road(post: Post) -> None:
    ends: list[End] = []
    post.ready()

    post.office.order("shed", "interval", {"climate": 500}, 10.0, told(ends))
    post.settle()
    is_journalled = bool(post.journal.entries())
    post.answer(post.handed[0], result=1)
    post.office.order("shed", "reset", None, 10.0, told(ends))
    post.office.left("port", "shed")
    post.office.order("text", "reset", None, 10.0, told(ends))

    assert is_journalled
    assert [(end.outcome, end.result) for end in ends] == [
        (Outcome.DONE, 1),
        (Outcome.FAILED, None),
    ]
    assert not post.broker.results


# ---- a board is replaced ----


def replace_the_shed(post: Post) -> int:
    """Have the barn go on in the place of the shed."""
    post.directory.remove("shed")
    post.directory.add(replace(board("barn", PUMP), predecessors=("shed",)))
    ended = post.office.replaced("shed", "barn")
    post.settle()
    return ended


def test_what_waits_for_a_board_that_is_replaced_ends_and_nobody_does_it(post: Post) -> None:
    post.ready("barn")
    post.say("shed/command", {"transaction": "a", **ON})

    ended = replace_the_shed(post)
    post.ready("shed")

    assert ended == 1
    assert post.results() == [
        {
            "transaction": "a",
            "status": "failed",
            "error": "not done: shed was replaced by barn",
        }
    ]
    assert post.handed == []
    assert not post.office.has_mail("shed")


def test_what_is_not_on_the_disk_yet_ends_like_that(post: Post) -> None:
    post.ready()
    post.journal.is_failing = True
    post.say("shed/command", {"transaction": "a", **ON})

    assert replace_the_shed(post) == 1
    post.journal.is_failing = False
    post.settle()

    assert [result["status"] for result in post.results()] == ["failed"]
    assert post.broker.unconfirmed == 0
    assert post.handed == []


def test_nobody_knows_of_what_the_replaced_board_may_have_got(post: Post) -> None:
    post.ready()
    post.say("shed/command", {"transaction": "a", **ON})
    post.office.left("port", "shed")
    post.give_back(post.handed[0], was_sent=True)

    assert replace_the_shed(post) == 1

    (result,) = post.results()
    assert result["status"] == "unknown"
    assert "replaced by barn" in result["error"]


def test_what_the_replaced_board_is_about_to_do_ends_as_it_says(post: Post) -> None:
    post.ready()
    post.say("shed/command", {"transaction": "a", **ON})

    assert replace_the_shed(post) == 0
    post.answer(post.handed[0])

    assert [result["status"] for result in post.results()] == ["done"]


def test_a_crash_before_the_end_of_what_waited_changes_nothing(post: Post) -> None:
    post.say("shed/command", {"transaction": "a", **ON})
    post.directory.remove("shed")
    post.directory.add(replace(board("barn", PUMP), predecessors=("shed",)))

    post.restart()
    post.ready("shed")

    assert [result["status"] for result in post.results()] == ["failed"]
    assert post.handed == []


def test_what_the_replaced_board_did_is_not_done_again_by_the_other(post: Post) -> None:
    post.ready()
    post.ready("barn")
    said = {"transaction": "a", **ON}
    post.say("shed/command", said)
    post.answer(post.handed[0])
    replace_the_shed(post)

    post.say("barn/command", said)
    post.say("barn/command", {"transaction": "b", **ON})

    assert [order.device for order in post.handed] == ["shed", "barn"]
    assert [result["status"] for result in post.results()] == ["done", "done"]
