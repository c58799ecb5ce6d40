"""The proxy in front of a real mosquitto."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import aiomqtt
import pytest

from gateway.simulate.faults import parse
from gateway.simulate.faults.broker import BrokerProxy
from gateway.simulate.faults.packets import PacketKind
from gateway.simulate.faults.relay import Direction, Passage
from tests.support.broker import Broker, free_port
from tests.support.subscriber import Subscriber

PUBLISH_TIMEOUT_S = 10.0


def client(
    proxy: BrokerProxy, version: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V5
) -> aiomqtt.Client:
    return aiomqtt.Client(proxy.host, proxy.port, protocol=version, timeout=PUBLISH_TIMEOUT_S)


async def ends(connected: aiomqtt.Client) -> bool:
    """Return once a client has noticed that its connection is gone."""
    async with asyncio.timeout(PUBLISH_TIMEOUT_S):
        with contextlib.suppress(aiomqtt.MqttError):
            async for _ in connected.messages:
                pass
            return False
    return True


async def never(answer: Callable[[], object]) -> None:
    """Give something that must not happen half a second to happen."""
    deadline_s = time.monotonic() + 0.5
    while time.monotonic() < deadline_s:
        assert not answer()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_without_faults_everything_passes_and_each_packet_is_seen(
    broker: Broker, version: aiomqtt.ProtocolVersion
) -> None:
    seen: list[Passage] = []
    async with (
        asyncio.timeout(30),
        Subscriber(broker.host, broker.port, "t/#") as subscriber,
        BrokerProxy(broker.host, broker.port, on_packet=seen.append) as proxy,
        client(proxy, version) as publisher,
    ):
        for number in range(10):
            await publisher.publish(f"t/{number}", b"%d" % number, qos=1)
        await subscriber.wait_for(lambda messages: len(messages) == 10)

    published = [each for each in seen if each.packet.kind is PacketKind.PUBLISH]
    acknowledged = [each for each in seen if each.packet.kind is PacketKind.PUBACK]
    assert [each.packet.publication(each.protocol_level) for each in published] == [
        (f"t/{number}", b"%d" % number) for number in range(10)
    ]
    assert {each.direction for each in published} == {Direction.TO_BROKER}
    assert {each.direction for each in acknowledged} == {Direction.TO_CLIENT}
    assert [each.packet.packet_id for each in acknowledged] == [
        each.packet.packet_id for each in published
    ]
    assert seen[0].packet.kind is PacketKind.CONNECT
    assert proxy.counts.pubacks == 10


async def test_a_cut_is_a_loss_for_the_client_and_it_may_come_back(broker: Broker) -> None:
    async with asyncio.timeout(30), BrokerProxy(broker.host, broker.port) as proxy:
        with contextlib.suppress(aiomqtt.MqttError):
            async with client(proxy) as first:
                proxy.cut()
                assert await ends(first)
        async with client(proxy) as second:
            await second.publish("t", qos=1)

    assert (proxy.counts.connections, proxy.counts.cuts) == (2, 1)


async def test_a_dropped_puback_leaves_the_message_with_the_broker_and_the_client_in_doubt(
    broker: Broker,
) -> None:
    seen: list[Passage] = []
    async with (
        asyncio.timeout(30),
        Subscriber(broker.host, broker.port, "t") as subscriber,
        BrokerProxy(broker.host, broker.port, on_packet=seen.append) as proxy,
        asyncio.TaskGroup() as tasks,
        client(proxy) as publisher,
    ):
        proxy.drop_pubacks(1)
        doubtful = tasks.create_task(publisher.publish("t", b"first", qos=1, timeout=60))
        await subscriber.wait_for(lambda messages: len(messages) == 1)
        await publisher.publish("t", b"second", qos=1)

        assert not doubtful.done()
        doubtful.cancel()

    assert [message.payload for message in subscriber.messages] == [b"first", b"second"]
    pubacks = [each for each in seen if each.packet.kind is PacketKind.PUBACK]
    assert [each.is_dropped for each in pubacks] == [True, False]
    assert (proxy.counts.pubacks_dropped, proxy.counts.pubacks) == (1, 1)


@pytest.mark.parametrize("direction", [None, *Direction])
async def test_in_a_stall_nothing_passes_and_afterwards_everything(
    broker: Broker, direction: Direction | None
) -> None:
    async with (
        asyncio.timeout(30),
        Subscriber(broker.host, broker.port, "t") as subscriber,
        BrokerProxy(broker.host, broker.port) as proxy,
        asyncio.TaskGroup() as tasks,
        client(proxy) as publisher,
    ):
        proxy.stall(direction)
        publishing = tasks.create_task(publisher.publish("t", b"1", qos=1, timeout=60))
        if direction is Direction.TO_CLIENT:
            await subscriber.wait_for(lambda messages: len(messages) == 1)
            await never(publishing.done)
        else:
            await never(lambda: subscriber.messages or publishing.done())
        proxy.resume()
        await publishing

    assert [message.payload for message in subscriber.messages] == [b"1"]
    assert proxy.counts.stalls == 1


async def test_who_is_refused_finds_nobody_at_the_port_until_he_is_let_in(broker: Broker) -> None:
    async with (
        asyncio.timeout(30),
        BrokerProxy(broker.host, broker.port) as proxy,
        client(proxy) as present,
    ):
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        await present.publish("t", qos=1)  # who is there stays

        proxy.accept()
        async with client(proxy) as newcomer:
            await newcomer.publish("t", qos=1)


async def test_a_broker_that_is_away_is_a_connection_that_ends_at_once() -> None:
    async with asyncio.timeout(30), BrokerProxy("127.0.0.1", free_port()) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()

    assert proxy.counts.broker_away == 1


async def test_the_end_of_the_broker_reaches_the_client(broker: Broker) -> None:
    async with asyncio.timeout(30), BrokerProxy(broker.host, broker.port) as proxy:
        with contextlib.suppress(aiomqtt.MqttError):
            async with client(proxy) as publisher:
                await asyncio.to_thread(broker.kill)
                assert await ends(publisher)


async def test_latency_is_added_each_way(broker: Broker) -> None:
    plan = parse("broker_latency_s=0.1")
    async with (
        asyncio.timeout(30),
        BrokerProxy(broker.host, broker.port, plan) as proxy,
        client(proxy) as publisher,
    ):
        began_s = time.monotonic()
        await publisher.publish("t", qos=1)
        took_s = time.monotonic() - began_s

    assert took_s >= 0.2


async def test_a_connection_ends_after_so_many_bytes_and_the_next_one_as_well(
    broker: Broker,
) -> None:
    plan = parse("broker_cut_bytes=2000,seed=3")
    async with asyncio.timeout(30), BrokerProxy(broker.host, broker.port, plan) as proxy:
        for _ in range(2):
            with contextlib.suppress(aiomqtt.MqttError):
                async with client(proxy) as publisher:
                    for _ in range(100):
                        await publisher.publish("t", bytes(50), qos=1, timeout=1)
                    pytest.fail("not cut")

    assert proxy.counts.cuts == 2
    passed = proxy.counts.bytes_to_broker + proxy.counts.bytes_to_client
    assert 2 * 1000 <= passed <= 2 * 3000


async def test_a_plan_cuts_and_stalls_again_and_again_and_no_message_is_lost_by_retrying(
    broker: Broker,
) -> None:
    plan = parse(
        "broker_cut_every_s=0.3,broker_cut_s=0.1,broker_stall_every_s=0.4,broker_stall_s=0.05,"
        "puback_drop=0.02,seed=5"
    )
    async with (
        asyncio.timeout(60),
        Subscriber(broker.host, broker.port, "t") as subscriber,
        BrokerProxy(broker.host, broker.port, plan) as proxy,
    ):
        number = 0
        while proxy.counts.cuts < 5 or proxy.counts.stalls < 3 or not proxy.counts.pubacks_dropped:
            with contextlib.suppress(aiomqtt.MqttError):
                async with client(proxy) as publisher:
                    while proxy.counts.cuts < 8:
                        await publisher.publish("t", b"%d" % number, qos=1, timeout=0.5)
                        number += 1
        await subscriber.wait_for(
            lambda messages: len({message.payload for message in messages}) >= number
        )
        cuts, stalls, dropped = proxy.counts.cuts, proxy.counts.stalls, proxy.counts.pubacks_dropped
        proxy.calm()
        async with client(proxy) as publisher:
            for _ in range(200):
                await publisher.publish("calm", qos=1, timeout=10)

    assert {int(message.payload) for message in subscriber.messages} >= set(range(number))
    assert proxy.counts.cuts == cuts
    assert proxy.counts.stalls == stalls
    assert proxy.counts.pubacks_dropped == dropped
