"""The board's links: a pty, a second UART, noise, and hosts that do not read."""

import fcntl
import json
import os
import struct
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.firmware.board_process import TIMEOUT_S, Bench, BoardProcess
from tests.firmware.model_gateway import ACTUATOR, CMD, HELLO, READ, ModelGateway, json_line

COUNTER = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 10}
PUMP = {"kind": "relay", "name": "pump", "pin": 5}
UART = {"kind": "uart", "id": 1, "tx": 17, "rx": 16}


@contextmanager
def pty(*, raw: bool) -> Iterator[tuple[int, int, str]]:
    """Open a pty: the gateway's descriptor, the board's, and the name of the board's."""
    ours, theirs = os.openpty()
    if raw:
        tty.setraw(theirs)
    try:
        yield ours, theirs, os.ttyname(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def counted(board: BoardProcess) -> list[int]:
    return [struct.unpack("<BBIi", record)[3] for record in board.gateway.records]


def pin_levels(flash: Path) -> list[int]:
    lines = (flash / "pins.log").read_text().splitlines()
    return [json.loads(line)["value"] for line in lines]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "as a terminal is"])
def test_a_board_speaks_over_a_pty(bench: Bench, raw: bool) -> None:
    bench.configure(sensors=[COUNTER])

    with pty(raw=raw) as (ours, theirs, _name), bench.board(line=(theirs, theirs)) as board:
        board.use(read_fd=ours, write_fd=ours)
        board.await_records(50)
        restored = termios.tcgetattr(theirs)

        assert counted(board)[:50] == list(range(50))
        assert board.text == []
        assert not restored[3] & termios.ECHO


def test_a_board_ends_when_its_pty_does(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])
    ours, theirs = os.openpty()
    tty.setraw(theirs)

    with bench.board(line=(theirs, theirs)) as board:
        os.close(theirs)
        board.use(read_fd=ours, write_fd=ours)
        board.await_records(5)
        os.close(ours)

        assert board.process.wait(10) == 0


def test_a_board_speaks_over_a_second_uart(every_bench: Bench) -> None:
    every_bench.configure(sensors=[COUNTER], actuators=[PUMP], links=[UART])

    with (
        pty(raw=True) as (ours, _theirs, name),
        every_bench.board({"BOARD_UART1": name}) as board,
    ):
        board.use(read_fd=ours, write_fd=ours)
        board.await_records(50)
        answer = board.command("set", {"pump": True})
        info = board.command("info", cid="2")

    assert answer["ok"] == {"pump": True}
    assert counted(board)[:50] == list(range(50))
    assert [link["link"] for link in info["ok"]["links"]] == ["uart1"]
    assert board.of_kind(HELLO)[0].json["mf"] > 189  # its buffers hold more than a REPL's


def test_noise_on_a_uart_is_counted(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER], links=[UART])

    with pty(raw=True) as (ours, _theirs, name), bench.board({"BOARD_UART1": name}) as board:
        board.use(read_fd=ours, write_fd=ours)
        board.until(lambda: board.of_kind(HELLO))
        board.send(bytes(range(256)) * 4, b"x" * 3000, b"\n", b"~AAAA\n\n\r\n~")
        answer = board.command("info")
        board.await_records(20)

    (link,) = answer["ok"]["links"]
    assert link["bad"] >= 3


def test_two_links_share_what_was_measured(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER], links=["stdio", UART], ring_bytes=65536)

    with pty(raw=True) as (ours, _theirs, name), bench.board({"BOARD_UART1": name}) as stdio:
        uart = replace_line(stdio, ours)
        stdio.await_records(20)
        uart.gateway.epoch = None
        uart.until(lambda: len(uart.gateway.records) >= 20)
        stdio.gateway.is_silent = True
        uart.await_records(60)

    first = counted(uart)[0]
    assert counted(uart) == list(range(first, first + len(uart.gateway.records)))
    assert counted(stdio)[:20] == list(range(20))


def replace_line(board: BoardProcess, descriptor: int) -> BoardProcess:
    """Return the same board at another line."""
    return replace(
        board,
        read_fd=descriptor,
        write_fd=descriptor,
        heard=[],
        text=[],
        gateway=ModelGateway(),
    )


NOISE = (
    b"x" * 5000 + b"\n",
    bytes(range(256)) * 8,
    b"\x03\x04\x03" * 10,
    b"~" * 1000,
    b"~AAAA\n" * 200,
    b"\n" * 2000,
    b"ets Jun  8 2016 00:22:57\r\n\r\nrst:0x1 (POWERON_RESET)\r\n",
    b"~" + b"A" * 398,
)


def test_noise_does_no_harm(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])

    with bench.board() as board:
        board.until(lambda: board.of_kind(HELLO))
        for number, noise in enumerate(NOISE):
            board.send(noise, b"\n")
            answer = board.command("info", cid=str(number))
            assert answer["ok"]["errors"] == {}
        board.await_records(20)

    assert counted(board)[:20] == list(range(20))


def test_a_line_of_400_characters_is_taken_and_a_longer_one_is_not(bench: Bench) -> None:
    bench.configure()

    with bench.board() as board:
        board.until(lambda: board.of_kind(HELLO))
        frame = json_line(CMD, {"c": "info", "a": None, "ttl_ms": 5000, "cid": "fits"})
        room = 400 - len(frame.rstrip(b"\n"))
        board.send(b"." * room + frame)
        board.until(lambda: "fits" in board.gateway.answers)
        late = json_line(CMD, {"c": "info", "a": None, "ttl_ms": 5000, "cid": "over"})
        board.send(b"." * (401 - len(late.rstrip(b"\n"))) + late)
        info = board.command("info", cid="after")["ok"]

    assert "over" not in board.gateway.answers
    assert info["links"][0]["bad"] == 1


def test_a_host_that_does_not_read_holds_up_nothing(bench: Bench) -> None:
    (bench.flash / "fakes.json").write_text(json.dumps({"log_pins": True}))
    bench.configure(sensors=[COUNTER], actuators=[PUMP], watchdog_s=1, ring_bytes=65536)

    with bench.board() as board:
        board.gateway.heartbeat_s = 0.3
        fcntl.fcntl(board.read_fd, fcntl.F_SETPIPE_SZ, 4096)
        board.until(lambda: board.of_kind(ACTUATOR))
        board.command("set", {"pump": True})
        for number in range(30):  # more answers than the pipe holds
            request = {"c": "info", "a": None, "ttl_ms": 60_000, "cid": str(number)}
            board.send(json_line(CMD, request))
        time.sleep(2.5)  # two and a half times what the watchdog allows
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(pin_levels(bench.flash)) < 2 and time.monotonic() < deadline_s:
            time.sleep(0.05)  # a busy machine is still at the answers
        levels = pin_levels(bench.flash)
        alive = board.process.poll() is None
        heard = len(board.of_kind(READ))
        board.until(lambda: len(board.of_kind(READ)) > heard + 20)

    assert alive
    assert levels == [1, 0]
    assert counted(board) == list(range(len(board.gateway.records)))
    assert board.gateway.gaps == []


def test_a_lossy_line_loses_nothing(bench: Bench) -> None:
    bench.configure(sensors=[{**COUNTER, "interval_ms": 10}], ring_bytes=65536)

    with bench.board() as board:
        board.lose_every = 4
        board.await_records(150)

    assert counted(board) == list(range(len(board.gateway.records)))
    assert board.gateway.gaps == []
