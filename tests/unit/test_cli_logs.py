"""Log lines as a terminal and as journald want them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.fake_journal import FakeJournal

PROGRAM = """
import logging, sys
from gateway.cli import logs
look = logs.serve("info")
log = logging.getLogger("gateway.test")
log.debug("hidden")
log.info("port %s", "a\\nb\\x1b[31m")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
assert int(sys.argv[1]) >= 0, f"a flood of {sys.argv[1]}"
for number in range(int(sys.argv[1])):
    log.info("flood %d", number)
"""


def stderr_of(socket: Path, *, journal: bool, flood: int = 60) -> list[str]:
    reader, writer = os.pipe()
    try:
        status = os.fstat(writer)
        stream = f"{status.st_dev}:{status.st_ino}" if journal else "0:0"
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(flood)],
            stderr=writer,
            env={**os.environ, "JOURNAL_STREAM": stream, "EDGE_GATEWAY_JOURNAL": str(socket)},
            check=flood >= 0,
            timeout=60,
        )
    finally:
        os.close(writer)
    with os.fdopen(reader) as lines:
        return lines.read().splitlines()


def test_a_line_has_time_level_and_logger_and_cannot_be_broken_by_a_device(tmp_path: Path) -> None:
    with FakeJournal(tmp_path / "journal") as fake:
        lines = stderr_of(fake.path, journal=False)
        assert fake.waiting() == []

    stamp, rest = lines[0].split(" ", 1)
    assert len(stamp) == len("2026-11-22T07:00:00.123")
    assert rest == r"INFO gateway.test: port a\x0ab\x1b[31m"
    assert lines[1].endswith(" ERROR gateway.test: broken")
    assert lines[2] == "Traceback (most recent call last):"
    assert lines[-2].endswith(" INFO gateway.test: flood 49")
    assert lines[-1].endswith(
        " INFO gateway.test: 10 more like this were suppressed within 0 s: flood 59"
    )


def test_where_only_the_stream_of_journald_is_there_lines_have_priorities_instead_of_times(
    tmp_path: Path,
) -> None:
    lines = stderr_of(tmp_path / "nobody", journal=True)

    assert lines[0] == r"<6>INFO gateway.test: port a\x0ab\x1b[31m"
    assert lines[1:3] == [
        "<3>ERROR gateway.test: broken",
        "<3>Traceback (most recent call last):",
    ]
    assert all(
        line.startswith("<3>") for line in lines[1 : lines.index("<6>INFO gateway.test: flood 0")]
    )
    assert lines[-1].startswith("<6>INFO gateway.test: 10 more like this were suppressed")


def test_what_ends_the_process_for_a_fault_of_its_own_is_an_error_in_the_journal(
    tmp_path: Path,
) -> None:
    with FakeJournal(tmp_path / "journal") as fake:
        on_stderr = stderr_of(fake.path, journal=True, flood=-1)
        *_, last = fake.waiting()

    assert on_stderr == []
    assert last["PRIORITY"] == ["2"]
    assert last["MESSAGE"][0].startswith("ended by a fault of its own\nTraceback (most recent")
    assert last["MESSAGE"][0].endswith("AssertionError: a flood of -1")


def test_journald_gets_entries_and_nothing_comes_on_its_stream(tmp_path: Path) -> None:
    with FakeJournal(tmp_path / "journal") as fake:
        assert stderr_of(fake.path, journal=True, flood=0) == []
        port, broken = fake.waiting()

    assert port["MESSAGE"] == [r"port a\x0ab\x1b[31m"]
    assert (port["PRIORITY"], port["LOGGER"]) == (["6"], ["gateway.test"])
    assert broken["PRIORITY"] == ["3"]
    assert broken["MESSAGE"][0].endswith("ZeroDivisionError: division by zero")
