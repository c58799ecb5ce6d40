import fcntl
import os
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.simulate.pty_port import PtyPort
from tests.support.terminals import gather, read_count


@pytest.fixture
def port(tmp_path: Path) -> Iterator[PtyPort]:
    port = PtyPort(tmp_path / "board")
    port.plug()
    yield port
    port.unplug()


def open_gateway_end(port: PtyPort) -> int:
    return os.open(port.link_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)


def test_bytes_pass_unchanged_both_ways(port: PtyPort) -> None:
    every_byte = bytes(range(256))
    gateway = open_gateway_end(port)

    assert port.write(every_byte) == 256
    assert read_count(gateway, 256) == every_byte
    os.write(gateway, every_byte)
    assert gather(port.read, port.fileno(), 256) == every_byte
    assert port.read() == b""

    os.close(gateway)


def test_the_link_is_stable_and_unplugging_hangs_up(port: PtyPort) -> None:
    gateway = open_gateway_end(port)

    port.unplug()
    port.unplug()

    assert os.read(gateway, 100) == b""
    with pytest.raises(OSError, match="Input/output"):
        os.write(gateway, b"x")
    os.close(gateway)
    assert not port.is_plugged
    assert not port.link_path.is_symlink()

    port.plug()
    port.plug()

    assert str(port.link_path.resolve()) == port.device
    again = open_gateway_end(port)
    port.write(b"hello")
    assert read_count(again, 5) == b"hello"
    os.close(again)


def test_a_port_nobody_reads_takes_only_so_much(port: PtyPort) -> None:
    taken = [port.write(b"x" * 4096) for _ in range(100)]

    assert taken[-1] == 0
    assert sum(taken) < 100_000


def test_release_ends_the_mode_of_a_dead_gateway_but_not_of_a_live_one(port: PtyPort) -> None:
    gateway = open_gateway_end(port)
    fcntl.flock(gateway, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.ioctl(gateway, termios.TIOCEXCL)

    port.release()
    while_alive = is_exclusive(gateway)
    os.close(gateway)  # as when it was killed: nobody gave the mode back
    port.release()
    gateway = open_gateway_end(port)

    assert while_alive
    assert not is_exclusive(gateway)
    os.close(gateway)


def is_exclusive(descriptor: int) -> bool:
    tiocgexcl = 0x80045440
    return fcntl.ioctl(descriptor, tiocgexcl, bytes(4)) != bytes(4)
