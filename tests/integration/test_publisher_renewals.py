"""What the publisher publishes again when it is asked to, against a real mosquitto."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.model import Readings, Sample
from gateway.mqtt.publisher import BrokerSettings, Publisher
from gateway.status import Status
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.supervise import keep_running
from gateway.timekeeper import TimeKeeper
from tests.support.broker import Broker
from tests.support.subscriber import Received, Subscriber

BASE = "edge/test"
CONFIG = "homeassistant/device/edge_test_attic/config"
STATE = f"{BASE}/attic/state"


@pytest.fixture
def broker(mosquitto_bin: Path, tmp_path: Path) -> Iterator[Broker]:
    with Broker.running(mosquitto_bin, tmp_path) as running:
        yield running


async def test_documents_and_states_come_again_and_only_those_that_are_wanted(
    broker: Broker,
) -> None:
    clock, status = Clock(), Status()
    outbox = Outbox(OutboxOptions(live_s=3600.0), status.counts)
    publisher = Publisher(
        BrokerSettings(host=broker.host, port=broker.port, base_topic=BASE),
        gateway="test",
        version="1.2.3",
        session="session",
        records=outbox,
        clock=clock,
        timekeeper=TimeKeeper(clock),
        status=status,
    )
    publisher.retain_at(CONFIG, b"{}")
    publisher.retain("attic/info", b"{}")
    is_confirmed = asyncio.Event()
    sample = Sample("attic", 1, 0, clock.monotonic_s(), {"t": 21.5})
    outbox.put(Readings("attic", (sample,), is_confirmed.set))

    async with (
        asyncio.timeout(20),
        Subscriber(broker.host, broker.port, "#") as seen,
        asyncio.TaskGroup() as tasks,
    ):
        runner = tasks.create_task(keep_running("broker", publisher.run, Backoff()))
        await seen.wait_for(lambda messages: any(each.topic == STATE for each in messages))
        await is_confirmed.wait()
        before = len(seen.messages)
        publisher.renew([CONFIG, "homeassistant/device/edge_test_cellar/config"])
        publisher.renew_states(["attic/state", "cellar/state"])
        publisher.retain("attic/end", b"x")

        def has_all(messages: Sequence[Received]) -> bool:
            return {CONFIG, STATE} <= {each.topic for each in messages[before:]}

        await seen.wait_for(has_all)
        runner.cancel()

    again = [each for each in seen.messages[before:] if each.topic != f"{BASE}/status"]
    assert sorted(each.topic for each in again) == sorted([CONFIG, STATE, f"{BASE}/attic/end"])
    assert next(each for each in again if each.topic == STATE).json()["t"] == 21.5
