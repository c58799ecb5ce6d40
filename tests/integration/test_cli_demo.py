"""`demo`: the whole house in one command, with a terminal and without."""

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.support.commands import gateway, running
from tests.support.slow_callbacks import without_complaints

ESC = "\x1b"
BOARDS = ("greenhouse", "cellar", "roof", "attic", "kitchen", "terrace")
SHOWN_WITHIN_S = 60.0


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


def test_a_timed_run_delivers_samples_of_all_boards_and_prints_plain_lines() -> None:
    done = gateway("demo", environment={"DEMO_SECONDS": "10"})

    assert (done.code, done.err) == (0, "")
    assert ESC not in done.out
    assert re.search(r"mosquitto_sub -p \d+ -t 'edge/#' -v", done.out)
    summary = done.out[done.out.index("samples delivered") :]
    for board in BOARDS:
        counted = re.search(rf"  {board}: received (\d+), delivered (\d+), lost 0\n", summary)
        assert counted, f"{board} in {summary}"
        assert 1 <= int(counted[2]) <= int(counted[1])


def test_a_run_too_short_for_the_boards_fails_and_names_them() -> None:
    done = gateway("demo", "--seconds", "0.05")

    assert done.code == 1
    assert f"nothing was delivered from {', '.join(BOARDS)}" in done.err
    assert "Traceback" not in done.err


def test_ctrl_c_ends_it_well_and_leaves_no_process() -> None:
    with running("demo") as demo:
        demo.out.next("kitchen")
        children = children_of(demo.pid)
        done = demo.stop(signal.SIGINT)

    assert done.code == 0
    assert "samples delivered" in done.out
    assert "Traceback" not in done.err
    assert len(children) == 5  # four boards and the broker
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_reader_that_stops_reading_ends_it_well() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        demo.stdout.readline()
        demo.stdout.close()
        complaints = demo.stderr.read()

    assert (demo.returncode, without_complaints(complaints.decode())) == (0, "")


def test_a_terminal_gets_a_table_that_is_drawn_in_place() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo"],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as demo:
        os.close(theirs)
        shown = b""
        deadline_s = time.monotonic() + SHOWN_WITHIN_S
        while not {b"moisture=", b"rain=", b"free_heap="} <= set(re.findall(rb"\w+=", shown)):
            assert time.monotonic() < deadline_s, shown[-3000:]
            shown += os.read(ours, 65_536)
        demo.send_signal(signal.SIGINT)
        while chunk := _read_to_the_end(ours):
            shown += chunk
        _, complaints = demo.communicate(timeout=30)
    os.close(ours)

    text = shown.decode()
    assert (demo.returncode, without_complaints(complaints.decode())) == (0, "")
    assert f"{ESC}[" in text
    assert "newest values" in text
    assert "loop lag p99" in text
    assert "samples delivered" in text
    rows = re.split(r"\r|\n|\x1b\[1A", text)
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", row).rstrip() for row in rows]
    assert max(map(len, plain)) <= 80
    assert "..." not in [row.strip() for row in plain], "rich cuts off what is too high"
    assert any(re.fullmatch(r"mosquitto_sub -p \d+ -t 'edge/#' -v", row) for row in plain)
    switch = r"mosquitto_pub -p \d+ -t edge/demo/linux-\w+/pump/set -m ON"
    assert any(re.fullmatch(switch, row) for row in plain)


def _read_to_the_end(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # EIO: nobody has the other end any more
        return b""


@pytest.mark.parametrize(
    ("words", "variable", "complaint"),
    [
        ([], "soon", "DEMO_SECONDS: a number of seconds, not 'soon'"),
        ([], "-1", "the demo's seconds must be more than 0, not -1"),
        (["--seconds", "nan"], "", "the demo's seconds must be more than 0, not nan"),
        (["--interpreter", "/nowhere"], "", "/nowhere is no MicroPython that runs here"),
    ],
)
def test_wrong_usage_is_explained(words: list[str], variable: str, complaint: str) -> None:
    done = gateway("demo", *words, environment={"DEMO_SECONDS": variable})

    assert (done.code, done.out) == (2, "")
    assert complaint in done.err
