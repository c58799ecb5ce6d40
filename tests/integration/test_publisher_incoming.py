"""What the publisher hears, and what it answers, against a real mosquitto."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.mqtt.client_lock import ClientLock
from gateway.mqtt.paho_packets import Version
from gateway.mqtt.publisher import BrokerSettings, Publisher
from gateway.status import Status
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.supervise import keep_running
from gateway.timekeeper import TimeKeeper
from tests.support.broker import Broker
from tests.support.moody_broker import NOT_AUTHORIZED, MoodyBroker
from tests.support.subscriber import Subscriber

if TYPE_CHECKING:
    from gateway.mqtt.incoming import Incoming

BASE = "edge/test"
WAIT_S = 20.0


@pytest.fixture
def broker(mosquitto_bin: Path, tmp_path: Path) -> Iterator[Broker]:
    with Broker.running(mosquitto_bin, tmp_path, persistence=True) as running:
        yield running


def publisher_for(
    host: str,
    port: int,
    status: Status,
    lock: ClientLock | None = None,
    version: Version = "5",
) -> Publisher:
    clock = Clock(is_synchronised=lambda: False)
    return Publisher(
        BrokerSettings(host=host, port=port, base_topic=BASE, version=version),
        gateway="test",
        version="1.2.3",
        session="session",
        records=Outbox(OutboxOptions(live_s=3600.0), status.counts),
        clock=clock,
        timekeeper=TimeKeeper(clock),
        status=status,
        lock=lock,
    )


@contextlib.asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[None]:
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        backoff = Backoff(base_s=0.02, cap_s=0.05)
        runner = tasks.create_task(keep_running("broker", publisher.run, backoff))
        yield
        runner.cancel()


async def command(broker: Broker, payload: bytes) -> None:
    async with aiomqtt.Client(broker.host, broker.port) as other:
        await other.publish(f"{BASE}/pump/set", payload, qos=1)


async def test_a_message_is_the_broker_s_until_it_is_done(broker: Broker) -> None:
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    publisher = publisher_for(broker.host, broker.port, Status())
    publisher.subscribe([f"{BASE}/+/set"], heard.put_nowait)
    async with running(publisher), Subscriber(broker.host, broker.port, f"{BASE}/status") as seen:
        await seen.wait_for(lambda messages: messages)  # it has subscribed before it says so
        await command(broker, b"one")
        first = await heard.get()
        assert not first.is_again

        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        again = await heard.get()
        again.done()
        await command(broker, b"two")

        assert (again.payload, again.is_again, again.packet_id) == (b"one", True, first.packet_id)
        assert (await heard.get()).payload == b"two"


@pytest.mark.parametrize("is_retained", [False, True])
async def test_a_message_that_the_library_cannot_read_is_dropped_and_does_not_come_again(
    broker: Broker, is_retained: bool
) -> None:
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    status = Status()
    publisher = publisher_for(broker.host, broker.port, status)
    publisher.subscribe([f"{BASE}/+/set"], heard.put_nowait)
    async with running(publisher), Subscriber(broker.host, broker.port, f"{BASE}/status") as seen:
        await seen.wait_for(lambda messages: messages)  # it has subscribed before it says so
        odd = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        odd.UserProperty = ("note", "\ufeffU+FEFF is a character that MQTT 5, 1.5.4 allows")
        v5 = aiomqtt.ProtocolVersion.V5
        async with aiomqtt.Client(broker.host, broker.port, protocol=v5) as other:
            topic = f"{BASE}/pump/set"
            await other.publish(topic, b"odd", qos=1, retain=is_retained, properties=odd)
            await other.publish(f"{BASE}/tap/set", b"even", qos=1)
        even = await heard.get()

        assert even.payload == b"even"
        assert status.broker.connects == 1
        assert status.counts["messages_unreadable"] == 1

        even.done()
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        await command(broker, b"after")

        assert (await heard.get()).payload == b"after"
        # What is retained comes again, and not in order with what waited for the gateway.
        await until(lambda: status.counts["messages_unreadable"] >= 1 + is_retained)
        assert status.counts["messages_unreadable"] == 1 + is_retained  # it had been confirmed


async def test_a_huge_message_is_dropped_without_being_gathered_where_the_broker_cannot_be_told(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    status = Status()
    huge = bytes(1_500_000)  # mosquitto 2.1 takes no more than 2 MB by default
    one_at_a_time = ["max_inflight_messages 1"]  # the next one comes when that was confirmed
    with Broker.running(mosquitto_bin, tmp_path, settings=one_at_a_time) as broker:
        publisher = publisher_for(broker.host, broker.port, status, version="3.1.1")
        publisher.subscribe([f"{BASE}/+/set"], heard.put_nowait)
        async with (
            aiomqtt.Client(broker.host, broker.port) as other,
            Subscriber(broker.host, broker.port, f"{BASE}/status") as seen,
        ):
            await other.publish(f"{BASE}/pump/set", huge, qos=1, retain=True)
            tracemalloc.start()
            try:
                async with running(publisher):
                    await seen.wait_for(lambda messages: messages)  # it has subscribed before
                    await other.publish(f"{BASE}/tap/set", b"small", qos=1)
                    small = await heard.get()
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()

    assert small.payload == b"small"
    assert status.broker.connects == 1
    assert status.counts["messages_unreadable"] == 1
    assert peak_bytes < len(huge) / 2


async def test_an_answer_waits_for_the_broker_and_is_told_when_it_has_it(broker: Broker) -> None:
    ends: asyncio.Queue[bool] = asyncio.Queue()
    publisher = publisher_for(broker.host, broker.port, Status())
    publisher.send("their/answers", b"42", on_done=ends.put_nowait)
    assert ends.empty()

    async with Subscriber(broker.host, broker.port, "their/answers") as seen, running(publisher):
        assert await ends.get() is True
        await seen.wait_for(lambda messages: messages)

    assert [message.payload for message in seen.messages] == [b"42"]


async def test_an_answer_the_broker_refuses_is_told_as_not_taken() -> None:
    ends: asyncio.Queue[bool] = asyncio.Queue()
    moody = MoodyBroker(lambda message: NOT_AUTHORIZED if message.topic == "theirs" else 0)
    async with moody.running():
        publisher = publisher_for("127.0.0.1", moody.port, Status())
        publisher.send("theirs", b"42", on_done=ends.put_nowait)
        async with running(publisher):
            assert await ends.get() is False


def test_more_answers_than_can_wait_are_told_as_not_taken() -> None:
    status = Status()
    ends: list[bool] = []
    publisher = publisher_for("127.0.0.1", 1, status)

    for _ in range(1001):
        publisher.send("their/answers", b"42", on_done=ends.append)

    assert (ends, status.counts["answers_dropped"]) == ([False], 1)


async def test_a_broker_that_lost_what_was_retained_is_noticed(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    lost: asyncio.Queue[None] = asyncio.Queue()
    new_sessions_after: list[int] = []
    status = Status()
    with Broker.running(mosquitto_bin, tmp_path) as broker:  # keeps nothing over a restart
        publisher = publisher_for(broker.host, broker.port, status)
        publisher.on_retained_lost = lambda: lost.put_nowait(None)
        publisher.on_new_session = lambda: new_sessions_after.append(status.broker.connects)
        async with running(publisher):
            await lost.get()  # it never had anything
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)
            await lost.get()

    assert status.broker.connects == 2
    assert new_sessions_after == [0, 1]


async def test_a_broker_that_kept_what_was_retained_is_not_suspected(broker: Broker) -> None:
    lost: list[int] = []
    new_sessions_after: list[int] = []
    settled = asyncio.Event()
    status = Status()

    def settle(message: "Incoming") -> None:
        message.done()
        settled.set()

    async with Subscriber(broker.host, broker.port, f"{BASE}/status") as seen:
        publisher = publisher_for(broker.host, broker.port, status)
        publisher.on_retained_lost = lambda: lost.append(status.broker.connects)
        publisher.on_new_session = lambda: new_sessions_after.append(status.broker.connects)
        publisher.subscribe([f"{BASE}/+/set"], settle)
        async with running(publisher):
            await seen.wait_for(lambda messages: messages)
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)
            heard = len(seen.messages)
            await seen.wait_for(
                lambda messages: any(b'"online"' in each.payload for each in messages[heard:])
            )
            await command(broker, b"")
            await settled.wait()  # the gateway has heard what came before it, its birth too
    assert lost == [1]
    assert new_sessions_after == [0]


async def test_a_document_larger_than_the_broker_takes_is_left_out_and_stops_nothing(
    mosquitto_bin: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status = Status()
    with Broker.running(mosquitto_bin, tmp_path, settings=["max_packet_size 2000"]) as broker:
        publisher = publisher_for(broker.host, broker.port, status)
        publisher.retain("large/info", b"x" * 2000)
        publisher.retain("small/info", b"small")
        ends: asyncio.Queue[bool] = asyncio.Queue()
        async with Subscriber(broker.host, broker.port, f"{BASE}/#") as seen, running(publisher):
            publisher.send("their/answers", b"x" * 2000, on_done=ends.put_nowait)
            assert await ends.get() is False
            await seen.wait_for(lambda messages: b"small" in [each.payload for each in messages])

    assert status.broker.connects == 1
    assert status.counts["documents_refused"] == 2
    assert "larger than the broker takes" in caplog.text


async def test_a_second_gateway_of_a_name_waits_and_says_why(broker: Broker) -> None:
    first, second = Status(), Status()
    locks = [ClientLock(f"{broker.host}:{broker.port}", "same") for _ in range(2)]
    async with running(publisher_for(broker.host, broker.port, first, locks[0])):
        await until(lambda: first.broker.connected)
        async with running(publisher_for(broker.host, broker.port, second, locks[1])):
            await until(lambda: "expel each other" in second.broker.trouble)
            assert second.broker.connects == 0

            locks[0].release()
            await until(lambda: second.broker.connected)
    locks[1].release()


async def until(is_met: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_met():  # noqa: ASYNC110 - the status board has no event
            await asyncio.sleep(0.01)
