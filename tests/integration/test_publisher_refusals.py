"""The publisher against brokers that refuse messages in ways mosquitto does not."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.model import Readings, Sample
from gateway.mqtt.publisher import BrokerSettings, Publisher
from gateway.mqtt.suspicion import STRIKES
from gateway.status import Status
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.supervise import keep_running
from gateway.timekeeper import TimeKeeper
from tests.support.moody_broker import (
    HANG_UP,
    NOT_AUTHORIZED,
    PAYLOAD_FORMAT_INVALID,
    QUOTA_EXCEEDED,
    SUCCESS,
    MoodyBroker,
    Published,
)

WAIT_S = 20.0


@dataclass
class Rig:
    """The publisher and its outbox."""

    broker: MoodyBroker
    settings: dict[str, Any] = field(default_factory=dict)
    status: Status = field(default_factory=Status)

    def __post_init__(self) -> None:
        self.outbox = Outbox(OutboxOptions(live_s=3600.0), self.status.counts)
        self._moved = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        publisher = Publisher(
            BrokerSettings("127.0.0.1", self.broker.port, base_topic="e", **self.settings),
            gateway="test",
            version="1",
            session="s",
            records=self.outbox,
            clock=(clock := Clock()),
            timekeeper=TimeKeeper(clock),
            status=self.status,
        )

        async def run(progress: Callable[[], None]) -> NoReturn:
            def on_progress() -> None:
                progress()
                self._moved.set()

            await publisher.run(on_progress)

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            backoff = Backoff(base_s=0.01, cap_s=0.02, rng=random.Random(1))
            runner = tasks.create_task(keep_running("broker", run, backoff))
            yield
            runner.cancel()

    async def delivered(self, device: str, count: int) -> None:
        """Wait until the broker has taken so many samples of a device."""
        while self.status.device(device).delivered < count:
            self._moved.clear()
            await self._moved.wait()

    def put(self, device: str, numbers: range, text: str = "") -> None:
        now_s = Clock().monotonic_s()
        for n in numbers:
            values: dict[str, Any] = {"n": n, "text": text}
            self.outbox.put(Readings(device, (Sample(device, 1, n, now_s, values),)))


async def test_what_is_refused_for_a_while_is_delivered_later_in_order() -> None:
    refusals = Counter[str]()

    def answer(message: Published) -> int:
        device = message.topic.split("/")[1]
        refusals[device] += 1
        return QUOTA_EXCEEDED if device == "busy" and refusals[device] <= 3 else SUCCESS

    broker = MoodyBroker(answer)
    async with broker.running():
        rig = Rig(broker, {"batch_max": 10})
        rig.put("busy", range(25))
        rig.put("other", range(25))
        async with rig.running():
            await rig.outbox.wait_empty()

    assert broker.connections == 1
    assert sorted(set(broker.numbers("busy"))) == list(range(25))
    assert broker.numbers("other") == list(range(25))
    assert rig.status.counts["samples_delivered"] == 50
    assert rig.status.counts["messages_refused"] == 3
    assert rig.status.counts["samples_refused"] == 0


async def test_a_sample_whose_content_is_refused_becomes_a_gap_alone() -> None:
    def answer(message: Published) -> int:
        is_bad = not message.topic.endswith("/gap") and 37 in message.numbers()
        return PAYLOAD_FORMAT_INVALID if is_bad else SUCCESS

    broker = MoodyBroker(answer)
    async with broker.running():
        rig = Rig(broker)
        rig.put("one", range(100))
        async with rig.running():
            await rig.outbox.wait_empty()

    assert broker.numbers("one", "gap") == [37]
    assert sorted(broker.numbers("one", "state", "history")) == [*range(37), *range(38, 100)]
    assert len(broker.refused) == 8, "the history of 99, its halves down to one: log2(99) + 1"
    assert rig.status.counts["samples_refused"] == 1
    assert rig.status.counts["samples_delivered"] == 99
    assert rig.status.device("one").lost == 1


async def test_a_broker_that_takes_neither_a_sample_nor_its_gap_blocks_nobody() -> None:
    broker = MoodyBroker(lambda m: PAYLOAD_FORMAT_INVALID if "/odd/" in m.topic else SUCCESS)
    async with broker.running():
        rig = Rig(broker)
        rig.put("odd", range(8))
        rig.put("one", range(8))
        async with rig.running():
            await rig.outbox.wait_empty()

    assert broker.numbers("one") == list(range(8))
    assert rig.status.counts["samples_refused"] == 8
    assert rig.status.device("odd").lost == 8


async def test_a_device_the_broker_refuses_and_hangs_up_on_rests_across_connections() -> None:
    # mosquitto 2.0 with unlimited queues does so.
    broker = MoodyBroker(
        lambda m: NOT_AUTHORIZED if "/bad/" in m.topic else SUCCESS, hangs_up_after_refusal=True
    )
    async with broker.running():
        rig = Rig(broker, {"batch_max": 1})
        rig.put("bad", range(5))
        rig.put("one", range(500))
        async with rig.running():
            await rig.delivered("one", 500)

    assert broker.numbers("one", "state")[-1] == 499
    assert len(broker.refused) <= 5
    assert broker.connections <= 6, "not one for each of its samples"
    assert rig.outbox.size == 5


async def test_a_device_the_broker_silently_hangs_up_on_rests_and_the_others_flow() -> None:
    broker = MoodyBroker(lambda m: HANG_UP if "/bad/" in m.topic else SUCCESS)
    async with broker.running():
        rig = Rig(broker)
        rig.put("bad", range(3))
        async with rig.running():
            for first in range(0, 300, 3):
                rig.put("one", range(first, first + 3))
                await asyncio.sleep(0.005)  # the pace of a board
            await rig.delivered("one", 300)

    assert sorted(set(broker.numbers("one"))) == list(range(300))
    assert rig.outbox.size == 3, "nothing was dropped"
    assert len(broker.refused) <= 3 * (STRIKES + 2), "it rests between its attempts"


async def test_a_broker_that_hangs_up_on_large_messages_gets_smaller_ones() -> None:
    broker = MoodyBroker(lambda m: HANG_UP if len(m.payload) > 1500 else SUCCESS)
    async with broker.running():
        rig = Rig(broker)
        rig.put("one", range(60))
        rig.put("huge", range(1), text="x" * 3000)
        async with rig.running():
            await rig.outbox.wait_empty()

    assert sorted(set(broker.numbers("one", "state", "history"))) == list(range(60))
    assert broker.numbers("huge", "gap") == [0]
    assert rig.status.counts["samples_refused"] == 1


async def test_a_refused_subscription_is_told_once_and_samples_flow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = Counter[str]()

    def answer(message: Published) -> int:
        calls[message.topic] += 1
        return HANG_UP if message.numbers() == [1] and calls[message.topic] <= 2 else SUCCESS

    broker = MoodyBroker(answer, subscribing=NOT_AUTHORIZED)
    async with broker.running():
        rig = Rig(broker, {"batch_max": 1})
        rig.put("one", range(2))
        async with rig.running():
            await rig.outbox.wait_empty()

    told = [line for line in caplog.messages if "does not let the gateway subscribe to" in line]
    assert broker.connections > 1
    assert len(told) == 1
    assert "e/status" in told[0]
    assert sorted(set(broker.numbers("one"))) == [0, 1]
