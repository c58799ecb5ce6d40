"""The pipelines that are compared: the daemon, and mosquitto_pub reading the same lines."""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import rig
from tests.support.broker import Broker

PORTS = 10
TOPICS = ("edge/bench/+/state", "edge/bench/+/history")


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs a measurement needs."""

    mosquitto: Path
    mosquitto_pub: Path
    mosquitto_sub: Path


@dataclass(frozen=True, slots=True)
class Rate:
    """What a flood measured."""

    samples_per_s: float
    cpu_s_per_10k: float


@dataclass(slots=True)
class Running:
    """A pipeline that takes lines on `feeds` and whose output `sink` counts."""

    pid: int
    fds: list[int]
    sink: rig.Subscriber


def line(number: int) -> bytes:
    """Return one sample of about 100 bytes, the same for every pipeline."""
    return (
        b'{"n":%d,"temperature":%d.%02d,"humidity":%d.5,"pressure":%d,"battery_mv":39%02d,'
        b'"status":"ok","rssi":-61}\n'
        % (number, 15 + number % 20, number % 100, 40 + number % 50, 99000 + number, number % 100)
    )


@contextlib.contextmanager
def daemon(
    tools: Tools, folder: Path, batch_max: int, durability: str = "spill"
) -> Iterator[Running]:
    """Run broker, subscriber, ports and daemon until all ports are read."""
    with (
        Broker.running(tools.mosquitto, folder, settings=rig.BROKER_SETTINGS) as broker,
        rig.ptys(folder, PORTS) as ports,
        rig.subscriber(tools.mosquitto_sub, broker.port, *TOPICS) as sink,
        rig.gateway(folder, broker.port, batch_max, durability) as process,
    ):
        heard: set[bytes] = set()
        sink.on_payload = lambda text: heard.update(
            row.split(b"/")[2] for row in text.splitlines() if b"/state " in row
        )
        deadline_s = time.monotonic() + 20
        while len(heard) < PORTS:
            if time.monotonic() > deadline_s:
                raise rig.BenchError(f"the daemon reads {len(heard)} of {PORTS} ports")
            feeds = [rig.Feed(pty.fileno(), memoryview(b'\n{"hello":1}\n')) for pty in ports]
            ends_s = time.monotonic() + 0.2
            rig.pump(feeds, sink, rig.after(ends_s))
        sink.on_payload = None
        yield Running(process.pid, [pty.fileno() for pty in ports], sink)


@contextlib.contextmanager
def mosquitto_pub(tools: Tools, folder: Path) -> Iterator[Running]:
    """Run broker, subscriber and `mosquitto_pub -q 1 -l`."""
    with (
        Broker.running(tools.mosquitto, folder, settings=rig.BROKER_SETTINGS) as broker,
        rig.subscriber(tools.mosquitto_sub, broker.port, "bench/lines", "bench/ready") as sink,
        rig.child(
            *(tools.mosquitto_pub, "-h", "127.0.0.1", "-p", str(broker.port)),
            *("-q", "1", "-l", "-t", "bench/lines"),
            stdin=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdin is not None
        fd = process.stdin.fileno()
        os.set_blocking(fd, False)
        heard = False

        def on_payload(_text: bytes) -> None:
            nonlocal heard
            heard = True

        sink.on_payload = on_payload
        rig.pump([rig.Feed(fd, memoryview(b"ready\n"))], sink, lambda: heard)
        sink.on_payload = None
        yield Running(process.pid, [fd], sink)


def flood(running: Running, count: int) -> Rate:
    """Send `count` lines as fast as they are taken, until the subscriber has all of them."""
    lanes = len(running.fds)
    texts = [b"".join(line(n) for n in range(lane, count, lanes)) for lane in range(lanes)]
    feeds = [rig.Feed(fd, memoryview(text)) for fd, text in zip(running.fds, texts, strict=True)]
    running.sink.count = 0
    cpu_before_s, started_s = rig.cpu_s(running.pid), time.perf_counter()
    rig.pump(feeds, running.sink, lambda: running.sink.count >= count)
    took_s = time.perf_counter() - started_s
    used_s = rig.cpu_s(running.pid) - cpu_before_s
    return Rate(count / took_s, used_s * 10_000 / count)


def paced(running: Running, per_s: int, count: int) -> list[float]:
    """Send `count` lines at `per_s`, spread over the lanes; return each one's latency in ms."""
    sent_s = [0.0] * count
    latencies_ms: list[float] = []

    def on_payload(text: bytes) -> None:
        now_s = time.perf_counter()
        for part in text.split(rig.Subscriber.MARK)[1:]:
            number = int(part[: part.index(b",")])
            latencies_ms.append((now_s - sent_s[number]) * 1000)

    running.sink.on_payload = on_payload
    started_s = time.perf_counter()
    for number in range(count):
        due_s = started_s + number / per_s
        while (left_s := due_s - time.perf_counter()) > 0:
            ready, _, _ = select.select([running.sink.fd], [], [], left_s)
            if ready:
                running.sink.read()
        sent_s[number] = time.perf_counter()
        os.write(running.fds[number % len(running.fds)], line(number))
    rig.pump([], running.sink, lambda: len(latencies_ms) >= count)
    running.sink.on_payload = None
    return latencies_ms
