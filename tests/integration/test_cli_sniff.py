"""`sniff` on captures and on live ports."""

import json
import os
import pty
import subprocess
import sys
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.links.replay import Chunk, encode_chunk, parse_capture
from gateway.protocol import messages as m
from gateway.protocol.frames import encode_frame
from tests.support.commands import gateway, running
from tests.support.terminals import read_to_the_end

ESC = "\x1b"
VECTORS = Path(__file__).parents[1] / "vectors"

RECORD = bytes.fromhex("0a00282300006608c401")
"""Stream 0 at 9,000 ms: 2150 (h) and 452 (H), little endian."""

SESSION: list[m.Message] = [
    m.Hello(1, "a1b2c3", 7, 121, 1, name="greenhouse", firmware="0.1.0", streams=1),
    m.Welcome("5f3a9c", 1_790_000_000, 0, 7, 120, 3, 5),
    m.Stream(0, "climate", "hH", (m.Channel("t", "°C", -2, ""), m.Channel("h", "%", -1, ""))),
    m.Read(0, 7, 120, 9_250, 0, 1, RECORD),
    m.Ack(7, 121, 3, 0, 121),
]


def lines_of(messages: list[m.Message]) -> bytes:
    return b"".join(encode_frame(m.encode(message)) for message in messages)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "line.cap"
    path.write_bytes(
        b"ets Jul 29 2019\r\nrst:0x1\r\n"
        + lines_of(SESSION)
        + b'{"t":1}\n~AAAA\n\xff\xfe\x80\x81\n'
    )
    return path


@pytest.fixture
def port() -> Iterator[tuple[int, str]]:
    """Give the board's end of a pty, and the path of the other."""
    board, held = pty.openpty()
    tty.setraw(held)
    yield board, os.ttyname(held)
    os.close(board)
    os.close(held)


def test_a_capture_is_told_line_by_line_without_colour(capture: Path) -> None:
    done = gateway("sniff", str(capture))

    assert done.code == 0
    assert ESC not in done.out + done.err
    assert done.out.splitlines() == [
        "     1 > text           ets Jul 29 2019",
        "     2 > text           rst:0x1",
        (
            "     3 > HELLO          greenhouse (a1b2c3), firmware 0.1.0, epoch 7, next seq 121, "
            "keeps 1, 1 stream, 0 actuators"
        ),
        (
            "     4 < WELCOME        session 5f3a9c, epoch 7, all before seq 120 is safe, "
            "credit 3, heartbeat 5 s"
        ),
        "     5 > STREAM         stream 0 climate: t in °C, h in %",
        "     6 > READ           epoch 7 seq 120; climate: t=21.5 °C h=45.2 %",
        "     7 < ACK            epoch 7, all before seq 121 is safe, credit 3",
        "     8 > json           t=1",
        "     9 > FAULT too_short ~AAAA",
        r"    10 > noise          \xff\xfe\x80\x81",
    ]
    assert done.err == "10 lines: frame 5, text 2, json 1, too_short 1, noise 1\n"


def test_a_capture_with_times_and_both_directions_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "both.cap"
    hello, welcome = (encode_frame(m.encode(message)) for message in SESSION[:2])
    path.write_bytes(
        b"".join(
            encode_chunk(chunk)
            for chunk in (
                Chunk(0.0, "in", hello[:20]),
                Chunk(0.25, "out", b"hello?\n"),
                Chunk(0.5, "in", hello[20:] + b'{"seq":5,"t":1}\n'),
                Chunk(61.125, "out", welcome + b'{"ack":5}\n'),
            )
        )
    )

    people, programs = gateway("sniff", str(path)), gateway("sniff", str(path), "--json")

    assert [row.split()[:3] for row in people.out.splitlines()] == [
        ["+0.250", "<", "text"],
        ["+0.500", ">", "HELLO"],
        ["+0.500", ">", "json"],
        ["+61.125", "<", "WELCOME"],
        ["+61.125", "<", "ack"],
    ]
    told = [json.loads(row) for row in programs.out.splitlines()]
    assert [(each["t_s"], each["from"]) for each in told] == [
        (0.25, "gateway"),
        (0.5, "board"),
        (0.5, "board"),
        (61.125, "gateway"),
        (61.125, "gateway"),
    ]


def test_a_damaged_capture_is_a_failure_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.cap"
    good = encode_chunk(Chunk(0.5, "in", b"x\n"))
    path.write_bytes(good + b"{oops}\n" + good)

    done = gateway("sniff", str(path))

    assert done.code == 1
    assert "line 2 is no chunk of a capture" in done.err


def test_every_vector_of_the_protocol_can_be_sniffed(tmp_path: Path) -> None:
    vectors = json.loads((VECTORS / "messages.json").read_text())["vectors"]
    path = tmp_path / "vectors.cap"
    path.write_text("".join(vector["line"] + "\n" for vector in vectors))

    done = gateway("sniff", str(path), "--json")

    told = [json.loads(line) for line in done.out.splitlines()]
    assert [each["line"] for each in told] == [vector["line"] for vector in vectors]
    assert [each["from"] == "board" for each in told] == [
        vector["direction"] == "b>g" for vector in vectors
    ]


def test_what_is_sealed_is_shown_with_its_counter(tmp_path: Path) -> None:
    vector = json.loads((VECTORS / "sealed.json").read_text())["vectors"][0]
    path = tmp_path / "sealed.cap"
    path.write_text(vector["line"] + "\n")

    done = gateway("sniff", str(path), "--json")

    (told,) = [json.loads(line) for line in done.out.splitlines()]
    assert (told["kind"], told["name"], told["from"]) == ("frame", "COMMAND", "gateway")
    assert told["summary"].endswith("(sealed, counter 1)")


