"""How requests are taken and answered, whatever is asked for."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from gateway.admin.desk import AT_ONCE, Verb
from gateway.admin.service import Admin
from gateway.errors import RequestError, StoreError
from gateway.log_fields import fields_of
from gateway.mqtt.incoming import Handler, Incoming
from gateway.requests.admin import PermitJoinRequest
from gateway.requests.asking import AdminRequest

BASE = "edge/test"


class Sent(NamedTuple):
    topic: str
    answer: dict[str, Any]
    correlation: bytes | None


class Letterbox:
    """Brings messages, and keeps what is answered."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.filters: list[str] = []
        self.done = 0
        self._arrived = asyncio.Event()
        self._handlers: list[Handler] = []

    def subscribe(self, filters: Sequence[str], handler: Handler) -> None:
        self.filters += filters
        self._handlers.append(handler)

    def send(self, topic: str, payload: bytes, *, correlation: bytes | None = None) -> None:
        self.sent.append(Sent(topic, json.loads(payload), correlation))
        self._arrived.set()

    def bring(self, verb: str, payload: bytes | dict[str, Any] = b"", **more: Any) -> None:  # noqa: ANN401 - fields of a message
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        message = {"is_retained": False, "is_again": False, "packet_id": 1, "done": self._note}
        topic = f"{BASE}/request/{verb}"
        self._handlers[0](Incoming(topic, body, **{**message, **more}))

    async def answers(self, count: int) -> list[Sent]:
        async with asyncio.timeout(20):
            while len(self.sent) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return list(self.sent)

    def _note(self) -> None:
        self.done += 1


async def nothing(_request: AdminRequest) -> None:
    pass


@asynccontextmanager
async def admin(
    verbs: Mapping[str, Callable[[Any], Any] | Verb], counts: Counter[str] | None = None
) -> AsyncIterator[Letterbox]:
    box = Letterbox()
    made = {name: act if isinstance(act, Verb) else Verb(act) for name, act in verbs.items()}
    service = Admin(box, BASE, Counter() if counts is None else counts, ("homeassistant",))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(service.run(made))
        await asyncio.sleep(0)  # it has begun
        yield box
        running.cancel()


async def test_a_request_is_confirmed_done_and_answered_with_its_transaction() -> None:
    asked: list[AdminRequest] = []

    async def permit(request: PermitJoinRequest) -> dict[str, float | None]:
        asked.append(request)
        return {"seconds": request.seconds}

    counts: Counter[str] = Counter()
    async with admin({"permit_join": permit}, counts) as box:
        box.bring("permit_join", {"seconds": 30, "transaction": "t-7"})
        sent = await box.answers(1)

    assert box.filters == ["edge/test/request/+"]
    assert box.done == 1
    assert asked == [PermitJoinRequest(seconds=30.0, transaction="t-7")]
    answer = {"transaction": "t-7", "status": "ok", "data": {"seconds": 30.0}}
    assert sent == [Sent("edge/test/response/permit_join", answer, None)]
    assert counts == {"requests": 1}


async def test_without_a_transaction_there_is_none_in_the_answer() -> None:
    async with admin({"reload": nothing}) as box:
        box.bring("reload")
        (sent,) = await box.answers(1)

    assert sent.answer == {"status": "ok", "data": None}


async def test_mqtt_5_s_response_topic_gets_the_answer_as_well_with_its_correlation() -> None:
    async with admin({"reload": nothing}) as box:
        box.bring("reload", response_topic="their/inbox", correlation=b"\x00\x07")
        sent = await box.answers(2)

    ok = {"status": "ok", "data": None}
    assert sent == [
        Sent("edge/test/response/reload", ok, None),
        Sent("their/inbox", ok, b"\x00\x07"),
    ]


async def test_who_wants_the_answer_where_it_goes_anyway_gets_it_once() -> None:
    topic = "edge/test/response/reload"
    async with admin({"reload": nothing}) as box:
        box.bring("reload", response_topic=topic, correlation=b"7")
        sent = await box.answers(1)

    assert sent == [Sent(topic, {"status": "ok", "data": None}, b"7")]


@pytest.mark.parametrize(
    "topic", ["edge/test/greenhouse/state", "homeassistant/device/x/config", "a/#"]
)
async def test_an_answer_is_never_written_where_only_the_gateway_writes(topic: str) -> None:
    async with admin({"reload": nothing}) as box:
        box.bring("reload", response_topic=topic)
        (sent,) = await box.answers(1)

    assert sent.topic == "edge/test/response/reload"
    assert sent.answer["status"] == "error"
    assert "response topic" in sent.answer["error"]


