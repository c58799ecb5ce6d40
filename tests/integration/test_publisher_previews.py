"""Previews: the newest sample as the state while older ones are still to come."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.model import Batch, BatchKind, Record, Sample
from gateway.mqtt.publisher import BrokerSettings, Publisher
from gateway.mqtt.suspicion import STRIKES
from gateway.status import Status
from gateway.supervise import keep_running
from gateway.timekeeper import TimeKeeper
from tests.support.moody_broker import (
    HANG_UP,
    NOT_AUTHORIZED,
    PAYLOAD_FORMAT_INVALID,
    SUCCESS,
    MoodyBroker,
    Published,
)

WAIT_S = 20.0


def sample(device: str, seq: int) -> Sample:
    return Sample(device, 1, seq, Clock().monotonic_s(), {"n": seq})


class BacklogSource:
    """Has a backlog for some devices: a preview on each connection, then the backlog in batches.

    Every connection finds a newer sample, as a living board makes them.
    """

    def __init__(self, backlog: dict[str, int]) -> None:
        """`backlog` says how many samples of each device wait."""
        self.calls: list[str] = []
        self.settled: list[Batch] = []
        self.given_back: list[Batch] = []
        self._newest = dict(backlog)
        self._previews: deque[Batch] = deque()
        self._waiting = deque(
            Batch(device, tuple(sample(device, seq) for seq in range(count)), BatchKind.BACKLOG)
            for device, count in backlog.items()
        )
        self._held: set[str] = set()
        self._changed = asyncio.Event()
        self._moved = asyncio.Event()

    def reconnected(self) -> None:
        self.calls.append("reconnected")
        self._previews.clear()
        for device, newest in self._newest.items():
            self._newest[device] = newest + 1
            self._previews.append(Batch(device, (sample(device, newest),), BatchKind.PREVIEW))
        self._changed.set()

    async def take(self) -> Batch:
        self.calls.append("take")
        while True:
            for queue in (self._previews, self._waiting):
                for batch in queue:
                    if batch.device not in self._held:
                        queue.remove(batch)
                        return batch
            self._changed.clear()
            await self._changed.wait()

    def delivered(self, batch: Batch) -> None:
        self.settled.append(batch)
        self._moved.set()

    async def wait_settled(self, count: int) -> None:
        """Return once the broker has so many batches."""
        while len(self.settled) < count:
            self._moved.clear()
            await self._moved.wait()

    def returned(self, batch: Batch) -> None:
        self.given_back.append(batch)
        self._waiting.appendleft(batch)
        self._changed.set()

    def hold(self, device: str) -> None:
        self.calls.append(f"hold {device}")
        self._held.add(device)

    def release(self, device: str) -> None:
        self._held.discard(device)
        self._changed.set()


@dataclass
class Rig:
    """A publisher with such a source."""

    broker: MoodyBroker
    source: BacklogSource
    status: Status = field(default_factory=Status)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        publisher = Publisher(
            BrokerSettings("127.0.0.1", self.broker.port, base_topic="e"),
            gateway="test",
            version="1",
            session="s",
            records=self.source,
            clock=(clock := Clock()),
            timekeeper=TimeKeeper(clock),
            status=self.status,
        )
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            backoff = Backoff(base_s=0.01, cap_s=0.02, rng=random.Random(1))
            runner = tasks.create_task(keep_running("broker", publisher.run, backoff))
            yield
            runner.cancel()


async def test_a_preview_comes_first_counts_nothing_and_comes_again_in_its_place() -> None:
    broker = MoodyBroker(lambda _message: SUCCESS)
    async with broker.running():
        rig = Rig(broker, BacklogSource({"one": 5}))
        async with rig.running():
            await rig.source.wait_settled(1)

    first, *others = (message for message in broker.taken if message.topic != "e/status")
    assert (first.topic, first.numbers()) == ("e/one/state", [5])
    assert [(each.topic, each.numbers()) for each in others] == [("e/one/history", [*range(5)])]
    assert rig.source.calls[:3] == ["reconnected", "take", "take"]
    assert [batch.kind for batch in rig.source.settled] == [BatchKind.BACKLOG]
    assert rig.source.given_back == []
    assert rig.status.counts["samples_delivered"] == rig.status.device("one").delivered == 5
    assert rig.status.latency_s.count == 5


async def test_each_connection_begins_with_previews_and_gives_none_of_them_back() -> None:
    taken = 0

    def answer(_message: Published) -> int:
        nonlocal taken
        taken += 1
        return HANG_UP if taken in (1, 4) else SUCCESS

    broker = MoodyBroker(answer)
    async with broker.running():
        rig = Rig(broker, BacklogSource({"one": 5, "two": 5}))
        async with rig.running():
            await rig.source.wait_settled(2)

    assert broker.connections == rig.source.calls.count("reconnected") == 3
    batches: list[tuple[Record, ...]] = [batch.records for batch in rig.source.settled]
    assert [len(records) for records in batches] == [5, 5]
    assert all(batch.kind is BatchKind.BACKLOG for batch in rig.source.given_back)
    assert rig.status.counts["samples_delivered"] == 10


@pytest.mark.parametrize("code", [NOT_AUTHORIZED, PAYLOAD_FORMAT_INVALID])
async def test_a_refused_preview_does_no_harm(code: int) -> None:
    broker = MoodyBroker(lambda message: code if message.topic == "e/one/state" else SUCCESS)
    async with broker.running():
        rig = Rig(broker, BacklogSource({"one": 5}))
        async with rig.running():
            await rig.source.wait_settled(1)

    assert [message.topic for message in broker.refused] == ["e/one/state"]
    assert broker.numbers("one", "history") == [*range(5)]
    assert broker.numbers("one", "gap") == [], "it comes again: nothing is lost"
    assert "hold one" not in rig.source.calls
    assert rig.status.counts["samples_refused"] == 0
    assert rig.status.counts["messages_refused"] == 1


async def test_a_device_whose_previews_make_the_broker_hang_up_rests_and_the_others_flow() -> None:
    broker = MoodyBroker(lambda message: HANG_UP if message.topic == "e/bad/state" else SUCCESS)
    async with broker.running():
        rig = Rig(broker, BacklogSource({"bad": 3, "one": 5}))
        async with rig.running():
            await rig.source.wait_settled(1)

    assert "hold bad" in rig.source.calls
    assert broker.numbers("one", "history") == [*range(5)]
    assert len(broker.refused) <= STRIKES + 2
