"""Log lines as a terminal and as journald want them."""

import os
import subprocess
import sys

PROGRAM = """
import logging
from gateway.cli import logs
logs.configure("info")
log = logging.getLogger("gateway.test")
log.debug("hidden")
log.info("port %s", "a\\nb\\x1b[31m")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
"""


def stderr_of(*, journal: bool) -> list[str]:
    reader, writer = os.pipe()
    try:
        status = os.fstat(writer)
        stream = f"{status.st_dev}:{status.st_ino}" if journal else "0:0"
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            stderr=writer,
            env={**os.environ, "JOURNAL_STREAM": stream},
            check=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    with os.fdopen(reader) as lines:
        return lines.read().splitlines()


def test_a_line_has_time_level_and_logger_and_cannot_be_broken_by_a_device() -> None:
    lines = stderr_of(journal=False)

    stamp, rest = lines[0].split(" ", 1)
    assert len(stamp) == len("2026-11-22T07:00:00.123")
    assert rest == r"INFO gateway.test: port a\x0ab\x1b[31m"
    assert lines[1].endswith(" ERROR gateway.test: broken")
    assert lines[2] == "Traceback (most recent call last):"


def test_journald_gets_priorities_instead_of_times() -> None:
    lines = stderr_of(journal=True)

    assert lines[0] == r"<6>INFO gateway.test: port a\x0ab\x1b[31m"
    assert lines[1:3] == [
        "<3>ERROR gateway.test: broken",
        "<3>Traceback (most recent call last):",
    ]
    assert all(line.startswith("<3>") for line in lines[1:])
