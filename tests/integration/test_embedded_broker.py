import asyncio
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from gateway.errors import LinkError
from gateway.simulate import broker
from gateway.simulate.broker import EmbeddedBroker

PARENT = """
import asyncio, sys
from gateway.simulate.broker import EmbeddedBroker

async def main():
    async with EmbeddedBroker() as embedded:
        print(embedded.port, embedded.pid, flush=True)
        await embedded.run()

asyncio.run(main())
"""


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedBroker]:
    async with EmbeddedBroker() as running:
        yield running


def client(
    embedded: EmbeddedBroker,
    will: aiomqtt.Will | None = None,
    protocol: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V311,
) -> aiomqtt.Client:
    return aiomqtt.Client(embedded.host, embedded.port, will=will, protocol=protocol)


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def listening_addresses(port: int) -> list[str]:
    """Return the local addresses of the listening sockets of a port, as the kernel writes them."""
    return [
        fields[1].split(":")[0]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port
    ]


async def received(messages: aiomqtt.Client, count: int) -> list[aiomqtt.Message]:
    found: list[aiomqtt.Message] = []
    async with asyncio.timeout(30):
        async for message in messages.messages:
            found.append(message)
            if len(found) == count:
                break
    return found


def test_amqtt_is_installed_where_the_tests_run() -> None:
    assert broker.available()


async def test_a_message_reaches_its_subscriber(embedded: EmbeddedBroker) -> None:
    async with client(embedded) as subscriber, client(embedded) as publisher:
        await subscriber.subscribe("edge/+/state", qos=1)

        await publisher.publish("edge/board/state", b"21.5", qos=1)

        (message,) = await received(subscriber, 1)
        assert (message.topic.value, message.payload) == ("edge/board/state", b"21.5")
        assert (message.qos, message.retain) == (1, False)


async def test_a_retained_message_waits_for_a_later_subscriber(embedded: EmbeddedBroker) -> None:
    async with client(embedded) as publisher:
        await publisher.publish("edge/status", b"old", qos=1, retain=True)
        await publisher.publish("edge/gone", b"x", qos=1, retain=True)
        await publisher.publish("edge/gone", b"", qos=1, retain=True)
        await publisher.publish("edge/status", b"new", qos=1, retain=True)

        async with client(embedded) as subscriber:
            await subscriber.subscribe("edge/#", qos=1)
            await publisher.publish("edge/end", b"end", qos=1)
            messages = await received(subscriber, 2)

    assert [(m.topic.value, m.payload, m.retain) for m in messages] == [
        ("edge/status", b"new", True),
        ("edge/end", b"end", False),
    ]


async def test_the_will_of_a_client_that_vanishes_is_published(embedded: EmbeddedBroker) -> None:
    program = (
        "import sys, paho.mqtt.client as m\n"
        "c = m.Client(m.CallbackAPIVersion.VERSION2)\n"
        "c.will_set('edge/status', 'offline', 1, True)\n"
        f"c.connect('{embedded.host}', {embedded.port})\n"
        "c.on_connect = lambda *a: print('up', flush=True)\n"
        "c.loop_forever()\n"
    )
    async with client(embedded) as subscriber:
        await subscriber.subscribe("edge/status", qos=1)
        vanishing = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
        )
        assert vanishing.stdout is not None
        assert await vanishing.stdout.readline() == b"up\n"

        vanishing.kill()
        await vanishing.wait()

        (message,) = await received(subscriber, 1)
        assert message.payload == b"offline"
    async with client(embedded) as later:
        await later.subscribe("edge/status", qos=1)
        (message,) = await received(later, 1)
        assert (message.payload, message.retain) == (b"offline", True)


async def test_mqtt_5_is_refused(embedded: EmbeddedBroker) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with client(embedded, protocol=aiomqtt.ProtocolVersion.V5):
            pass


async def test_it_sustains_the_load_of_the_demo_without_growing(
    embedded: EmbeddedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    # The demo is four boards at a few samples a second, each message up to 400 bytes: this is as
    # many messages as it publishes in some minutes, as fast as they are acknowledged.
    caplog.set_level(logging.DEBUG, logger="gateway.simulate")
    async with client(embedded) as subscriber, client(embedded) as publisher:
        await subscriber.subscribe("edge/#", qos=1)

        async def publish(count: int) -> None:
            for number in range(count):
                topic = f"edge/board{number % 4}/state"
                await publisher.publish(topic, b"x" * 400, qos=1, retain=True)

        sizes_mb = []
        for _ in range(3):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(publish(500))
                messages = await received(subscriber, 500)
            assert len(messages) == 500
            sizes_mb.append(resident_mb(embedded.pid))

    assert sizes_mb[2] - sizes_mb[1] < 2.0, sizes_mb
    assert caplog.messages == []


async def test_it_listens_on_loopback_only(embedded: EmbeddedBroker) -> None:
    loopback = int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder)
    assert listening_addresses(embedded.port) == [f"{loopback:08X}"]


async def test_ctrl_c_does_not_reach_it(embedded: EmbeddedBroker) -> None:
    assert os.getpgid(embedded.pid) == embedded.pid  # a terminal signals the daemon's group only

    os.kill(embedded.pid, signal.SIGINT)

    async with client(embedded) as publisher:
        await publisher.publish("edge/a", b"still there", qos=1)


async def test_it_ends_with_its_context(embedded: EmbeddedBroker) -> None:
    async with EmbeddedBroker() as second:
        pid = second.pid
        assert second.port != embedded.port

    assert not exists(pid)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(second.host, second.port)


def test_it_does_not_outlive_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        _, pid = map(int, parent.stdout.readline().split())
        ended = os.pidfd_open(pid)
        try:
            parent.kill()

            assert select.select([ended], [], [], 10.0)[0], "the broker outlived its parent"
        finally:
            os.close(ended)


async def test_a_taken_port_is_a_link_error(embedded: EmbeddedBroker) -> None:
    with pytest.raises(LinkError, match="Address already in use"):
        async with EmbeddedBroker(embedded.port):
            pass


async def test_the_end_of_the_broker_is_noticed() -> None:
    async with EmbeddedBroker() as doomed:
        os.kill(doomed.pid, signal.SIGKILL)

        with pytest.raises(LinkError, match="the embedded broker ended: exit code -9"):
            async with asyncio.timeout(10):
                await doomed.run()


async def test_cancelling_the_start_leaves_nothing_behind() -> None:
    starting = EmbeddedBroker()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        entering = tasks.create_task(starting.__aenter__())
        while not starting.pid:  # noqa: ASYNC110 nobody tells; it takes a few turns of the loop
            await asyncio.sleep(0)

        entering.cancel()

    assert not exists(starting.pid)


def test_it_refuses_to_run_where_nobody_holds_its_stdin() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.simulate.broker"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(b"stdin must be a pipe or a terminal")
