"""What every measurement stands on: a counting subscriber, ports, and child processes."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.simulate.pty_port import PtyPort

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE_S = 120.0


class BenchError(Exception):
    """A measurement could not be made."""


@contextlib.contextmanager
def child(*command: str | Path, **kwargs: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of the block, and end it by its pid."""
    process = subprocess.Popen([str(word) for word in command], **kwargs)  # type: ignore[call-overload]  # kwargs are Popen's own
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


BROKER_SETTINGS = ("max_inflight_messages 100", "log_type error", "set_tcp_nodelay false")
"""More in flight than mosquitto's 20; its log would be most of its work; the rest as it comes."""


class Subscriber:
    """Counts samples with mosquitto_sub, the same way for every pipeline."""

    MARK = b'"n":'
    """A key that each measured sample holds exactly once."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.fd = process.stdout.fileno()
        os.set_blocking(self.fd, False)
        self.count = 0
        self.tail = b""
        self.on_payload: Callable[[bytes], None] | None = None

    def read(self) -> None:
        """Take what has arrived."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.fd, 1 << 20):
                text = self.tail + chunk
                cut = text.rfind(b"\n") + 1
                whole, self.tail = text[:cut], text[cut:]
                self.count += whole.count(self.MARK)
                if self.on_payload is not None:
                    self.on_payload(whole)


@contextlib.contextmanager
def subscriber(binary: Path, port: int, *topics: str) -> Iterator[Subscriber]:
    """Subscribe to `topics` for the length of the block; one line of output for each message."""
    words = [word for topic in topics for word in ("-t", topic)]
    where = ("-h", "127.0.0.1", "-p", str(port))
    with child(binary, *where, "-q", "1", "-F", "%t %p", *words, stdout=subprocess.PIPE) as process:
        yield Subscriber(process)


@contextlib.contextmanager
def ptys(folder: Path, count: int) -> Iterator[list[PtyPort]]:
    """Make `count` ports in `folder`, whose far ends the benchmark holds."""
    ports = [PtyPort(folder / f"port{number}") for number in range(count)]
    try:
        for port in ports:
            port.plug()
        yield ports
    finally:
        for port in ports:
            port.unplug()


@contextlib.contextmanager
def gateway(
    folder: Path, broker_port: int, batch_max: int, durability: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon as a user would, on the ports in `folder`, its outbox there as well."""
    config = folder / "gateway.toml"
    config.write_text(
        f'[gateway]\nname = "bench"\n[mqtt]\nhost = "127.0.0.1"\nport = {broker_port}\n'
        f'batch_max = {batch_max}\n[serial]\npatterns = ["{folder}/port*"]\nrescan_s = 0.2\n'
        f'[outbox]\nmax_records = 1000000\ndurability = "{durability}"\n'
        "drain_rate = 1000000\n"  # what it can do is measured, not what it may
        f'path = "{folder}/outbox.db"\n[log]\nlevel = "error"\n'
    )
    with child(sys.executable, "-m", "gateway", "run", "--config", config) as process:
        yield process


def cpu_s(pid: int) -> float:
    """Return the CPU seconds, user and system, of a process. Source: proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


@dataclass(slots=True)
class Feed:
    """Bytes on their way into one descriptor, as fast as it takes them."""

    fd: int
    rest: memoryview

    def write(self) -> bool:
        """Write what fits; return whether there is more."""
        with contextlib.suppress(BlockingIOError):
            while self.rest:
                self.rest = self.rest[os.write(self.fd, self.rest[:65536]) :]
        return bool(self.rest)


def pump(feeds: list[Feed], sink: Subscriber, is_done: Callable[[], bool]) -> None:
    """Feed and count until `is_done`.

    Raises:
        BenchError: it takes longer than DEADLINE_S.
    """
    deadline_s = time.monotonic() + DEADLINE_S
    with selectors.DefaultSelector() as selector:
        selector.register(sink.fd, selectors.EVENT_READ)
        for feed in feeds:
            selector.register(feed.fd, selectors.EVENT_WRITE, feed)
        while not is_done():
            if time.monotonic() > deadline_s:
                raise BenchError(f"only {sink.count} samples arrived in {DEADLINE_S:.0f} s")
            for key, _ in selector.select(0.5):
                if key.data is None:
                    sink.read()
                elif not key.data.write():
                    selector.unregister(key.fd)


def after(moment_s: float) -> Callable[[], bool]:
    """Return a condition that holds once the monotonic clock has passed `moment_s`."""
    return lambda: time.monotonic() > moment_s
