"""`ports`: what is plugged in, told without disturbing it."""

import json
import os
import pty
import signal
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from gateway.protocol import messages as m
from gateway.protocol.frames import encode_frame
from tests.support.commands import gateway, running

TIMEOUT_S = 60.0
HELLO = encode_frame(m.encode(m.Hello(1, "a1b2c3", 7, 0, 0, name="greenhouse")))
PING = encode_frame(m.encode(m.Ping(5)))


class Speaker:
    """A board that says the same again and again, as boards without a gateway do."""

    def __init__(self, link: Path, says: bytes) -> None:
        self._says = says
        self._board, self._held = pty.openpty()
        tty.setraw(self._held)
        os.set_blocking(self._board, False)
        link.symlink_to(os.ttyname(self._held))
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._speak)
        self.heard = b""

    @contextmanager
    def speaking(self) -> Iterator["Speaker"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            self._thread.join()
            os.close(self._board)
            os.close(self._held)

    def _speak(self) -> None:
        while not self._is_over.wait(0.1):
            try:
                os.write(self._board, self._says)
                self.heard += os.read(self._board, 4096)
            except BlockingIOError:  # nobody reads, or nobody said anything
                continue


@pytest.mark.parametrize(
    ("says", "speaks"),
    [
        (HELLO, "edge-gateway board greenhouse (a1b2c3)"),
        (b"boot noise\n" + HELLO, "edge-gateway board greenhouse (a1b2c3)"),
        (PING, "edge-gateway board, in the middle of a conversation"),
        (b'{"temperature":21.5}\n', "JSON lines: temperature=21.5"),
        (b"21.5,45.2\r\n", "text: 21.5,45.2"),
        (b"\x80\xfe\x00\xff\n", "noise: wrong baud rate, or a binary protocol"),
        (b"\x80\xfe\x00\xff", "noise: wrong baud rate, or a binary protocol"),
        (b"", "silent for 0.8 s"),
    ],
)
def test_what_speaks_is_told_and_hears_nothing(tmp_path: Path, says: bytes, speaks: str) -> None:
    link = tmp_path / "board"

    with Speaker(link, says).speaking() as board:
        done = gateway("ports", str(link), "--seconds", "0.8", "--json")

    (told,) = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err) == (0, "")
    assert (told["path"], told["name"], told["speaks"]) == (str(link), "board", speaks)
    assert told["device"].startswith("/dev/pts/")
    assert board.heard == b""


def test_all_ports_are_listened_to_at_once_and_shown_as_a_table(tmp_path: Path) -> None:
    with ExitStack() as boards:
        for number in range(4):
            boards.enter_context(Speaker(tmp_path / f"port{number}", HELLO).speaking())
        done = gateway("ports", f"{tmp_path}/*", "--seconds", "0.8")

    assert done.code == 0
    head, *rows = done.out.splitlines()
    assert head.split() == ["PORT", "NAME", "USB", "WHAT", "SPEAKS"]
    assert [row.split()[1] for row in rows] == [f"port{number}" for number in range(4)]
    assert all(row.endswith("edge-gateway board greenhouse (a1b2c3)") for row in rows)


def test_a_port_that_another_program_reads_is_busy(tmp_path: Path) -> None:
    link = tmp_path / "board"

    with Speaker(link, HELLO).speaking(), running("sniff", str(link)) as holder:
        holder.out.next("HELLO")
        done = gateway("ports", str(link), "--seconds", "0.5")
        holder.stop()

    assert done.code == 0
    assert "  busy: " in done.out


def test_without_ports_it_says_where_it_looked(tmp_path: Path) -> None:
    done = gateway("ports", f"{tmp_path}/*")

    where, hint = done.out.splitlines()
    assert (done.code, where) == (0, f"no serial port matches {tmp_path}/*")
    assert "`dmesg | tail`" in hint


def test_patterns_and_exceptions_come_from_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'[serial]\npatterns = ["{tmp_path}/port*"]\nexclude = ["*modem"]\n')

    with (
        Speaker(tmp_path / "port-a", b"").speaking(),
        Speaker(tmp_path / "port-modem", b"").speaking(),
    ):
        done = gateway("ports", "--config", str(config), "--seconds", "0", "--json")

    told = [json.loads(line) for line in done.out.splitlines()]
    assert [(each["name"], each["speaks"]) for each in told] == [("port-a", "not listened to")]


def test_ctrl_c_while_it_listens_tells_nothing_false(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    (tmp_path / "port").symlink_to(os.ttyname(theirs))
    with running("ports", f"{tmp_path}/*", "--seconds", "60") as command:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not _is_open(command.pid, os.ttyname(theirs)):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        done = command.stop(signal.SIGINT)
    os.close(theirs)
    os.close(ours)

    assert (done.code, done.out, done.err) == (130, "", "")


def _is_open(pid: int, path: str) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    with suppress(OSError):  # one that was closed meanwhile
        return any(os.readlink(each) == path for each in folder.iterdir())
    return False
