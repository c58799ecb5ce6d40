"""The board's whole program under each interpreter, over pipes: joining, sampling, commands."""

import json
import os
import struct
from itertools import pairwise

import pytest

from tests.firmware.board_process import Bench
from tests.firmware.model_gateway import (
    ACTUATOR,
    HELLO,
    LOG,
    READ,
    STREAM,
    ModelGateway,
    json_line,
)

COUNTER = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 10}
PUMP = {"kind": "relay", "name": "pump", "pin": 5}


def texts(logs: list[bytes]) -> list[str]:
    return [log[1:].decode() for log in logs]


def test_a_board_joins_describes_itself_and_delivers_in_order(every_bench: Bench) -> None:
    every_bench.configure(name="greenhouse", sensors=[COUNTER], actuators=[PUMP])

    with every_bench.board({"BOARD_ID": "aabbccddeeff"}) as board:
        board.await_records(50)
        code = board.power_off()

    hello = board.of_kind(HELLO)[0].json
    assert (hello["id"], hello["name"]) == ("linux-aabbccddeeff", "greenhouse")
    assert hello["mp"].startswith(("MicroPython 1.", "CPython 3."))
    assert (hello["p"], hello["ns"], hello["na"], hello["rst"]) == (1, 1, 1, "power")
    for frame in board.of_kind(STREAM):
        assert (frame.json["i"], frame.json["n"], frame.json["f"]) == (0, "count", "i")
    for frame in board.of_kind(ACTUATOR):
        assert frame.json == {"k": "pump", "n": "pump", "t": "switch", "state": False}
    described = [frame.kind for frame in board.heard if frame.kind in (STREAM, ACTUATOR, READ)]
    assert described[:3] in ([STREAM, ACTUATOR, READ], [ACTUATOR, STREAM, READ])
    values = [struct.unpack("<BBIi", record)[3] for record in board.gateway.records]
    assert values == list(range(len(values)))
    assert board.gateway.gaps == []
    assert code == 0


@pytest.mark.alone
def test_records_carry_the_time_of_their_reading(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])

    with bench.board() as board:
        board.await_records(20)

    times = [struct.unpack_from("<BBI", record)[2] for record in board.gateway.records]
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert 8 <= sorted(steps)[len(steps) // 2] <= 12
    assert all(batch.now_ms - times[batch.first_seq] < 1000 for batch in board.batches()[:20])


def test_the_clock_may_wrap_while_the_board_works(every_bench: Bench) -> None:
    every_bench.configure(sensors=[COUNTER])

    with every_bench.board({"BOARD_CLOCK_MS": str(2**32 - 2000)}) as board:
        board.await_records(250)

    times = [struct.unpack_from("<BBI", record)[2] for record in board.gateway.records]
    assert times[0] > 2**32 - 2000
    assert times[-1] < 10_000
    assert all((later - earlier) % 2**32 < 500 for earlier, later in pairwise(times))


def test_sensors_sample_before_anybody_listens(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])

    with bench.board() as board:
        board.answers_acks = False
        board.until(lambda: len(board.of_kind(READ)) > 3)
        oldest = board.gateway.records[0]

    assert struct.unpack("<BBIi", oldest)[3] == 0


def test_two_streams_keep_their_numbers_apart(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER, {**COUNTER, "name": "other"}])

    with bench.board() as board:
        board.await_records(20)

    names = {frame.json["i"]: frame.json["n"] for frame in board.of_kind(STREAM)}
    assert sorted(names.values()) == ["count", "other"]
    assert {record[1] for record in board.gateway.records} == set(names)


