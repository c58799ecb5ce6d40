"""What the composition root joins: ports and their settings, faults, logs, crowding, leaving."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.simulate.light import LightBoards, LightSpec
from gateway.simulate.pty_port import PtyPort
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.subscriber import Subscriber


@asynccontextmanager
async def plugged(*ports: PtyPort) -> AsyncIterator[None]:
    """Plug ports in for the length of the block."""
    for port in ports:
        port.plug()
    try:
        yield
    finally:
        for port in ports:
            if port.is_plugged:
                port.unplug()


def last(subscriber: Subscriber, topic: str) -> Any:  # noqa: ANN401 - whatever was published
    found = subscriber.on(f"edge/test/{topic}")
    return found[-1].json() if found else {}


def repeat(port: PtyPort, text: bytes, subscriber: Subscriber, topic: str) -> Callable[..., bool]:
    """Print `text` until something came on `topic`: a port that is being opened hears nothing."""
    due_s = time.monotonic()

    def look(_: object) -> bool:
        nonlocal due_s
        if time.monotonic() >= due_s:
            port.write(text)
            due_s = time.monotonic() + 0.2
        return bool(subscriber.on(f"edge/test/{topic}"))

    return look


async def test_a_port_of_its_own_format_and_name_is_read_as_configured(
    broker: Broker, tmp_path: Path
) -> None:
    port = PtyPort(tmp_path / "ttyCSV")
    more = """
