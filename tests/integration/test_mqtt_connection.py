"""One connection to a real broker, and what the code expects of aiomqtt's insides."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import aiomqtt
import paho.mqtt.client
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.errors import LinkError
from gateway.mqtt.connection import Ack, Connection
from gateway.mqtt.incoming import Incoming, Listener
from gateway.mqtt.settings import BrokerSettings
from gateway.simulate.broker import EmbeddedBroker
from tests.support.broker import Broker
from tests.support.threads import no_threads

TLS = Path(__file__).parents[1] / "support" / "tls"
WAIT_S = 15.0
WILL = ("e/status", b"offline")


def settings_for(broker: Broker) -> BrokerSettings:
    return BrokerSettings(broker.host, broker.port)


@contextlib.asynccontextmanager
async def opened(
    settings: BrokerSettings,
    on_message: Callable[[Incoming], None] = lambda message: message.done(),
) -> AsyncIterator[Connection]:
    async with asyncio.timeout(WAIT_S):
        connection = await Connection.open(settings, "test", WILL, Listener(on_message))
        try:
            yield connection
        finally:
            connection.close()


async def failure(settings: BrokerSettings) -> str:
    """Return why no connection could be opened."""
    with pytest.raises(LinkError) as error:
        async with opened(settings):
            pass
    return str(error.value)


class Acks:
    """Collects what the broker acknowledges."""

    def __init__(self, connection: Connection) -> None:
        self.packet_ids: list[int] = []
        self.threads: set[int] = set()
        self._grown = asyncio.Event()
        connection.on_acks = self._take

    def _take(self, acks: Sequence[Ack]) -> None:
        self.packet_ids += [packet_id for packet_id, _ in acks]
        self.threads.add(threading.get_ident())
        self._grown.set()

    async def wait(self, count: int) -> None:
        while len(self.packet_ids) < count:
            self._grown.clear()
            await self._grown.wait()


# What is expected of aiomqtt and paho.


async def test_aiomqtt_is_still_what_the_connection_was_written_for() -> None:
    hint = "aiomqtt or paho has changed: read gateway/mqtt/connection.py"
    client = aiomqtt.Client(
        "localhost", max_inflight_messages=0, protocol=aiomqtt.ProtocolVersion.V5
    )
    inner = client._client  # noqa: SLF001 - that is the question

    assert isinstance(inner, paho.mqtt.client.Client), hint
    assert inner.max_inflight_messages == 0, hint
    for name in ("on_connect", "on_disconnect", "on_publish", "on_message"):
        assert getattr(getattr(inner, name), "__self__", None) is client, f"{hint} ({name})"
    for name in ("open", "close", "register_write", "unregister_write"):
        assert getattr(inner, f"on_socket_{name}") is not None, f"{hint} (on_socket_{name})"
    for name in ("publish", "loop_read", "loop_write", "loop_misc", "want_write", "socket"):
        assert callable(getattr(inner, name)), f"{hint} ({name})"
    assert callable(inner._handle_publish), hint  # noqa: SLF001 - as above
    assert callable(inner._sock_recv), hint  # noqa: SLF001 - as above
    packet = inner._in_packet  # noqa: SLF001 - as above
    assert {"command", "remaining_length"} <= packet.keys(), hint
    assert packet["packet"] == bytearray(), hint


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_publishing_makes_no_task_and_every_answer_comes_in_order_in_the_loop_s_thread(
    broker: Broker, version: str
) -> None:
    settings = replace(settings_for(broker), version=version)  # type: ignore[arg-type]
    async with opened(settings) as connection:
        acks = Acks(connection)
        tasks = asyncio.all_tasks()

        sent = [connection.publish("e/x", b"payload", retain=False) for _ in range(200)]
        assert asyncio.all_tasks() == tasks
        await acks.wait(200)

    assert acks.packet_ids == sent
    assert acks.threads == {threading.get_ident()}


async def test_a_message_larger_than_the_socket_s_buffer_is_sent_whole(broker: Broker) -> None:
    async with opened(settings_for(broker)) as connection:
        acks = Acks(connection)

        connection.publish("e/x", b"x" * 20_000_000, retain=False)
        connection.publish("e/x", b"after", retain=False)

        await acks.wait(2)


async def test_publishing_on_a_lost_connection_does_no_harm(broker: Broker) -> None:
    async with opened(settings_for(broker)) as connection:
        broker.kill()
        connection.publish("e/x", b"payload", retain=False)  # nobody knows yet
        await asyncio.wait((connection.lost,))

        connection.publish("e/x", b"payload", retain=False)
        await asyncio.sleep(0)

    assert connection.lost.result() == "connection lost"


@pytest.mark.parametrize("tls", [False, True])
async def test_without_a_thread_there_is_no_connection_and_with_one_again(
    broker: Broker, tls: bool
) -> None:
    settings = replace(settings_for(broker), tls=tls)
    with no_threads():
        assert "can't start new thread: raise the limit" in await failure(settings)

    async with opened(settings_for(broker)) as connection:
        acks = Acks(connection)
        connection.publish("e/x", b"payload", retain=False)
        await acks.wait(1)


async def test_an_error_in_the_receiver_of_answers_is_not_hidden(broker: Broker) -> None:
    def broken(_acks: Sequence[Ack]) -> None:
        raise ZeroDivisionError

    async with opened(settings_for(broker)) as connection:
        connection.on_acks = broken
        connection.publish("e/x", b"payload", retain=False)

        await asyncio.wait((connection.lost,))

    with pytest.raises(ZeroDivisionError):
        connection.lost.result()


async def test_the_broker_s_limits_are_known(mosquitto_bin: Path, tmp_path: Path) -> None:
    limits = ["max_inflight_messages 7", "max_packet_size 12345"]
    with Broker.running(mosquitto_bin, tmp_path, settings=limits) as broker:
        async with opened(settings_for(broker)) as connection:
            assert connection.limits == (7, 12345)
        async with opened(replace(settings_for(broker), version="3.1.1")) as connection:
            assert connection.limits == (65_535, None)


async def test_a_subscription_hears_what_is_published(broker: Broker) -> None:
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    async with opened(settings_for(broker), heard.put_nowait) as connection:
        async with aiomqtt.Client(broker.host, broker.port) as other:
            await other.publish("e/status", b"retained", qos=1, retain=True)

        assert await connection.subscribe(["e/status"]) == []

        first = await heard.get()
        assert (first.topic, first.payload, first.is_retained) == ("e/status", b"retained", True)
        connection.publish("e/status", b"next", retain=True)
        second = await heard.get()
        assert (second.payload, second.is_retained, second.is_again) == (b"next", False, False)


async def test_what_is_not_confirmed_comes_again_on_the_next_connection(broker: Broker) -> None:
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    async with opened(settings_for(broker), heard.put_nowait) as connection:
        await connection.subscribe(["e/+/set"])
        async with aiomqtt.Client(broker.host, broker.port) as other:
            for payload in (b"first", b"second"):
                await other.publish("e/pump/set", payload, qos=1)
        first, second = await heard.get(), await heard.get()
        first.done()
        acks = Acks(connection)
        connection.publish("e/x", b"", retain=False)
        await acks.wait(1)  # so the confirmation has arrived, too

    async with opened(settings_for(broker), heard.put_nowait):
        again = await heard.get()

    assert (again.payload, again.is_again) == (b"second", True)
    assert again.packet_id == second.packet_id
    assert heard.empty()


async def test_what_is_sent_while_nobody_is_there_waits_for_a_minute(broker: Broker) -> None:
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    async with opened(settings_for(broker)) as connection:
        await connection.subscribe(["e/+/set"])
    async with aiomqtt.Client(broker.host, broker.port) as other:
        await other.publish("e/pump/set", b"on", qos=1)

    async with opened(settings_for(broker), heard.put_nowait):
        assert (await heard.get()).payload == b"on"


async def test_what_an_answer_needs_arrives_and_goes_with_it(broker: Broker) -> None:
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    asked.ResponseTopic, asked.CorrelationData = "their/answers", b"\x00\xff"
    asked.MessageExpiryInterval = 30
    v5 = aiomqtt.ProtocolVersion.V5
    async with opened(settings_for(broker), heard.put_nowait) as connection:
        await connection.subscribe(["e/request/+"])
        async with aiomqtt.Client(broker.host, broker.port, protocol=v5) as other:
            await other.subscribe("their/answers", qos=1)
            await other.publish("e/request/x", b"?", qos=1, properties=asked)
            question = await heard.get()
            connection.publish(
                question.response_topic, b"!", retain=False, correlation=question.correlation
            )
            async with asyncio.timeout(WAIT_S):
                answer = await anext(other.messages)

    assert question.expires_s is not None
    assert 0 < question.expires_s <= 30
    assert answer.payload == b"!"
    assert answer.properties is not None
    assert vars(answer.properties)["CorrelationData"] == b"\x00\xff"


async def test_leaving_in_order_withdraws_the_will(broker: Broker) -> None:
    async with aiomqtt.Client(broker.host, broker.port) as other:
        await other.subscribe("e/#", qos=1)
        async with opened(settings_for(broker)) as connection:
            await connection.leave()
        async with opened(settings_for(broker)):
            pass  # closed without a word

        async with asyncio.timeout(WAIT_S):
            will = await anext(other.messages)
        assert (will.topic.value, will.payload, will.retain) == ("e/status", b"offline", False)
        assert len(other.messages) == 0


# Why there is no connection.


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        reason = await failure(BrokerSettings("127.0.0.1", port))

    assert reason == "connection refused: nothing listens there"


async def test_a_host_name_that_cannot_exist() -> None:
    reason = await failure(BrokerSettings("x" * 64, 1883))  # a label has at most 63 characters

    assert "cannot resolve 'xxx" in reason


@contextlib.asynccontextmanager
async def impostor(answer: bytes | None) -> AsyncIterator[BrokerSettings]:
    """A server that reads CONNECT, gives this answer, and closes; None keeps it silent."""

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        if answer is not None:
            writer.write(answer)
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(on_client, "127.0.0.1", 0)
    async with server:
        yield BrokerSettings("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "does not answer as MQTT 5 brokers do"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer as MQTT 5 brokers do"),
        (b"\x20\x02\x00\x01", "does not speak this version of MQTT"),  # of MQTT 3.1.1, 3.2.2.3
        (b"\x20\x03\x00\x86\x00", "bad user name or password"),  # MQTT 5, 3.2.2.2
        (b"\x20\x03\x00\x87\x00", "not authorised"),
        (b"\x20\x03\x00\x89\x00", "server busy"),
        (b"\x20\x03\x00\x9a\x00", "keeps no retained messages"),
        (b"\x20\x05\x00\x00\x02\x24\x00", "takes no QoS 1"),  # Maximum QoS 0
        (b"\x20\x05\x00\x00\x02\x25\x00", "keeps no retained messages"),  # Retain Available 0
        (b"\x20\x05\x00\x00\x02\xff\xff", ""),  # malformed: in paho's words, or as above
    ],
)
async def test_a_refusal_is_told_at_once_and_in_words(answer: bytes, words: str) -> None:
    loop = asyncio.get_running_loop()
    async with impostor(answer) as settings:
        started_s = loop.time()

        reason = await failure(settings)

    assert words in reason
    assert loop.time() - started_s < settings.connect_timeout_s / 2


async def test_silence_is_told_in_words() -> None:
    async with impostor(None) as settings:
        reason = await failure(replace(settings, connect_timeout_s=0.3))

    assert reason == "connected, but no answer: is it an MQTT 5 broker?"


async def test_the_embedded_broker_takes_mqtt_3_1_1() -> None:
    async with (
        EmbeddedBroker() as broker,
        opened(BrokerSettings(broker.host, broker.port, version="3.1.1")) as connection,
    ):
        acks = Acks(connection)
        connection.publish("e/x", b"payload", retain=True)
        await acks.wait(1)


# Cancelling.


async def test_a_connect_that_is_cancelled_leaves_no_client_behind() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host, port = listener.getsockname()
        # A queue of length 0 takes one connection; the next one waits, as with a dead host.
        with socket.create_connection((host, port)):
            async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
                settings = BrokerSettings(host, port)
                opening = tasks.create_task(Connection.open(settings, "test", WILL))
                await asyncio.sleep(0.1)  # its thread hangs in connect(): nothing to wait for
                opening.cancel()
            listener.accept()[0].close()

            listener.settimeout(WAIT_S)
            late, _ = await asyncio.to_thread(listener.accept)  # the thread got through now
            with late:
                late.settimeout(WAIT_S)
                assert await asyncio.to_thread(late.recv, 100) == b"", "closed without a CONNECT"
    assert opening.cancelled()


async def test_a_cancel_at_any_moment_of_a_connect_is_heeded(broker: Broker) -> None:
    outcomes = set()
    for turns in range(0, 2000, 25):
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(Connection.open(settings_for(broker), "test", WILL))
            for _ in range(turns):
                await asyncio.sleep(0)
            was_open = opening.done()
            opening.cancel()
        if was_open:
            opening.result().close()
        assert opening.cancelled() is not was_open
        outcomes.add(was_open)
    assert False in outcomes


# TLS.


@pytest.fixture
def tls_broker(mosquitto_bin: Path, tmp_path: Path) -> Iterator[Broker]:
    """A broker that shows its certificate and wants to see one."""
    files = [
        f"cafile {TLS / 'authority.pem'}",
        f"certfile {TLS / 'broker.pem'}",
        f"keyfile {TLS / 'broker.key'}",
        "require_certificate true",
    ]
    with Broker.running(mosquitto_bin, tmp_path, settings=files) as running:
        yield running


def tls_settings(broker: Broker) -> BrokerSettings:
    return replace(
        settings_for(broker),
        ca_file=TLS / "authority.pem",
        cert_file=TLS / "client.pem",
        key_file=TLS / "client.key",
    )


async def test_both_sides_show_their_certificates(tls_broker: Broker) -> None:
    async with opened(tls_settings(tls_broker)) as connection:
        acks = Acks(connection)
        for _ in range(300):
            connection.publish("e/x", b"x" * 1000, retain=False)
        await acks.wait(300)
        await connection.leave()


BREAKAGES: dict[str, tuple[Callable[[BrokerSettings], BrokerSettings], str]] = {
    "an authority that is not the broker's": (
        lambda settings: replace(settings, ca_file=None, tls=True),
        "certificate is not trusted",
    ),
    "a name that is not the broker's": (
        lambda settings: replace(settings, host="127.1"),  # which is 127.0.0.1
        "certificate is not trusted",
    ),
    "a file that is missing": (
        lambda settings: replace(settings, ca_file=Path("/nowhere/authority.pem")),
        "cannot read /nowhere/authority.pem",
    ),
    "a file that is no certificate": (
        lambda settings: replace(settings, ca_file=TLS / "README.md"),
        "README.md (mqtt.ca_file) holds no certificate",
    ),
    "a key that is missing": (
        lambda settings: replace(settings, key_file=Path("/nowhere/client.key")),
        "cannot read /nowhere/client.key",
    ),
    "a key of another certificate": (
        lambda settings: replace(settings, key_file=TLS / "broker.key"),
        "broker.key is not the one of the certificate in",
    ),
    "no encryption": (
        lambda settings: replace(settings, ca_file=None, cert_file=None, key_file=None),
        "does not answer as MQTT 5 brokers do",
    ),
}


@pytest.mark.parametrize("what", BREAKAGES)
async def test_tls_trouble_is_told_in_words(mosquitto_bin: Path, tmp_path: Path, what: str) -> None:
    files = [f"certfile {TLS / 'broker.pem'}", f"keyfile {TLS / 'broker.key'}"]
    change, words = BREAKAGES[what]
    with Broker.running(mosquitto_bin, tmp_path, settings=files) as broker:
        reason = await failure(change(tls_settings(broker)))

    assert words in reason