@pytest.mark.parametrize(
    ("verb", "payload", "more", "level", "error"),
    [
        ("reload", b"{", {}, "reload", "expected a JSON object"),
        ("relod", b"", {}, "unknown", "unknown request `relod`: did you mean `reload`?"),
        ("set", b"", {}, "unknown", "unknown request `set`: there are devices, "),
        ("Re load", b"", {}, "unknown", "unknown request `Re load`: did you mean `reload`?"),
        ("", b"", {}, "unknown", "unknown request ``: there are devices, "),
        ("reload", {"transaction": 5, "x": 1}, {}, "reload", 'unknown key "x"'),
        ("reload", {"transaction": 5}, {"is_retained": True}, "reload", "must not be retained"),
        ("backup", b"", {}, "backup", "`backup` is not there in this gateway"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words_and_not_done(
    verb: str, payload: bytes | dict[str, Any], more: dict[str, Any], level: str, error: str
) -> None:
    acted: list[AdminRequest] = []

    async def act(request: AdminRequest) -> None:
        acted.append(request)

    async with admin({"reload": act}) as box:
        box.bring(verb, payload, **more)
        (sent,) = await box.answers(1)

    assert sent.topic == f"edge/test/response/{level}"
    assert sent.answer["status"] == "error"
    assert error in sent.answer["error"]
    assert sent.answer.get("transaction") == (5 if isinstance(payload, dict) else None)
    assert (acted, box.done) == ([], 1)


async def test_what_fails_is_told_as_it_was_said() -> None:
    async def act(_request: AdminRequest) -> None:
        raise RequestError("there is no such thing")

    async with admin({"reload": act}) as box:
        box.bring("reload", {"transaction": 1})
        (sent,) = await box.answers(1)

    answer = {"transaction": 1, "status": "error", "error": "there is no such thing"}
    assert sent.answer == answer


async def test_correlation_data_that_is_too_long_is_not_carried_back() -> None:
    async with admin({"reload": nothing}) as box:
        box.bring("reload", response_topic="theirs", correlation=b"x" * 257)
        (sent,) = await box.answers(1)

    assert (sent.topic, sent.correlation) == ("edge/test/response/reload", None)
    assert sent.answer["error"] == "correlation data of more than 256 bytes"


async def test_a_bug_fails_its_request_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def act(request: PermitJoinRequest) -> float:
        return 1 / (request.seconds or 0)

    async with admin({"permit_join": act}) as box:
        box.bring("permit_join", {"seconds": 0})
        await box.answers(1)
        box.bring("permit_join", {"seconds": 2}, packet_id=2)
        broken, fine = await box.answers(2)

    assert broken.answer["error"] == "failed for a fault of the gateway: see its log"
    assert fine.answer["data"] == 0.5
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("verb", "fields", "line", "devices"),
    [
        ("restart", {"device": "porch"}, "INFO request restart (porch): done", ["board-7"]),
        ("rename", {"device": "lamp", "to": "x"}, "WARNING request rename (lamp): no", ["lamp"]),
        ("update", {"devices": ["a", "b"]}, "INFO request update (a, b): done", ["a", "b"]),
        (
            "update",
            {"devices": ["a", "b", "c", "d", "e"]},
            "INFO request update (a, b, c and 2 more): done",
            ["a", "b", "c"],
        ),
        ("update", {"all": True}, "INFO request update: done", []),
        ("reload", {}, "INFO request reload: done", []),
    ],
)
async def test_the_log_says_which_devices_a_request_was_about(
    verb: str,
    fields: dict[str, Any],
    line: str,
    devices: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def restart(_request: AdminRequest) -> dict[str, str]:
        return {"device": "board-7"}  # it was asked for by its name in topics

    async def refuse(_request: AdminRequest) -> None:
        raise StoreError("no")

    caplog.set_level(logging.INFO)
    verbs = {"restart": restart, "rename": refuse, "update": nothing, "reload": nothing}
    async with admin(verbs) as box:
        box.bring(verb, fields)
        await box.answers(1)

    (record,) = caplog.records
    assert f"{record.levelname} {record.getMessage()}" == line
    assert fields_of(record) == tuple(("DEVICE", device) for device in devices)


async def test_a_slow_request_holds_up_no_other_and_too_many_are_told_busy() -> None:
    let_go = asyncio.Event()

    async def slow(_request: AdminRequest) -> str:
        await let_go.wait()
        return "slow"

    async with admin({"backup": Verb(slow, longest_s=60.0), "reload": nothing}) as box:
        for number in range(AT_ONCE - 1):
            box.bring("backup", packet_id=number + 1)
        box.bring("reload", packet_id=100)
        (quick,) = await box.answers(1)
        box.bring("backup", packet_id=101)
        box.bring("backup", packet_id=102)
        _, busy = await box.answers(2)
        let_go.set()
        sent = await box.answers(AT_ONCE + 2)
        box.bring("backup", packet_id=103)
        again = (await box.answers(AT_ONCE + 3))[-1]

    assert quick.topic.endswith("/reload")
    assert busy.answer["error"].startswith(f"busy: {AT_ONCE} requests")
    assert [each.answer["status"] for each in sent[2:]] == ["ok"] * AT_ONCE
    assert again.answer == {"status": "ok", "data": "slow"}


async def test_what_takes_too_long_is_given_up() -> None:
    async def slow(_request: AdminRequest) -> None:
        await asyncio.Event().wait()

    async with admin({"reload": Verb(slow, longest_s=0.01)}) as box:
        box.bring("reload")
        (sent,) = await box.answers(1)

    assert sent.answer == {"status": "error", "error": "not done within 0.01 s"}


async def test_what_the_broker_delivers_twice_is_done_once() -> None:
    done: list[AdminRequest] = []

    async def act(request: AdminRequest) -> None:
        done.append(request)

    async with admin({"reload": act}) as box:
        box.bring("reload", packet_id=7)
        box.bring("reload", packet_id=7, is_again=True)
        box.bring("reload", packet_id=8, is_again=True)  # of an earlier run: not done yet
        await box.answers(2)

    assert (len(done), len(box.sent), box.done) == (2, 2, 3)


async def test_before_it_runs_and_after_its_end_a_request_is_refused() -> None:
    box = Letterbox()
    Admin(box, BASE, Counter())

    box.bring("reload")

    assert "starting or stopping" in box.sent[0].answer["error"]
