"""What a broker retains of ours: noted before, cleared afterwards, and given again when lost."""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.model import Readings, Sample
from gateway.mqtt.publisher import BrokerSettings, Publisher
from gateway.status import Status
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.supervise import keep_running
from gateway.timekeeper import TimeKeeper
from tests.support.broker import Broker
from tests.support.retained_set import retained_set
from tests.support.subscriber import Subscriber

WAIT_S = 30.0


class PaperLedger:
    """Notes at once, unless it is held."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.is_held = False
        self._waiting: list[Callable[[], None]] = []

    def note(self, topic: str, on_noted: Callable[[], None]) -> None:
        def write() -> None:
            self.topics.add(topic)
            on_noted()

        self._waiting.append(write)
        if not self.is_held:
            asyncio.get_running_loop().call_soon(self.let_go)

    def let_go(self) -> None:
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            write()

    def forget(self, topic: str) -> None:
        self.topics.discard(topic)


class Bench:
    """A publisher with an outbox and such a ledger."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.ledger = PaperLedger()
        self.status = Status()
        self.clock = Clock()
        self.outbox = Outbox(OutboxOptions(live_s=3600.0), self.status.counts)
        self.publisher = Publisher(
            BrokerSettings(broker.host, broker.port, base_topic="e"),
            gateway="test",
            version="1",
            session="s",
            records=self.outbox,
            clock=self.clock,
            timekeeper=TimeKeeper(self.clock),
            status=self.status,
            ledger=self.ledger,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            backoff = Backoff(0.02, 0.05, random.Random(1))
            runner = tasks.create_task(keep_running("broker", self.publisher.run, backoff))
            yield
            runner.cancel()

    def put(self, device: str, seq: int) -> None:
        sample = Sample(device, 1, seq, self.clock.monotonic_s(), {"n": seq})
        self.outbox.put(Readings(device, (sample,)))

    async def retained(self) -> dict[str, bytes]:
        """Return what there is below our base but for the status, which is always there."""
        found = await asyncio.to_thread(retained_set, self.broker.host, self.broker.port)
        return {topic: payload for topic, payload in found.items() if topic != "e/status"}

    async def until_retained(self, wanted: dict[str, int]) -> None:
        """Wait until there are states with these numbers, and nothing else."""
        while True:
            found = await self.retained()
            if {topic: json.loads(payload)["n"] for topic, payload in found.items()} == wanted:
                return
            await asyncio.sleep(0.01)


async def test_nothing_is_retained_before_its_topic_is_noted(broker: Broker) -> None:
    bench = Bench(broker)
    bench.publisher.claim("x/state")
    await asyncio.sleep(0)
    bench.ledger.is_held = True
    bench.publisher.claim("y/state")
    bench.publisher.retain("y/info", b"{}")
    bench.put("x", 1)
    bench.put("y", 1)

    async with bench.running():
        await bench.until_retained({"e/x/state": 1})
        assert bench.outbox.size == 1

        bench.ledger.is_held = False
        bench.ledger.let_go()
        await bench.outbox.wait_empty()
        found = await bench.retained()

    assert found.keys() == {"e/x/state", "e/y/state", "e/y/info"}
    assert bench.ledger.topics == found.keys() | {"e/status"}


async def test_what_waits_of_a_removed_device_is_delivered_and_not_retained(broker: Broker) -> None:
    bench = Bench(broker)
    bench.publisher.claim("x/state")
    await asyncio.sleep(0)
    bench.put("x", 1)
    bench.publisher.retain("x/state", None)

    async with Subscriber(broker.host, broker.port, "e/x/#") as subscriber, bench.running():
        await bench.outbox.wait_empty()
        await subscriber.wait_for(lambda _: any(m.payload for m in subscriber.messages))
        assert await bench.retained() == {}

    (message,) = [each for each in subscriber.messages if each.payload]
    assert (message.topic, message.retain, message.json()["id"]) == ("e/x/state", False, "x/1/1")
    assert bench.ledger.topics == {"e/status", "e/x/state"}, "the broker may yet lose its power"


async def test_a_device_that_is_back_before_its_state_was_cleared_has_its_new_state(
    broker: Broker,
) -> None:
    bench = Bench(broker)
    async with bench.running():
        bench.publisher.claim("x/state")
        bench.put("x", 1)
        await bench.until_retained({"e/x/state": 1})

        bench.publisher.retain("x/state", None)
        bench.publisher.claim("x/state")
        bench.put("x", 2)
        await bench.outbox.wait_empty()

        await bench.until_retained({"e/x/state": 2})
    assert bench.ledger.topics == {"e/status", "e/x/state"}


async def test_a_broker_that_lost_everything_is_given_the_newest_states_again(
    broker: Broker,
) -> None:
    bench = Bench(broker)
    async with bench.running():
        for device in ("x", "y"):
            bench.publisher.claim(f"{device}/state")
            bench.put(device, 1)
        await bench.until_retained({"e/x/state": 1, "e/y/state": 1})

        await asyncio.to_thread(broker.stop)
        bench.put("x", 2)
        await asyncio.to_thread(broker.start)

        async with Subscriber(broker.host, broker.port, "e/x/state") as subscriber:
            await bench.until_retained({"e/x/state": 2, "e/y/state": 1})
            numbers = [message.json()["n"] for message in subscriber.messages]

    assert numbers in ([2], [1, 2]), "none comes behind a newer one"


async def test_a_broker_that_lost_nothing_is_given_no_state_again(broker: Broker) -> None:
    bench = Bench(broker)
    async with bench.running():
        bench.publisher.claim("x/state")
        bench.put("x", 1)
        await bench.until_retained({"e/x/state": 1})
    messages = bench.status.counts["messages"]

    async with bench.running():
        bench.publisher.post("x/log", b"{}")
        while bench.status.counts["messages"] < messages + 2:  # noqa: ASYNC110 - a count
            await asyncio.sleep(0.01)

    assert bench.status.counts["messages"] <= messages + 3, "status, log, and the good-bye"


async def test_the_state_of_a_renamed_device_moves(broker: Broker) -> None:
    bench = Bench(broker)
    async with bench.running():
        bench.publisher.claim("x/state")
        bench.put("x", 1)
        await bench.until_retained({"e/x/state": 1})

        bench.publisher.move_state("x/state", "attic/state")

        await bench.until_retained({"e/attic/state": 1})


async def test_what_an_earlier_run_left_is_cleared_unless_somebody_claims_it(
    broker: Broker,
) -> None:
    earlier = Bench(broker)
    async with earlier.running():
        for topic in ("x/state", "y/state"):
            earlier.publisher.claim(topic)
        earlier.put("x", 1)
        earlier.put("y", 1)
        await earlier.until_retained({"e/x/state": 1, "e/y/state": 1})

    bench = Bench(broker)
    bench.ledger.topics = set(earlier.ledger.topics)
    bench.publisher.claim("x/state")
    bench.publisher.load_retained(earlier.ledger.topics)
    async with bench.running():
        await bench.until_retained({"e/x/state": 1})


async def test_a_broker_that_lost_its_power_has_no_ghosts_and_no_old_states(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    with Broker.running(mosquitto_bin, tmp_path, persistence=True) as broker:
        bench = Bench(broker)
        async with bench.running():
            for device in ("x", "y"):
                bench.publisher.claim(f"{device}/state")
                bench.put(device, 1)
            await bench.until_retained({"e/x/state": 1, "e/y/state": 1})
            os.kill(broker.pid, signal.SIGUSR1)  # it writes its database, as it does now and then
            while not (tmp_path / "mosquitto.db").exists():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.01)

            bench.publisher.retain("x/state", None)
            bench.put("y", 2)
            await bench.until_retained({"e/y/state": 2})
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)

            await bench.until_retained({"e/y/state": 2})