def test_json_has_the_values_of_a_read(capture: Path) -> None:
    done = gateway("sniff", str(capture), "--json")

    told = [json.loads(line) for line in done.out.splitlines()]
    (read,) = [each for each in told if each["name"] == "READ"]
    assert read["readings"] == [
        {"seq": 120, "stream": "climate", "age_s": 0.25, "values": {"t": 21.5, "h": 45.2}}
    ]
    assert read["message"]["epoch"] == 7
    assert done.err == ""


def test_raw_shows_each_line_as_it_was(capture: Path) -> None:
    done = gateway("sniff", str(capture), "--raw")

    shown = [line.strip() for line in done.out.splitlines()]
    wire = lines_of(SESSION).decode().splitlines()
    assert [line for line in shown if line.startswith("~")] == [*wire, "~AAAA"]


def test_standard_input_is_read_with_a_dash_even_without_a_last_newline() -> None:
    done = gateway("sniff", "-", stdin=b'{"t":1}\n{"t":2}')

    assert done.code == 0
    assert [line.split(" ", 1)[1] for line in done.out.splitlines()] == [
        "> json           t=1",
        "> json           t=2",
    ]


def test_a_capture_is_one_on_standard_input_too_and_may_be_torn() -> None:
    hello = encode_frame(m.encode(SESSION[0]))
    capture = encode_chunk(Chunk(0.25, "in", hello)) + encode_chunk(Chunk(0.5, "out", b"hello?\n"))
    torn = encode_chunk(Chunk(0.75, "in", b"more\n"))[:20]

    done = gateway("sniff", "-", stdin=capture + torn)

    assert [row.split()[:3] for row in done.out.splitlines()] == [
        ["+0.250", ">", "HELLO"],
        ["+0.500", "<", "text"],
    ]


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_what_cannot_be_read_is_a_failure(tmp_path: Path, name: str) -> None:
    done = gateway("sniff", str(tmp_path / name))

    assert (done.code, done.out) == (1, "")
    assert str(tmp_path) in done.err
    assert "Traceback" not in done.err


def test_a_port_is_told_live_and_captured_and_gets_no_answer(
    tmp_path: Path, port: tuple[int, str]
) -> None:
    board, path = port
    capture = tmp_path / "live.cap"
    said = lines_of([SESSION[0]]) + b'{"seq":1,"t":1}\n'

    with running("sniff", path, "--capture", str(capture)) as sniff:
        os.write(board, b"warming up\n")
        sniff.out.next("warming up")
        os.write(board, said)
        hello = sniff.out.next("HELLO")
        sniff.out.next("json")
        os.set_blocking(board, False)
        with pytest.raises(BlockingIOError):
            os.read(board, 100)
        done = sniff.stop()

    assert done.code == 0
    assert hello.split(" ", 1)[1].startswith("> HELLO          greenhouse (a1b2c3)")
    assert len(hello.split(" ")[0]) == len("07:00:00.123")
    chunks = list(parse_capture(capture.read_bytes()))
    assert b"".join(chunk.content for chunk in chunks) == b"warming up\n" + said
    again = gateway("sniff", str(capture))
    rows = [row.split() for row in again.out.splitlines()]
    assert rows[0][1:] == [">", "text", "warming", "up"]
    assert all(row[0].startswith("+") for row in rows)


def test_a_port_is_left_after_the_time_that_was_given(port: tuple[int, str]) -> None:
    _, path = port

    done = gateway("sniff", path, "--seconds", "0.2")

    assert (done.code, done.out, done.err) == (0, "", "nothing was said\n")


def test_a_port_that_another_program_reads_is_busy(port: tuple[int, str]) -> None:
    board, path = port

    with running("sniff", path) as first:
        os.write(board, b"hello\n")
        first.out.next("hello")
        done = gateway("sniff", path)
        first.stop()

    assert done.code == 1
    assert f"edge-gateway: cannot open {path}: busy: " in done.err


def test_an_unplugged_port_is_waited_for(tmp_path: Path) -> None:
    link = tmp_path / "board"
    first, second = pty.openpty(), pty.openpty()
    for _, held in (first, second):
        tty.setraw(held)
    link.symlink_to(os.ttyname(first[1]))

    with running("sniff", str(link)) as sniff:
        os.write(first[0], b"before\n")
        sniff.out.next("before")
        link.unlink()
        for descriptor in first:
            os.close(descriptor)
        sniff.err.next("waiting for it to come back")
        link.symlink_to(os.ttyname(second[1]))
        os.write(second[0], b"after\n")
        sniff.out.next("after")
        done = sniff.stop()
    for descriptor in second:
        os.close(descriptor)

    assert done.code == 0


def test_a_terminal_gets_colours_unless_it_does_not_want_them(capture: Path) -> None:
    coloured = on_a_terminal("sniff", str(capture), NO_COLOR="")
    plain = on_a_terminal("sniff", str(capture), NO_COLOR="1")

    assert f"{ESC}[32m> HELLO" in coloured
    assert f"{ESC}[31m> FAULT" in coloured
    assert ESC not in plain


def on_a_terminal(*words: str, **environment: str) -> str:
    """Run a command with a terminal as its output; return what it showed there."""
    ours, theirs = pty.openpty()
    script = (
        "import os, sys; from gateway.cli import main; "
        f"fd = os.open({os.ttyname(theirs)!r}, os.O_RDWR | os.O_NOCTTY); os.dup2(fd, 1); "
        f"sys.exit(main({words!r}))"
    )
    done = _python(script, {"TERM": "xterm", **environment})
    os.close(theirs)
    shown = read_to_the_end(ours).decode()
    os.close(ours)
    assert done == 0
    return shown


def _python(script: str, environment: dict[str, str]) -> int:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    ).returncode