[[serial.port]]
match = "ttyCSV"
name = "Weather Mast"
format = "csv"
separator = ";"
columns = [{key = "wind", unit = "m/s", device_class = "wind_speed"}, "direction"]
"""
    async with (
        asyncio.timeout(30),
        plugged(port),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*", more=more),
    ):
        await subscriber.wait_for(
            repeat(port, b"1.5;270\r\n2.5;280\r\n", subscriber, "weather_mast/state")
        )

    sample = last(subscriber, "weather_mast/state")
    assert (sample["wind"], sample["direction"]) in {(1.5, 270), (2.5, 280)}
    info = last(subscriber, "weather_mast/info")
    assert info["name"] == "Weather Mast"
    assert info["sensors"][0] == {"key": "wind", "unit": "m/s", "device_class": "wind_speed"}


async def test_a_sample_is_dated_when_it_was_taken(broker: Broker, tmp_path: Path) -> None:
    port = PtyPort(tmp_path / "ttyA")
    began = datetime.now(UTC) - timedelta(milliseconds=1)

    async with (
        asyncio.timeout(30),
        plugged(port),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*"),
    ):
        await subscriber.wait_for(repeat(port, b'{"t":1}\n', subscriber, "ttya/state"))

    taken = datetime.fromisoformat(last(subscriber, "ttya/state")["time"])
    assert began <= taken <= datetime.now(UTC)


async def test_a_fault_is_logged_once_and_counted_each_time(broker: Broker, tmp_path: Path) -> None:
    port = PtyPort(tmp_path / "ttyA")

    def faults(_: object) -> int:
        links = last(subscriber, "health").get("links", {})
        count: int = links.get("ttyA", {}).get("faults", {}).get("bad_json", 0)
        return count

    async with (
        asyncio.timeout(30),
        plugged(port),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*") as daemon,
    ):
        await subscriber.wait_for(repeat(port, b'{"t":1}\n', subscriber, "ttya/state"))
        port.write(b'{"t":1\n' * 7)
        await subscriber.wait_for(lambda m: faults(m) == 7)

    warnings = [line for line in daemon.log().splitlines() if "bad_json" in line]
    assert len(warnings) == 1
    assert "WARNING" in warnings[0]


async def test_what_a_device_prints_is_its_log_and_an_unplugged_port_is_forgotten(
    broker: Broker, tmp_path: Path
) -> None:
    port = PtyPort(tmp_path / "ttyA")
    async with (
        asyncio.timeout(30),
        plugged(port),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*"),
    ):
        await subscriber.wait_for(repeat(port, b'{"t":1}\n', subscriber, "ttya/state"))
        port.write(b"fan stuck\n")
        await subscriber.wait_for(lambda _: subscriber.on("edge/test/ttya/log"))
        await subscriber.wait_for(lambda _: "ttyA" in last(subscriber, "health").get("links", {}))
        port.unplug()
        await subscriber.wait_for(
            lambda _: "ttyA" not in last(subscriber, "health").get("links", {})
        )

    line = last(subscriber, "ttya/log")
    assert (line["level"], line["text"]) == ("info", "fan stuck")
    assert subscriber.on("edge/test/ttya/availability")[-1].payload == b"offline"


async def test_boards_keep_their_samples_while_the_outbox_is_crowded(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    """Two boards take 800 samples a second; the memory holds 4,000, and the broker is away.

    So is the disk, in effect: nothing is stored within the first minute. Between the last fifth of
    the memory, where boards are told to wait, and its end there is room for what may be on its way
    then: three batches of each, of 70 samples at most.
    """
    folder, ports = tmp_path / "mosquitto", tmp_path / "ports"
    folder.mkdir()
    ports.mkdir()
    broker = Broker(mosquitto_bin, folder)
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(broker.stop)
    boards = LightBoards(LightSpec(2, ports, interval_s=0.0025, ring_bytes=65_536))
    try:
        async with (
            asyncio.timeout(60),
            running_daemon(
                *(tmp_path / "daemon", broker.port, f"{ports}/*"),
                more="[outbox]\nmax_records = 4000\nspill_after_s = 60.0",
            ),
        ):
            await boards.open()
            await produced_at_least(boards, 5000)
            assert boards.stats().acked == 0
            boards.produce(wanted=False)
            await asyncio.to_thread(broker.start)
            async with Subscriber(broker.host, broker.port, "edge/test/#") as subscriber:
                await boards.drain(40)
                produced = boards.stats().produced
                await subscriber.wait_for(lambda _: delivered(subscriber) >= produced)
    finally:
        boards.close()
        await asyncio.to_thread(broker.stop)

    assert last(subscriber, "health")["counts"].get("samples_dropped", 0) == 0
    assert subscriber.on("edge/test/+/gap") == []
    assert delivered(subscriber) == produced >= 5000


def delivered(subscriber: Subscriber) -> int:
    count: int = last(subscriber, "health").get("counts", {}).get("samples_delivered", 0)
    return count


async def produced_at_least(boards: LightBoards, count: int) -> None:
    """Return once the boards have taken so many samples: nobody tells, so they are asked."""
    async with asyncio.timeout(30):
        while boards.stats().produced < count:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.05)


async def test_what_the_broker_does_not_have_at_a_stop_waits_on_disk_for_the_next_start(
    broker: Broker, tmp_path: Path
) -> None:
    port = PtyPort(tmp_path / "ttyA")
    async with (
        asyncio.timeout(60),
        plugged(port),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
    ):
        async with running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*") as daemon:
            await subscriber.wait_for(repeat(port, b'{"t":1}\n', subscriber, "ttya/state"))
            await asyncio.to_thread(broker.stop)
            await daemon.wait_for_log("retry in")
            port.write(b'{"t":2}\n{"t":3}\n' + b"x\n" * 40 + b"{broken\n")
            await daemon.wait_for_log("bad_json")
            assert await daemon.stop() == 0
            assert re.search(r": [23] samples wait on disk", daemon.log())

        await asyncio.to_thread(broker.start)
        async with (
            Subscriber(broker.host, broker.port, "edge/test/#") as again,
            running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*"),
        ):
            await again.wait_for(lambda _: again.on("edge/test/+/history"))

    samples = [sample for message in again.on("edge/test/+/history") for sample in message.json()]
    # The line before them may have been sent once more when it was on MQTT already.
    assert [sample["t"] for sample in samples if sample["t"] > 1] == [2, 3]
    assert samples[0]["id"].rpartition("/")[0] != "ttya"
    assert len({sample["id"].rpartition("/")[0] for sample in samples}) == 1, "of one boot"
