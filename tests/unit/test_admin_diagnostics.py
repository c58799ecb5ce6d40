"""What is told of the gateway's health, and what never is."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.diagnostics import MAX_ANSWER_BYTES, Diagnostics, Sources
from gateway.admin.kept_files import KEPT
from gateway.admin.recent_log import MAX_CHARACTERS, MAX_LINES, RecentLog
from gateway.checkup import MAX_NAMED, SLOW_LOOP_S, problems_of
from gateway.errors import RequestError
from gateway.requests.admin import DiagnosticsRequest
from gateway.status import Status

ASKED = DiagnosticsRequest()


def sound() -> Status:
    status = Status()
    status.broker.address, status.broker.connected = "b:1883", True
    status.store.state = status.state.state = "ok"
    status.link("ttyUSB0").state = "open"
    status.radio.state = "scanning"
    status.loop_lag_s.record(0.001)
    return status


def test_a_gateway_that_is_well_has_no_problems() -> None:
    assert problems_of(sound()) == []


def test_each_problem_is_told_in_words() -> None:
    status = sound()
    status.broker.connected, status.broker.trouble = False, "another gateway is test"
    status.store.state, status.store.error = "failing", "/x/outbox.db: disk full"
    status.state.state = "opening"
    status.configuration.state, status.configuration.error = "last_good", "g.toml: it is empty"
    status.link("ttyUSB1").state = "lost"
    status.link("ttyUSB2").state = "closed"
    status.link("A4:C1:38:12:34:56").rssi = -70  # a board that is not connected just now
    status.device("bath").problem = "needs_key"
    status.radio.state, status.radio.reason = "recovering", "InProgress"
    for _ in range(100):
        status.loop_lag_s.record(SLOW_LOOP_S * 2)

    assert problems_of(status) == [
        "broker: there is no connection to b:1883",
        "broker: another gateway is test",
        "outbox: /x/outbox.db: disk full",
        "state database: still being opened",
        "configuration: the last good one is in force: g.toml: it is empty",
        "link ttyUSB1: lost, and tried again",
        "link ttyUSB2: cannot be opened, and is tried again; the log says why",
        "device bath: needs key",
        "radio: it does not scan: InProgress",
        "machine: too slow: the loop is 0.50 s late once in a hundred times",
    ]


def test_a_configuration_that_could_not_be_reloaded_is_told() -> None:
    status = sound()
    status.configuration.state, status.configuration.error = "refused", "g.toml:2: no"

    assert problems_of(status) == ["configuration: not reloaded: g.toml:2: no"]


def test_hundreds_of_lost_links_are_counted_not_listed() -> None:
    status = sound()
    for number in range(300):
        status.link(f"ttyUSB{number}").state = "lost"

    problems = problems_of(status)

    assert len(problems) == MAX_NAMED + 1
    assert problems[-1] == f"{300 - MAX_NAMED} more: links lost, and tried again"


def record(log: RecentLog, text: str, level: int = logging.INFO) -> None:
    log.handle(logging.LogRecord("gateway.x", level, "x.py", 1, "%s", (text,), None))


def test_the_last_lines_are_kept_and_no_more() -> None:
    log = RecentLog()

    for number in range(MAX_LINES + 5):
        record(log, f"line {number}")

    lines = log.lines()
    assert len(lines) == MAX_LINES
    assert lines[0].endswith("INFO gateway.x: line 5")
    assert lines[-1].endswith(f"line {MAX_LINES + 4}")


def test_a_long_line_loses_its_middle() -> None:
    log = RecentLog()
    record(log, "first" + "x" * 10_000 + "last")

    (line,) = log.lines()
    assert "first" in line
    assert line.endswith("last")
    assert len(line) <= MAX_CHARACTERS + 5


def test_secrets_are_masked_in_the_lines() -> None:
    log = RecentLog()
    record(log, "the password is hunter2, the key 231d39c1d7cc1ab1aee224cd096db932; hunter22")

    (line,) = log.lines(["hunter2", "hunter22", "231d39c1d7cc1ab1aee224cd096db932", "is"])
    assert line.endswith("the password is ***, the key ***; ***")


def test_the_log_of_the_process_gets_there_from_info_on() -> None:
    log = RecentLog()
    logger = logging.getLogger("gateway.test_recent")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(log)
    logger.debug("payload 21.5")
    logger.info("seen")
    logger.removeHandler(log)

    assert [line.partition(": ")[2] for line in log.lines()] == ["seen"]


def diagnostics(folder: Path, status: Status, log_lines: list[str]) -> Diagnostics:
    sources = Sources(
        status,
        settings=lambda: {"mqtt": {"host": "b"}},
        health=lambda: b'{"memory_bytes":1}',
        log_lines=lambda: log_lines,
    )
    return Diagnostics(folder, "attic", sources)


async def test_diagnostics_tell_all_but_what_is_measured(tmp_path: Path) -> None:
    status = sound()
    status.link("ttyUSB0").faults["bad_crc"] = 3
    device = status.device("bath")
    device.values["temperature"] = 21.123456
    device.received, device.link = 7, "ttyUSB0"

    told: Any = await diagnostics(tmp_path / "d", status, ["a line"]).gather(ASKED)

    assert "21.123456" not in json.dumps(told)
    assert told["devices"][0]["sensors"] == ["temperature"]
    assert (told["devices"][0]["received"], told["devices"][0]["link"]) == (7, "ttyUSB0")
    assert told["links"][0]["faults"] == {"bad_crc": 3}
    assert told["settings"] == {"mqtt": {"host": "b"}}
    assert told["health"] == {"memory_bytes": 1}
    assert told["log"] == ["a line"]
    assert told["problems"] == []
    assert {"edge-gateway", "python", "machine", "aiomqtt", "paho-mqtt"} <= set(told["versions"])
    assert not (tmp_path / "d").exists()


async def test_diagnostics_too_large_for_an_answer_are_a_file(tmp_path: Path) -> None:
    lines = ["x" * MAX_ANSWER_BYTES]

    told: Any = await diagnostics(tmp_path / "d", sound(), lines).gather(ASKED)

    assert set(told) == {"path", "bytes", "sha256"}
    (path,) = (tmp_path / "d").iterdir()
    assert told["path"] == str(path)
    assert json.loads(path.read_bytes())["log"] == lines
    assert told["bytes"] > MAX_ANSWER_BYTES


async def test_diagnostics_asked_for_at_once_are_a_file_each(tmp_path: Path) -> None:
    bundles = diagnostics(tmp_path / "d", sound(), ["x" * MAX_ANSWER_BYTES])

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(bundles.gather(ASKED)) for _ in range(KEPT)]

    made = {str(each.result()["path"]) for each in asked}
    assert made == {str(path) for path in (tmp_path / "d").iterdir()}
    assert len(made) == KEPT


async def test_diagnostics_that_cannot_be_written_are_told_so(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"a file")

    with pytest.raises(RequestError, match=r"File exists: \d+ bytes are too large for an answer"):
        await diagnostics(tmp_path / "d", sound(), ["x" * MAX_ANSWER_BYTES]).gather(ASKED)