def test_a_failing_sensor_is_told_once_and_the_others_go_on(bench: Bench) -> None:
    failing = {"kind": "simulated", "name": "sick", "fail_every": 1, "interval_ms": 20}
    missing = {"kind": "flux_capacitor", "interval_ms": 20}
    bench.configure(sensors=[failing, missing, COUNTER])

    with bench.board() as board:
        board.await_records(80)
        errors = board.command("info")["ok"]["errors"]

    told = texts(board.gateway.logs)
    assert len([text for text in told if text.startswith("flux_capacitor: ")]) == 1
    assert sorted(errors) == ["flux_capacitor", "sick"]
    assert "as configured" in errors["sick"]
    assert {frame.json["n"] for frame in board.of_kind(STREAM)} == {"sick", "count"}


def test_a_sensor_that_recovers_is_told(bench: Bench) -> None:
    bench.configure(sensors=[{**COUNTER, "fail_every": 10}])

    with bench.board() as board:
        board.until(lambda: len(board.gateway.logs) >= 2)

    assert "fails, as configured" in texts(board.gateway.logs)[0]
    assert texts(board.gateway.logs)[1] == "count: works again (failures: 1)"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        ('{"name": "a brace { and a quote \\" in it"', "is not JSON"),
        ('{"sensors": [{"kind": "../../x"}]}', "must name a module"),
        ('{"links": [{"kind": "uart", "id": 9}]}', "BOARD_UART9"),
        ('{"actuators": [{"kind": "relay", "name": "pump"}]}', "pump: "),
    ],
    ids=["missing", "cut short", "sensor", "link", "actuator"],
)
def test_a_mistake_in_the_configuration_is_told_by_a_board_that_joins(
    bench: Bench, content: str | None, problem: str
) -> None:
    if content is not None:
        (bench.flash / "config.json").write_text(content)

    with bench.board() as board:
        board.until(lambda: board.gateway.logs)
        errors = board.command("info")["ok"]["errors"]
        code = board.power_off()

    assert problem in texts(board.gateway.logs)[0]
    assert problem in errors["config"]
    assert code == 0


def test_an_actuator_is_set_and_tells_its_state(every_bench: Bench) -> None:
    (every_bench.flash / "fakes.json").write_text(json.dumps({"log_pins": True}))
    every_bench.configure(actuators=[PUMP])

    with every_bench.board() as board:
        board.until(lambda: board.of_kind(ACTUATOR))
        done = board.command("set", {"pump": True}, cid="1")
        repeated = board.command("set", {"pump": True}, cid="1")
        board.until(lambda: len(board.of_kind(ACTUATOR)) >= 2)
        refused = board.command("set", {"pump": "maybe"}, cid="2")
        unknown = board.command("set", {"pump": False, "light": True}, cid="3")
        nothing = board.command("set", None, cid="4")

    assert done == repeated == {"cid": "1", "ok": {"pump": True}}
    assert board.of_kind(ACTUATOR)[1].json["state"] is True
    assert "neither on nor off" in refused["err"]
    assert unknown["err"] == "no actuator light"
    assert "must be an object" in nothing["err"]
    levels = [
        json.loads(line) for line in (every_bench.flash / "pins.log").read_text().splitlines()
    ]
    assert [level["value"] for level in levels if level["pin"] == 5] == [1]


def test_an_actuator_is_safe_when_the_gateway_falls_silent(bench: Bench) -> None:
    (bench.flash / "fakes.json").write_text(json.dumps({"log_pins": True}))
    bench.configure(actuators=[PUMP])

    with bench.board() as board:
        board.gateway = ModelGateway(heartbeat_s=0.1)
        board.until(lambda: board.of_kind(ACTUATOR))
        board.command("set", {"pump": True})
        hellos = len(board.of_kind(HELLO))
        board.gateway.is_silent = True
        board.until(lambda: len(board.of_kind(HELLO)) > hellos)
        levels = (bench.flash / "pins.log").read_text().splitlines()
        board.gateway.is_silent = False
        board.until(lambda: board.of_kind(ACTUATOR)[-1].json["state"] is False)

    assert [json.loads(level)["value"] for level in levels] == [1, 0]


