"""board/session.py: commands are executed at most once."""

from typing import Any

import pytest

from tests.firmware.model_gateway import CMD, RSP, Said, drain, json_line, welcome_line
from tests.firmware.session_bench import board


class Counter:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, args: object) -> int:
        self.calls.append(args)
        return len(self.calls)


def at_work(**commands: Any) -> Any:  # noqa: ANN401 - the firmware is untyped
    session = board(commands=commands)
    drain(session, 0)
    session.on_line(welcome_line(), 0)
    drain(session, 0)
    return session


def ask(session: Any, request: object, mid: int = 1, waited_ms: int = 0) -> list[Said]:  # noqa: ANN401 - the firmware is untyped
    session.on_line(json_line(CMD, request, mid), 10, waited_ms)
    return drain(session, 10)


def request(name: str, args: object = None, cid: str = "a", ttl_ms: int = 5000) -> dict[str, Any]:
    return {"c": name, "a": args, "ttl_ms": ttl_ms, "cid": cid}


def test_the_answer_carries_the_requests_ids() -> None:
    session = at_work(add=lambda args: args[0] + args[1])

    frames = ask(session, request("add", [1, 2], cid="5f3a9c1"), mid=77)

    assert [(frame.kind, frame.mid, frame.json) for frame in frames] == [
        (RSP, 77, {"cid": "5f3a9c1", "ok": 3})
    ]


def test_a_repeated_command_is_answered_and_not_repeated() -> None:
    count = Counter()
    session = at_work(count=count)

    answers = [ask(session, request("count", "x"), mid=9)[0] for _ in range(5)]

    assert count.calls == ["x"]
    assert {answer.payload for answer in answers} == {b'{"cid":"a","ok":1}'}


def test_of_the_last_eight_only_the_newest_two_keep_a_long_answer() -> None:
    """The others are not done again either."""
    count = Counter()
    session = at_work(count=lambda args: [count(args), "x" * 200])
    for cid in "abc":
        ask(session, request("count", cid=cid))

    answers = [ask(session, request("count", cid=cid))[0].json for cid in "abc"]

    assert len(count.calls) == 3
    assert answers[0] == {"cid": "a", "err": "done; the answer is forgotten"}
    assert [answer["ok"][0] for answer in answers[1:]] == [2, 3]


def test_the_last_eight_results_are_kept() -> None:
    count = Counter()
    session = at_work(count=count)
    for number in range(9):
        ask(session, request("count", number, cid=str(number)))

    for number in range(1, 9):
        ask(session, request("count", number, cid=str(number)))
    assert len(count.calls) == 9
    ask(session, request("count", 0, cid="0"))

    assert len(count.calls) == 10


def test_sessions_of_one_board_can_share_their_results() -> None:
    count = Counter()
    first, second = at_work(count=count), at_work(count=count)
    second.answers = first.answers

    ask(first, request("count"))
    ask(second, request("count"))

    assert len(count.calls) == 1


@pytest.mark.parametrize("waited_ms", [100, 60_000])
def test_a_command_that_lay_unread_too_long_is_refused(waited_ms: int) -> None:
    count = Counter()
    session = at_work(count=count)

    frames = ask(session, request("count", ttl_ms=100), waited_ms=waited_ms)

    assert frames[0].json == {"cid": "a", "err": "expired"}
    assert count.calls == []


def test_a_command_in_time_is_executed() -> None:
    count = Counter()

    ask(at_work(count=count), request("count", ttl_ms=100), waited_ms=99)

    assert len(count.calls) == 1


def test_an_unknown_command_is_an_error() -> None:
    assert ask(at_work(), request("fly"))[0].json == {"cid": "a", "err": "unknown command"}


def refuse(_args: object) -> None:
    raise ValueError("no such pump")


def break_down(_args: object) -> None:
    raise OSError(5, "EIO")


def test_a_command_may_refuse() -> None:
    assert ask(at_work(go=refuse), request("go"))[0].json == {"cid": "a", "err": "no such pump"}


def test_a_broken_command_is_an_answer_too() -> None:
    session = at_work(go=break_down, count=Counter())

    assert "EIO" in ask(session, request("go"))[0].json["err"]
    assert ask(session, request("count", cid="b"))[0].json["ok"] == 1


def test_a_result_too_long_is_said_to_be() -> None:
    answer = ask(at_work(go=lambda _args: "x" * 2000), request("go"))[0].json

    assert answer == {"cid": "a", "err": "done, but the result is too long to send"}


@pytest.mark.parametrize(
    "bad", [{}, [], "go", {"c": "go"}, {"c": "go", "cid": 5}, {"c": "go", "cid": None}]
)
def test_a_command_without_an_id_is_not_executed(bad: object) -> None:
    count = Counter()
    session = at_work(go=count)

    frames = ask(session, bad)

    assert RSP not in [frame.kind for frame in frames]
    assert count.calls == []
    assert session.bad_frames == 1


@pytest.mark.parametrize("bad", [{"c": ["go"]}, {"c": "go", "ttl_ms": "soon"}, {"cid": "a"}])
def test_a_command_that_makes_no_sense_is_answered(bad: dict[str, Any]) -> None:
    count = Counter()

    answer = ask(at_work(go=count), {"cid": "a", **bad})[0].json

    assert answer["cid"] == "a"
    assert answer["err"]
    assert count.calls == []


def test_unsent_answers_are_bounded() -> None:
    session = at_work(count=Counter())

    for number in range(50):
        session.on_line(json_line(CMD, request("count", cid=str(number))), 10)
    answers = [frame.json["ok"] for frame in drain(session, 10)]

    assert answers == list(range(43, 51))
