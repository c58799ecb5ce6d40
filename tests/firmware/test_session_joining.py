"""board/session.py: HELLO, WELCOME, descriptions, heartbeat and silence."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.model_gateway import (
    ACTUATOR,
    BYE,
    HELLO,
    HELLO_REQ,
    LOG,
    OLDEST,
    PING,
    PONG,
    READ,
    STREAM,
    STREAM_REQ,
    batch,
    drain,
    json_line,
    line_of,
    said,
    welcome_line,
)
from tests.firmware.session_bench import INFO, Pump, board, push

VECTORS: Any = json.loads(
    (Path(__file__).parents[1] / "vectors" / "messages.json").read_text(encoding="utf-8")
)


def kinds(session: Any, now_ms: int) -> list[int]:  # noqa: ANN401 - the firmware is untyped
    return [frame.kind for frame in drain(session, now_ms)]


def joined(session: Any, now_ms: int = 0) -> Any:  # noqa: ANN401 - the firmware is untyped
    drain(session, now_ms)
    session.on_line(welcome_line(), now_ms)
    drain(session, now_ms)
    return session


def test_hello_is_said_at_once_then_every_second() -> None:
    session = board()

    times = [now_ms for now_ms in range(0, 3500, 10) if session.next_line(now_ms)]

    assert times == [0, 1000, 2000, 3000]


def test_hello_says_what_the_board_is_and_has() -> None:
    session = board(actuators=[Pump()], max_frame=297)
    push(session, 5)
    session.ring.release(2)

    hello = said(session.next_line(0)).json

    expected = {"p": 1, "ep": 7, "sq": 5, "un": 3, "ak": 2, "mf": 297, "ns": 2, "na": 1}
    assert hello == {**INFO, **expected}


def test_nothing_was_acknowledged_before_the_first_ack() -> None:
    assert "ak" not in said(board().next_line(0)).json


def test_hello_tells_how_far_the_last_epoch_went_until_a_record_of_this_one_is_safe() -> None:
    session = board()
    session.ring.previous = (6, 120, 100)
    push(session, 3)

    told = said(session.next_line(0)).json
    session.on_line(welcome_line(safe=0), 0)
    session.on_line(line_of(HELLO_REQ), 0)
    again = said(session.next_line(0)).json
    session.on_line(welcome_line(safe=1), 0)
    session.on_line(line_of(HELLO_REQ), 0)
    not_any_more = said(session.next_line(0)).json

    assert (told["pe"], told["ps"], told["pa"]) == (6, 120, 100)
    assert again["pe"] == 6
    assert not {"pe", "ps", "pa"} & set(not_any_more)


def test_the_time_of_the_gateway_is_handed_on() -> None:
    session = board()
    told: list[tuple[int, int]] = []
    session.on_time = lambda utc_ms, now_ms: told.append((utc_ms, now_ms))
    session.next_line(0)

    session.on_line(welcome_line(), 100)
    session.on_line(line_of(PONG, struct.pack("<IIH", 5000, 1790000005, 250)), 5040)

    assert told == [(1790000000_000, 100), (1790000005_270, 5040)]


def test_welcome_brings_descriptions_before_readings() -> None:
    session = board(actuators=[Pump()])
    push(session, 1)
    drain(session, 0)

    session.on_line(welcome_line(), 100)
    frames = drain(session, 100)

    assert [frame.kind for frame in frames] == [STREAM, STREAM, ACTUATOR, READ]
    assert frames[0].json == {
        "i": 0,
        "n": "climate",
        "f": "h",
        "c": [["temperature", "°C", -2, "temperature"]],
    }
    assert frames[1].json["i"] == 1
    assert frames[2].json == {"k": "pump", "n": "Pump", "t": "switch", "state": False}
    assert batch(frames[3]).flags == OLDEST


def test_a_restarted_gateway_gets_what_is_not_safe() -> None:
    session = joined(board())
    records = push(session, 6)
    drain(session, 0)

    session.on_line(line_of(HELLO_REQ), 10)
    assert kinds(session, 10) == [HELLO]
    session.on_line(welcome_line(safe=4), 20)
    read = batch(drain(session, 20)[-1])

    assert (read.first_seq, read.records) == (4, records[4:])


def test_hello_request_does_not_hasten_a_hello_that_is_due_anyway() -> None:
    session = board()
    drain(session, 0)

    session.on_line(line_of(HELLO_REQ), 10)

    assert drain(session, 10) == []


def test_welcome_to_another_boot_is_ignored() -> None:
    session = board()
    drain(session, 0)

    session.on_line(welcome_line(epoch=6), 10)

    assert not session.joined


def test_an_epoch_of_another_life_is_left() -> None:
    session = board()
    push(session, 3)
    drain(session, 0)

    session.on_line(welcome_line(safe=5000), 10)
    hello = said(session.next_line(10)).json

    assert hello["ep"] != 7
    assert (hello["sq"], hello["un"]) == (3, 3)


def test_commands_and_acks_wait_for_the_welcome() -> None:
    session = board(commands={"go": lambda _args: 1})
    push(session, 3)
    drain(session, 0)

    session.on_line(json_line(0x20, {"c": "go", "a": None, "ttl_ms": 9, "cid": "1"}), 10)
    session.on_line(line_of(0x11, bytes.fromhex("0700020000000300")), 10)

    assert drain(session, 10) == []
    assert session.ring.count == 3


def test_one_stream_is_described_on_request() -> None:
    session = joined(board())

    session.on_line(line_of(STREAM_REQ, b"\x01"), 10)
    frames = drain(session, 10)

    assert [frame.json["i"] for frame in frames] == [1]


def test_everything_is_described_on_request() -> None:
    session = joined(board(actuators=[Pump()]))

    session.on_line(line_of(STREAM_REQ, b"\xff"), 10)

    assert kinds(session, 10) == [STREAM, STREAM, ACTUATOR]


def test_a_request_for_a_stream_there_is_not_is_ignored() -> None:
    session = joined(board())

    session.on_line(line_of(STREAM_REQ, b"\x02"), 10)

    assert drain(session, 10) == []


def test_a_stream_may_come_later() -> None:
    streams = [("a", "h", (("x", "", 0, ""),))]
    session = joined(board(streams=streams))

    streams.append(("b", "h", (("y", "", 0, ""),)))
    session.describe(1)

    assert [frame.json["n"] for frame in drain(session, 10)] == ["b"]


def test_an_actuators_state_is_reported_and_repeated() -> None:
    pump = Pump()
    session = joined(board(actuators=[pump]))

    pump.state = True
    session.report(0)
    told = drain(session, 10)
    for now_ms in range(0, 59_000, 1000):
        session.on_line(line_of(PONG, bytes(10)), now_ms)
        drain(session, now_ms)
    again = drain(session, 60_000)

    assert [frame.json["state"] for frame in told] == [True]
    assert ACTUATOR in [frame.kind for frame in again]


def test_ping_is_sent_when_nothing_else_was_for_a_heartbeat() -> None:
    session = joined(board())

    assert session.due_ms(0) == 5000
    assert kinds(session, 4999) == []
    assert kinds(session, 5000) == [PING]
    assert session.due_ms(5000) == 5000


def test_pong_tells_the_round_trip() -> None:
    session = joined(board())
    ping = drain(session, 5000)[0]

    session.on_line(line_of(PONG, ping.payload + bytes(6)), 5042)

    assert session.rtt_ms == 42


def test_a_silent_gateway_is_gone_after_three_heartbeats() -> None:
    session = joined(board())
    states: list[str] = []
    session.on_up = lambda: states.append("up")
    session.on_down = lambda: states.append("down")

    early = kinds(session, 14_999)
    assert not states
    late = kinds(session, 15_000)
    session.on_line(welcome_line(), 15_100)

    assert early == [PING]
    assert late == [HELLO]
    assert states == ["down", "up"]


def test_a_gateway_that_only_asks_for_hello_is_gone_too() -> None:
    session = joined(board())
    states: list[str] = []
    session.on_down = lambda: states.append("down")

    for now_ms in range(1000, 15_000, 500):
        session.on_line(line_of(HELLO_REQ), now_ms)
        drain(session, now_ms)
    assert not states
    session.next_line(15_000)

    assert states == ["down"]
    assert not session.up


def test_the_heartbeat_is_the_gateways() -> None:
    session = board()
    drain(session, 0)

    session.on_line(welcome_line(heartbeat_s=0.5), 0)
    drain(session, 0)

    assert session.due_ms(0) == 500
    assert kinds(session, 1500) == [HELLO]


def test_time_may_wrap() -> None:
    start = 2**32 - 2500
    session = joined(board(), start)
    push(session, 1)

    first = drain(session, start)
    again = drain(session, start + 400)
    wrapped = drain(session, (start + 2900) & 0xFFFFFFFF)

    assert [frame.kind for frame in first] == [READ]
    assert batch(first[0]).now_ms == start
    assert [frame.kind for frame in again] == [READ]
    assert [frame.kind for frame in wrapped] == [READ]
    assert batch(wrapped[0]).now_ms == 400


def test_logs_wait_for_the_welcome_and_the_oldest_go_first() -> None:
    session = board()
    for number in range(20):
        session.log(3, f"line {number}")

    joined_frames = drain(session, 0)
    session.on_line(welcome_line(), 0)
    logs = [frame.payload for frame in drain(session, 0) if frame.kind == LOG]

    assert [frame.kind for frame in joined_frames] == [HELLO]
    assert logs == [b"\x03line %d" % number for number in range(8, 20)]
    assert session.logs_lost == 8


def test_a_long_log_line_is_cut_between_characters() -> None:
    session = joined(board())

    session.log(1, "ß" * 500)
    payload = drain(session, 0)[0].payload

    assert payload == b"\x01" + "ß".encode() * 100


CRASH = (
    "Traceback (most recent call last):\n"
    + "".join(f'  File "board/module{k}.py", line {k}, in function{k}\n' for k in range(16))
    + 'ValueError: "quoted" and ünïcode\n'
)


def test_a_crash_fits_into_hello_and_is_told_in_full_once() -> None:
    session = board(crash=CRASH)
    session.log(4, "config is broken")

    line = session.next_line(0)
    session.on_line(welcome_line(), 0)
    told = [frame.payload for frame in drain(session, 0) if frame.kind == LOG]
    session.on_line(welcome_line(), 10)
    again = [frame.payload for frame in drain(session, 10) if frame.kind == LOG]

    assert len(said(line).payload) <= 400
    crash = said(line).json["crash"]
    assert CRASH.strip().endswith(crash)
    assert crash.endswith('ValueError: "quoted" and ünïcode')
    assert told[0] == b"\x04config is broken"
    assert told[1:] == [b"\x04" + text.encode() for text in CRASH.strip().split("\n")]
    assert again == []


@pytest.mark.parametrize("length", [1, 40, 80, 120, 200, 3000])
def test_hello_keeps_to_its_line_whatever_crashed(length: int) -> None:
    session = board(crash='\n"ü\\' * length)

    line = session.next_line(0)

    assert len(said(line).payload) <= 400
    assert said(line).json["crash"]


def test_goodbye_is_said_only_to_who_knows_us() -> None:
    session = board()
    session.bye(3000)
    joined(session)

    session.bye(60_000)

    assert [(frame.kind, frame.payload.hex()) for frame in drain(session, 1)] == [(BYE, "60ea0000")]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row["name"])
        for row in VECTORS["vectors"] + VECTORS["unknown"]
        if row.get("direction") != "b>g" and row.get("line")
    ],
)
def test_every_message_of_the_gateway_is_understood(row: dict[str, Any]) -> None:
    session = joined(board(ring_bytes=16384))
    push(session, 60)
    session.ring.release(42)

    session.on_line(row["line"].encode() + b"\n", 10)

    assert (session.bad_lines, session.bad_frames) == (0, 0)


@pytest.mark.parametrize(
    "message",
    [
        "null",
        "[]",
        "{}",
        "{",
        '{"p":1,"ep":7,"nx":"0","cr":3,"hb":5}',
        '{"p":1,"ep":7,"nx":0,"cr":-1,"hb":5}',
        '{"p":1,"ep":7,"nx":-1,"cr":3,"hb":5}',
        '{"p":1,"ep":7,"nx":0,"cr":3,"hb":0}',
        '{"p":1,"ep":7,"nx":0,"cr":3,"hb":1e999}',
        '{"p":1,"ep":7,"nx":0,"cr":3,"hb":NaN}',
        "[" * 250,
    ],
)
def test_an_impossible_welcome_changes_nothing(message: str) -> None:
    session = board()
    push(session, 3)
    drain(session, 0)

    session.on_line(line_of(2, message.encode()), 0)

    assert session.bad_frames == 1
    assert not session.joined
    assert session.ring.count == 3
    assert session.due_ms(0) == 1000


@pytest.mark.parametrize("kind", [2, 4, 6, 0x11, 0x20])
def test_an_empty_payload_is_counted_and_told_once(kind: int) -> None:
    session = joined(board())

    for _ in range(3):
        session.on_line(line_of(kind), 10)

    assert session.bad_frames == 3
    assert kinds(session, 10) == [LOG]


def test_what_is_no_frame_is_counted() -> None:
    session = joined(board())

    for line in (b"", b"hello", b"~AAAA", b"~\xff\xfe", b"~" * 400):
        session.on_line(line, 10)

    assert session.bad_lines == 5
    assert drain(session, 10) == []


@pytest.mark.parametrize(
    "kind", [1, 3, 5, 7, 0x10, 0x21, 0x30, 0x41, 0x43, 0x46, 0x50, 0xA1, 0xC1, 0xC3, 0xC6]
)
def test_an_echo_is_no_sign_of_life(kind: int) -> None:
    session = joined(board())

    for now_ms in range(1000, 15_000, 1000):
        session.on_line(line_of(kind, bytes(20)), now_ms)
        drain(session, now_ms)

    assert kinds(session, 15_000) == [HELLO]
    assert (session.bad_frames, session.unknown_frames) == (0, 0)


def test_unknown_frames_are_counted_and_keep_the_link() -> None:
    session = joined(board())

    session.on_line(line_of(0x60, b"tomorrow"), 14_000)

    assert session.unknown_frames == 1
    assert PING in kinds(session, 28_999)
    assert session.up