def test_an_interval_is_changed_while_the_board_works(bench: Bench) -> None:
    bench.configure(sensors=[{**COUNTER, "interval_ms": 3_600_000}])

    with bench.board() as board:
        board.await_records(1)
        answer = board.command("interval", {"count": 10}, cid="1")
        board.await_records(50)
        refused = [
            board.command("interval", args, cid=str(number))["err"]
            for number, args in enumerate(({"count": 0}, {"other": 50}, {"count": "fast"}), start=2)
        ]

    assert answer["ok"] == {"count": 10}
    assert "from 1 to" in refused[0]
    assert refused[1] == "no stream other"
    assert "from 1 to" in refused[2]


def test_sensors_that_cannot_keep_up_starve_nobody(bench: Bench) -> None:
    greedy = {**COUNTER, "interval_ms": 1}
    bench.configure(sensors=[greedy, {**greedy, "name": "other"}], watchdog_s=1)

    with bench.board() as board:
        board.await_records(1500)
        answer = board.command("interval", {"count": 1000, "other": 1000})
        board.gateway.records.clear()
        board.keep_talking(1.0)

    assert answer["ok"] == {"count": 1000, "other": 1000}
    assert board.gateway.gaps == []
    assert len(board.gateway.records) < 500  # what was under way


def test_a_board_is_found_by_its_led(bench: Bench) -> None:
    (bench.flash / "fakes.json").write_text(json.dumps({"log_pins": True}))
    bench.configure(led=2)

    with bench.board() as board:
        board.until(lambda: board.of_kind(HELLO))
        answer = board.command("identify")
        board.keep_talking(0.8)

    levels = [json.loads(line) for line in (bench.flash / "pins.log").read_text().splitlines()]
    assert answer == {"cid": "1", "ok": None}
    assert [level["value"] for level in levels][:3] == [1, 0, 1]


def test_a_board_without_a_led_says_so(bench: Bench) -> None:
    bench.configure()

    with bench.board() as board:
        board.until(lambda: board.of_kind(HELLO))

        assert board.command("identify")["err"] == "config.json names no led"


def test_info_tells_how_the_board_is(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER], ring_bytes=1024)

    with bench.board() as board:
        board.await_records(5)
        info = board.command("info")["ok"]

    assert info["ring_bytes"] == 1024
    assert info["lost"] == 0
    assert info["uptime_s"] < 60
    assert info["heap_free"] > 0
    assert info["epoch"] == board.of_kind(HELLO)[0].json["ep"]
    (link,) = info["links"]
    assert (link["link"], link["bad"]) == ("stdio", 0)


def test_a_command_that_lay_unread_too_long_is_refused(bench: Bench) -> None:
    bench.configure(actuators=[PUMP])

    with bench.board() as board:
        board.until(lambda: board.of_kind(ACTUATOR))
        os.kill(board.process.pid, 19)  # SIGSTOP: a driver that holds up the loop
        request = {"c": "set", "a": {"pump": True}, "ttl_ms": 500, "cid": "late"}
        board.send(json_line(0x20, request))
        board.keep_talking(1.0)
        os.kill(board.process.pid, 18)  # SIGCONT
        answer = board.command("info", cid="after", ttl_ms=60_000)

    assert board.gateway.answers["late"] == [{"cid": "late", "err": "expired"}]
    assert "ok" in answer


def test_an_idle_board_needs_next_to_no_processor(bench: Bench) -> None:
    bench.configure(sensors=[{"kind": "heap", "interval_ms": 60_000}])

    with bench.board() as board:
        board.await_records(1)
        before = _cpu_s(board.process.pid)
        board.keep_talking(1.5)
        used = _cpu_s(board.process.pid) - before

    assert used < 0.1, f"{used:.2f} s of processor in 1.5 s"


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_lines_of_logs_are_levelled(bench: Bench) -> None:
    bench.configure(sensors=[{"kind": "flux_capacitor"}], nmae="x")

    with bench.board() as board:
        board.until(lambda: len(board.of_kind(LOG)) >= 2)

    assert [frame.payload[0] for frame in board.of_kind(LOG)[:2]] == [4, 3]
