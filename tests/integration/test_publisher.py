"""The publisher against a real mosquitto: what a subscriber sees, whatever the broker does."""

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import aiomqtt
import pytest

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.model import Gap, GapCause, Readings, Sample
from gateway.mqtt.publisher import TICK_S, BrokerSettings, Publisher
from gateway.status import Status
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.supervise import keep_running
from gateway.timekeeper import TimeKeeper
from tests.support.broker import Broker
from tests.support.subscriber import Received, Subscriber

VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])
BASE = "edge/test"
WAIT_S = 20.0
"""Longer than anything here takes on a loaded machine."""


def sample(device: str, seq: int, text: str = "") -> Sample:
    values: dict[str, Any] = {"n": seq, "text": text} if text else {"n": seq}
    return Sample(device, 1, seq, Clock().monotonic_s(), values)


def numbers(messages: Sequence[Received], device: str) -> list[int]:
    """The sequence numbers of all samples and gaps of a device, in order of arrival."""
    seqs: list[int] = []
    for message in messages:
        match message.topic.removeprefix(f"{BASE}/{device}/"):
            case "state":
                seqs.append(message.json()["n"])
            case "history":
                seqs += [document["n"] for document in message.json()]
            case "gap":
                gap = message.json()
                seqs += range(gap["from"], gap["to"] + 1)
    return seqs


@dataclass
class Rig:
    """A publisher with its outbox, run as the daemon runs it, but with short pauses."""

    broker: Broker
    version: str = "5"
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings other than the usual ones."""
    session: str = "new-session"
    status: Status = field(default_factory=Status)
    attempts: int = 0
    progress: int = 0
    errors: list[str] = field(default_factory=list)
    """Texts of the LinkErrors that ended connections."""
    gate: Callable[[], Any] | None = None
    """Awaited before each attempt to connect."""
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        settings = BrokerSettings(
            host=self.broker.host,
            port=self.broker.port,
            version=self.version,  # type: ignore[arg-type]  # parametrized
            base_topic=BASE,
        )
        self.outbox = Outbox(OutboxOptions(live_s=3600.0), self.status.counts)
        self.publisher = Publisher(
            replace(settings, **self.changes),
            gateway="test",
            version="1.2.3",
            session=self.session,
            records=self.outbox,
            clock=(clock := Clock(is_synchronised=lambda: False)),
            timekeeper=TimeKeeper(clock),
            status=self.status,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the publisher for the length of the block, then stop it cleanly."""
        async with asyncio.TaskGroup() as tasks:
            backoff = Backoff(base_s=0.02, cap_s=0.05)
            runner = tasks.create_task(keep_running("broker", self._run, backoff))
            yield
            runner.cancel()

    async def _run(self, progress: Callable[[], None]) -> NoReturn:
        if self.gate is not None:
            await self.gate()
        self.attempts += 1
        try:
            await self.publisher.run(lambda: self._note_progress(progress))
        except LinkError as exc:
            self.errors.append(str(exc))
            raise

    def _note_progress(self, progress: Callable[[], None]) -> None:
        self.progress += 1
        progress()

    def put(self, device: str, *seqs: int, text: str = "") -> None:
        """Hand over samples, each in readings of its own, as boards do."""
        for seq in seqs:
            self.outbox.put(Readings(device, (sample(device, seq, text),)))

    async def delivered(self) -> None:
        """Wait until the broker has acknowledged everything."""
        async with asyncio.timeout(WAIT_S):
            await self.outbox.wait_empty()

    async def until(self, reached: Callable[[], object]) -> None:
        """Look at every turn of the loop until something is true; note the window meanwhile."""
        async with asyncio.timeout(WAIT_S):
            while not reached():
                self.most_in_flight = max(self.most_in_flight, self.status.broker.in_flight)
                await asyncio.sleep(0)

    async def first_failure(self) -> str:
        """Run the publisher alone until it fails; return why."""
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(LinkError) as failure:
                await self.publisher.run(lambda: None)
        return str(failure.value)


@pytest.fixture
def broker_with(mosquitto_bin: Path, tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Start a mosquitto with further lines of configuration."""
    with contextlib.ExitStack() as stack:

        def start(*settings: str) -> Broker:
            # mosquitto 2.0 hangs up after refusing a message when its queues are unlimited.
            settings = ("max_queued_messages 100000", *settings)
            return stack.enter_context(Broker.running(mosquitto_bin, tmp_path, settings=settings))

        yield start


def all_of(device: str, count: int) -> Callable[[Sequence[Received]], bool]:
    """Tell whether a subscriber has all numbers of a device below `count`."""
    return lambda messages: len(set(numbers(messages, device))) >= count


def at_least(count: int, messages: Sequence[Received]) -> bool:
    return len(messages) >= count


# Records.


async def test_samples_without_values_are_settled_without_a_message(broker: Broker) -> None:
    rig = Rig(broker)
    safe: list[str] = []
    for device, values in (("one", {}), ("two", {"t": 1}), ("two", {}), ("one", {})):
        seq = rig.outbox.size
        made = Sample(device, 1, seq, 0.0, values)
        rig.outbox.put(Readings(device, (made,), partial(safe.append, device)))

    async with Subscriber(broker.host, broker.port, f"{BASE}/#") as subscriber, rig.running():
        await rig.delivered()
        rig.put("last", 0)
        await subscriber.wait_for(all_of("last", 1))

    assert [message.topic for message in subscriber.on(f"{BASE}/+/state")] == [
        f"{BASE}/two/state",
        f"{BASE}/last/state",
    ]
    assert not subscriber.on(f"{BASE}/+/history")
    assert sorted(safe) == ["one", "one", "two", "two"]
    counts = rig.status.counts
    assert (counts["samples_delivered"], counts["samples_left_out"]) == (2, 3)
    assert rig.status.latency_s.count == 2


async def test_what_waits_of_a_device_that_was_disabled_goes_without_a_message(
    broker: Broker,
) -> None:
    rig = Rig(broker)
    rig.put("off", *range(250))
    rig.put("on", 0)
    rig.publisher.leave_out({"off"})

    async with Subscriber(broker.host, broker.port, f"{BASE}/#") as subscriber, rig.running():
        await rig.delivered()
        await subscriber.wait_for(all_of("on", 1))

    assert not subscriber.on(f"{BASE}/off/#")
    counts = rig.status.counts
    assert (counts["samples_delivered"], counts["samples_disabled"]) == (1, 250)


@VERSIONS
async def test_every_sample_arrives_once_and_in_order(broker: Broker, version: str) -> None:
    rig = Rig(broker, version)
    for seq in range(250):  # interleaved, and waiting together: they will share messages
        rig.put("one", seq)
        rig.put("two", seq)

    async with Subscriber(broker.host, broker.port, f"{BASE}/#") as subscriber, rig.running():
        await rig.delivered()
        await subscriber.wait_for(all_of("one", 250))
        await subscriber.wait_for(all_of("two", 250))

    assert numbers(subscriber.messages, "one") == list(range(250))
    assert numbers(subscriber.messages, "two") == list(range(250))
    assert rig.status.counts["samples_delivered"] == 500
    assert rig.status.device("one").delivered == 250
    assert rig.status.latency_s.count == 500


async def test_samples_that_wait_together_share_a_history_and_the_newest_is_the_state(
    broker: Broker,
) -> None:
    rig = Rig(broker)
    rig.put("one", *range(100))

    async with Subscriber(broker.host, broker.port, f"{BASE}/one/#") as subscriber, rig.running():
        await rig.delivered()
        await subscriber.wait_for(all_of("one", 100))

    history, state = subscriber.messages
    assert (history.topic, history.qos, history.retain) == (f"{BASE}/one/history", 1, False)
    assert [document["id"] for document in history.json()] == [f"one/1/{n}" for n in range(99)]
    assert (state.topic, state.qos, state.retain) == (f"{BASE}/one/state", 1, True)
    assert state.json()["id"] == "one/1/99"
    assert set(state.json()) == {"n", "time", "id", "time_quality"}
    assert state.json()["time_quality"] == "unsynced", "nobody vouches for the clock yet"


async def test_batch_max_one_gives_each_sample_a_message_of_its_own(broker: Broker) -> None:
    rig = Rig(broker, changes={"batch_max": 1})
    rig.put("one", *range(50))

    async with Subscriber(broker.host, broker.port, f"{BASE}/one/#") as subscriber, rig.running():
        await rig.delivered()
        await subscriber.wait_for(all_of("one", 50))

    assert [message.topic.rpartition("/")[2] for message in subscriber.messages] == [
        *["history"] * 49,
        "state",
    ]
    assert numbers(subscriber.messages, "one") == list(range(50))


async def test_a_gap_is_published_in_its_place(broker: Broker) -> None:
    rig = Rig(broker)
    lost = Gap("one", 1, 2, 4, GapCause.RING_OVERFLOW, Clock().monotonic_s())
    rig.outbox.put(Readings("one", (sample("one", 0), sample("one", 1), lost, sample("one", 5))))

    async with Subscriber(broker.host, broker.port, f"{BASE}/one/#") as subscriber, rig.running():
        await rig.delivered()
        await subscriber.wait_for(all_of("one", 6))

    assert [message.topic.rpartition("/")[2] for message in subscriber.messages] == [
        "history",
        "gap",
        "state",
    ]
    assert numbers(subscriber.messages, "one") == list(range(6))
    assert subscriber.messages[1].json() == {
        "device": "one",
        "boot": 1,
        "from": 2,
        "to": 4,
        "cause": "ring_overflow",
        "count": 3,
    }
    assert rig.status.counts["gaps_delivered"] == 1
    assert rig.status.device("one").lost == 3


async def test_a_batch_is_safe_only_when_the_broker_has_acknowledged_all_of_it(
    broker: Broker,
) -> None:
    rig = Rig(broker, changes={"ack_timeout_s": 60.0})
    safe: list[int] = []
    async with rig.running():
        await rig.until(lambda: rig.status.counts["messages"])  # the birth message
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            records = tuple(sample("one", seq) for seq in range(10))
            rig.outbox.put(Readings("one", records, lambda: safe.append(1)))
            await rig.until(lambda: rig.status.broker.in_flight == 2)
            assert safe == []
        finally:
            os.kill(broker.pid, signal.SIGCONT)

        await rig.delivered()

    assert safe == [1]


# Connections that come and go.


@VERSIONS
async def test_a_broker_killed_in_the_middle_costs_no_sample(broker: Broker, version: str) -> None:
    rig = Rig(broker, version)
    # QoS 0, as mosquitto hands a message on before it acknowledges it, and nothing may be lost
    # between the two; and the gateway waits for the subscriber, as this mosquitto forgets.
    async with Subscriber(broker.host, broker.port, f"{BASE}/#", qos=0) as subscriber:
        subscriptions = 1
        rig.gate = lambda: subscriber.wait_connections(subscriptions)
        async with rig.running():
            for seq in range(2000):
                rig.put("one" if seq % 2 else "two", seq // 2)
                if seq % 10 == 9:
                    await asyncio.sleep(0.001)  # the pace of the boards
                if seq in {600, 1300}:
                    seen = seq // 4
                    await subscriber.wait_for(all_of("one", seen))
                    subscriptions += 1
                    broker.kill()
                    await asyncio.to_thread(broker.start)
            await rig.delivered()
            await subscriber.wait_for(all_of("one", 1000))
            await subscriber.wait_for(all_of("two", 1000))

    assert rig.status.broker.connects == 3
    for device in ("one", "two"):
        arrived = numbers(subscriber.messages, device)
        assert list(dict.fromkeys(arrived)) == list(range(1000)), "in order, but for repetitions"
        assert len(arrived) < 1500, "only what was in flight may be repeated"
    ids: dict[str, Any] = {}
    for message in subscriber.on(f"{BASE}/+/state"):
        document = message.json()
        assert ids.setdefault(document["id"], document["n"]) == document["n"]


async def test_samples_wait_for_a_broker_that_is_not_there_yet(broker: Broker) -> None:
    broker.stop()
    rig = Rig(broker)
    async with rig.running():
        rig.put("one", *range(20))
        await rig.until(lambda: rig.attempts >= 3)
        assert rig.outbox.size == 20
        assert not rig.status.broker.connected

        await asyncio.to_thread(broker.start)
        await rig.delivered()

    assert rig.status.broker.connects == 1
    assert all("connection refused" in error for error in rig.errors)


async def test_a_broker_that_acknowledges_nothing_is_left_and_its_samples_are_kept(
    broker: Broker,
) -> None:
    rig = Rig(broker, changes={"ack_timeout_s": 0.5})
    async with Subscriber(broker.host, broker.port, f"{BASE}/one/#") as subscriber, rig.running():
        rig.put("one", 0)
        await rig.delivered()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            rig.put("one", 1, 2, 3)
            await rig.until(lambda: rig.errors)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        await rig.delivered()
        await subscriber.wait_for(all_of("one", 4))

    assert "acknowledged nothing for 0.5 s" in rig.errors[0]
    assert list(dict.fromkeys(numbers(subscriber.messages, "one"))) == [0, 1, 2, 3]


@VERSIONS
async def test_many_lost_connections_leave_nothing_behind(broker: Broker, version: str) -> None:
    rig = Rig(broker, version)
    async with rig.running():
        for round_number in range(15):
            rig.put("one", *range(round_number * 200, round_number * 200 + 200))
            await rig.until(lambda: rig.status.broker.connected)
            broker.kill()
            await asyncio.to_thread(broker.start)
        await rig.delivered()
        descriptors = len(os.listdir("/proc/self/fd"))
        tasks = len(asyncio.all_tasks())

        broker.kill()
        await asyncio.to_thread(broker.start)
        rig.put("one", 3000)
        await rig.delivered()

    assert rig.status.counts["samples_delivered"] == 3001
    assert rig.status.broker.connects >= 15
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert tasks <= 8, "the test, the runner, and what one connection needs"


async def test_only_delivered_records_and_lasting_connections_count_as_progress(
    broker: Broker,
) -> None:
    rig = Rig(broker)
    progress: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        runner = tasks.create_task(rig.publisher.run(lambda: progress.append(1)))
        await rig.until(lambda: rig.status.counts["messages"])  # the birth message

        assert progress == []
        rig.put("one", 0)
        await rig.delivered()

        runner.cancel()
    assert progress == [1]


async def test_a_bug_in_what_follows_a_delivery_ends_the_gateway(broker: Broker) -> None:
    rig = Rig(broker)

    def broken() -> None:
        raise ZeroDivisionError

    rig.outbox.put(Readings("one", (sample("one", 0),), broken))

    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ZeroDivisionError):
            await rig.publisher.run(lambda: None)


# Birth, will, and what the gateway says of itself.


@VERSIONS
async def test_the_birth_message_comes_first_then_documents_then_records(
    broker: Broker, version: str
) -> None:
    rig = Rig(broker, version)
    rig.put("one", 0)
    rig.publisher.retain("one/info", b"{}")
    rig.publisher.retain("one/availability", b"online")

    async with Subscriber(broker.host, broker.port, f"{BASE}/#") as subscriber, rig.running():
        await rig.delivered()
        await subscriber.wait_for(all_of("one", 1))

    topics = [message.topic.removeprefix(f"{BASE}/") for message in subscriber.messages[:4]]
    assert topics == ["status", "one/info", "one/availability", "one/state"]
    birth = subscriber.messages[0]
    assert birth.retain
    assert birth.json() == {
        "state": "online",
        "session": "new-session",
        "version": "1.2.3",
        "since": birth.json()["since"],
        "heartbeat_s": 60,
    }


async def test_documents_are_published_again_after_a_restart_of_the_broker(broker: Broker) -> None:
    rig = Rig(broker)
    rig.publisher.retain("one/info", b"{}")
    async with rig.running():
        await rig.until(lambda: rig.status.counts["messages"] == 2)
        broker.kill()  # without persistence it forgets
        await asyncio.to_thread(broker.start)
        await rig.until(lambda: rig.status.counts["messages"] == 4)

        async with Subscriber(broker.host, broker.port, f"{BASE}/one/info") as subscriber:
            await subscriber.wait_for(lambda messages: messages)

    assert subscriber.messages[0].payload == b"{}"


async def test_a_document_follows_its_changes_and_can_be_removed(broker: Broker) -> None:
    rig = Rig(broker)
    async with (
        Subscriber(broker.host, broker.port, f"{BASE}/one/+") as subscriber,
        rig.running(),
    ):
        for payload in (b"1", b"2", None):
            rig.publisher.retain("one/info", payload)
            count = len(subscriber.messages) + 1
            await subscriber.wait_for(partial(at_least, count))
        rig.publisher.post("one/log", b"a line")
        await subscriber.wait_for(lambda messages: len(messages) >= 4)

    assert [(m.payload, m.retain) for m in subscriber.messages] == [
        (b"1", True),
        (b"2", True),
        (b"", True),
        (b"a line", False),
    ]


@VERSIONS
async def test_the_will_says_offline_when_the_gateway_is_cut_off(
    broker: Broker, version: str
) -> None:
    rig = Rig(broker, version, changes={"client_id": "gw"})
    async with Subscriber(broker.host, broker.port, f"{BASE}/status") as subscriber, rig.running():
        await subscriber.wait_for(lambda messages: len(messages) == 1)
        # Whoever takes the client id over makes the broker cut the gateway off.
        protocol = aiomqtt.ProtocolVersion.V5
        async with aiomqtt.Client(broker.host, broker.port, identifier="gw", protocol=protocol):
            await subscriber.wait_for(lambda messages: len(messages) == 2)
        await subscriber.wait_for(lambda messages: len(messages) >= 3)

    birth, will, rebirth = subscriber.messages[:3]
    assert will.retain
    assert will.json() == {**birth.json(), "state": "offline", "connection": 1}
    assert rebirth.json() == birth.json()
    if "Sending DISCONNECT to gw" in broker.log():  # MQTT 3.1.1 and old brokers do not say why
        assert version == "5"
        assert "another client took over the client id 'gw'" in rig.errors[0]


@pytest.mark.parametrize(
    "stale",
    [b'{"state":"offline","session":"old-session"}', b"", b"[[[[", b"null", b"\xff\xfe"],
)
async def test_a_stale_status_is_corrected(broker: Broker, stale: bytes) -> None:
    rig = Rig(broker)
    async with (
        Subscriber(broker.host, broker.port, f"{BASE}/status") as subscriber,
        rig.running(),
        aiomqtt.Client(broker.host, broker.port) as other,
    ):
        await subscriber.wait_for(lambda messages: len(messages) == 1)
        await rig.until(lambda: "SUBSCRIBE" in broker.log())

        await other.publish(f"{BASE}/status", stale, qos=1, retain=True)

        await subscriber.wait_for(lambda messages: len(messages) == 3)
    assert subscriber.messages[1].payload == stale
    assert subscriber.messages[2].json()["state"] == "online"
    assert subscriber.messages[2].retain


async def test_a_retained_offline_of_an_earlier_run_is_replaced_at_once(broker: Broker) -> None:
    async with aiomqtt.Client(broker.host, broker.port) as other:
        stale = b'{"state":"offline","session":"old-session"}'
        await other.publish(f"{BASE}/status", stale, qos=1, retain=True)
    rig = Rig(broker)

    async with rig.running():
        await rig.until(lambda: rig.status.counts["messages"] == 1)
        async with Subscriber(broker.host, broker.port, f"{BASE}/status") as subscriber:
            await subscriber.wait_for(lambda messages: messages)

    assert subscriber.messages[0].json()["state"] == "online"


async def test_two_gateways_on_one_base_topic_do_not_fight(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    first = Rig(broker, changes={"client_id": "first"})
    second = Rig(broker, changes={"client_id": "second"}, session="second-session")
    async with Subscriber(broker.host, broker.port, f"{BASE}/status") as subscriber:
        async with first.running(), second.running():
            await first.until(lambda: "uses the base topic" in caplog.text)
            await asyncio.sleep(2.5 * TICK_S)  # time enough for corrections, if there were any
        await subscriber.wait_for(lambda messages: b"offline" in messages[-1].payload)

    states = [message.json()["state"] for message in subscriber.messages]
    assert states == ["online", "online", "offline", "offline"]
    assert caplog.text.count("another gateway uses the base topic") == 1


@VERSIONS
async def test_two_gateways_with_one_client_id_say_so_and_calm_down(
    broker: Broker, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    rigs = [
        Rig(broker, version, changes={"client_id": "gw"}, session=session)
        for session in ("first", "second")
    ]
    async with rigs[0].running(), rigs[1].running():
        for rig in rigs:
            await rig.until(lambda rig=rig: rig.status.broker.trouble)  # type: ignore[misc]
        progress = [rig.progress for rig in rigs]
        attempts = [rig.attempts for rig in rigs]
        for rig, before in zip(rigs, attempts, strict=True):
            rig.put("a", rig.attempts)
            await rig.until(lambda rig=rig, before=before: rig.attempts > before + 2)  # type: ignore[misc]
        assert [rig.progress for rig in rigs] == progress  # nothing brings the next attempt forward

    for rig in rigs:
        assert "our client id, 'gw'" in rig.status.broker.trouble
        assert "give one of them another name" in rig.status.broker.trouble
    assert caplog.text.count("our client id, 'gw'") == 2


# Stopping.


@VERSIONS
async def test_a_clean_stop_waits_for_acknowledgements_and_says_goodbye(
    broker: Broker, version: str
) -> None:
    rig = Rig(broker, version, changes={"batch_max": 7})
    rig.put("one", *range(20_000))
    async with Subscriber(broker.host, broker.port, f"{BASE}/#") as subscriber:
        async with rig.running():
            await rig.until(lambda: rig.status.counts["samples_delivered"] > 50)
        await subscriber.wait_for(lambda messages: b"offline" in messages[-1].payload)

    arrived = numbers(subscriber.messages, "one")
    kept = rig.outbox.size
    assert arrived == list(range(20_000 - kept)), "what arrived was settled, the rest is kept"
    assert 0 < kept < 20_000
    farewell = subscriber.messages[-1]
    assert (farewell.topic, farewell.json()["state"]) == (f"{BASE}/status", "offline")
    assert [m.topic for m in subscriber.messages].count(f"{BASE}/status") == 2, "and no will"
    assert not rig.status.broker.connected
    assert rig.status.broker.in_flight == 0


async def test_the_last_documents_go_out_before_the_goodbye(broker: Broker) -> None:
    rig = Rig(broker)
    async with Subscriber(broker.host, broker.port, f"{BASE}/#") as subscriber:
        async with rig.running():
            await subscriber.wait_for(lambda messages: messages)
            rig.publisher.retain("one/availability", b"offline")
            rig.publisher.post("one/log", b"the end")
        await subscriber.wait_for(lambda messages: len(messages) == 4)

    topics = [message.topic.removeprefix(f"{BASE}/") for message in subscriber.messages]
    assert topics[0] == topics[-1] == "status"
    assert set(topics[1:-1]) == {"one/availability", "one/log"}


async def test_a_stop_at_any_moment_is_heeded(broker: Broker) -> None:
    rig = Rig(broker)
    for turns in range(0, 3000, 60):
        rig.put("one", turns)
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            runner = tasks.create_task(rig.publisher.run(lambda: None))
            for _ in range(turns):
                await asyncio.sleep(0)
            runner.cancel()
        assert runner.cancelled()
        assert not rig.status.broker.connected


async def test_a_stop_is_bounded_and_told_when_the_broker_is_stuck(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(broker)
    loop = asyncio.get_running_loop()
    try:
        async with rig.running():
            await rig.until(lambda: rig.status.counts["messages"])
            os.kill(broker.pid, signal.SIGSTOP)
            rig.put("one", 0, 1)
            await rig.until(lambda: rig.status.broker.in_flight)
            stopped_s = loop.time()
    finally:
        os.kill(broker.pid, signal.SIGCONT)

    assert loop.time() - stopped_s < 4.0
    assert rig.outbox.size == 2
    assert "the broker did not acknowledge the last messages: they are kept" in caplog.messages


# What the broker refuses.


def password_line(name: str, password: str) -> str:
    """A line of mosquitto's password file: PBKDF2-HMAC-SHA512, 101 rounds (type 7)."""
    salt = b"saltsaltsalt"
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{name}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


@VERSIONS
async def test_bad_credentials_are_named_and_good_ones_accepted(
    broker_with: Callable[..., Broker], tmp_path: Path, version: str
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(password_line("gw", "secret"))
    passwords.chmod(0o600)
    broker = broker_with("allow_anonymous false", f"password_file {passwords}")

    wrong = Rig(broker, version, changes={"username": "gw", "password": "wr0ng"})
    failure = await wrong.first_failure()

    assert failure.startswith(f"{broker.host}:{broker.port}: refused: not authorised")
    assert "wr0ng" not in failure
    right = Rig(broker, version, changes={"username": "gw", "password": "secret"})
    async with right.running():
        right.put("one", 0)
        await right.delivered()


async def test_a_password_never_shows(caplog: pytest.LogCaptureFixture, broker: Broker) -> None:
    caplog.set_level(logging.DEBUG)
    rig = Rig(broker, changes={"username": "gw", "password": "s3cr3t"})
    async with rig.running():
        rig.put("one", 0, text="payl0ad")
        await rig.delivered()

    assert "s3cr3t" not in repr(BrokerSettings("h", 1, password="s3cr3t"))  # noqa: S106 - not one
    assert "s3cr3t" not in caplog.text
    assert "payl0ad" not in caplog.text


async def test_a_receive_maximum_of_one_is_honoured(broker_with: Callable[..., Broker]) -> None:
    broker = broker_with("max_inflight_messages 1")
    rig = Rig(broker, changes={"batch_max": 1})
    rig.put("one", *range(200))
    rig.publisher.retain("one/info", b"{}")

    async with rig.running():
        await rig.until(lambda: rig.outbox.size == 0)

    assert rig.most_in_flight == 1
    assert rig.errors == []


async def test_the_window_of_the_settings_is_kept(broker: Broker) -> None:
    rig = Rig(broker, "3.1.1", changes={"window": 3, "batch_max": 1})
    rig.put("one", *range(500))

    async with rig.running():
        await rig.until(lambda: rig.outbox.size == 0)

    assert rig.most_in_flight == 3


@VERSIONS
async def test_a_sample_too_large_for_the_broker_becomes_a_gap_and_blocks_nobody(
    broker_with: Callable[..., Broker], version: str, caplog: pytest.LogCaptureFixture
) -> None:
    # MQTT 5 announces the limit. In MQTT 3.1.1 mosquitto hangs up, again and again, until the
    # publisher finds out why.
    broker = broker_with("max_packet_size 2500")
    rig = Rig(broker, version)
    rig.put("large", 0, 1)
    rig.put("large", 2, text="x" * 4000)
    rig.put("large", 3, 4)
    rig.put("small", *range(200))

    async with Subscriber(broker.host, broker.port, f"{BASE}/#") as subscriber, rig.running():
        await rig.delivered()
        await subscriber.wait_for(all_of("small", 200))
        await subscriber.wait_for(all_of("large", 5))

    assert sorted(set(numbers(subscriber.messages, "small"))) == list(range(200))
    assert sorted(set(numbers(subscriber.messages, "large"))) == [0, 1, 2, 3, 4]
    (gap,) = subscriber.on(f"{BASE}/large/gap")
    assert (gap.json()["from"], gap.json()["to"], gap.json()["cause"]) == (2, 2, "refused")
    assert rig.status.counts["samples_refused"] == 1
    assert rig.status.device("large").lost == 1
    if version == "5":
        assert rig.errors == []
        assert numbers(subscriber.messages, "small") == list(range(200))
    else:
        assert "hung up" in caplog.text


async def test_a_device_the_broker_does_not_permit_waits_while_others_flow(
    broker_with: Callable[..., Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = tmp_path / "access"
    access.write_text(f"topic {BASE}/good/#\ntopic {BASE}/status\n")
    access.chmod(0o600)
    broker = broker_with(f"acl_file {access}")
    rig = Rig(broker, changes={"batch_max": 10})
    rig.put("bad", *range(50))
    rig.put("good", *range(1000))

    async with rig.running():
        await rig.until(lambda: rig.status.device("good").delivered == 1000)
        refused = rig.status.counts["messages_refused"]
        assert rig.status.device("bad").delivered == 0
        assert rig.outbox.size == 50, "nothing of it was dropped"
        assert 0 < refused <= 20, "and it was not sent again and again"
        assert rig.errors == []

        access.write_text(f"topic {BASE}/#\n")
        os.kill(broker.pid, signal.SIGHUP)  # reads the access list again
        async with Subscriber(broker.host, broker.port, f"{BASE}/bad/#") as subscriber:
            await rig.delivered()
            await subscriber.wait_for(all_of("bad", 50))

    assert numbers(subscriber.messages, "bad") == list(range(50))
    warnings = [r.getMessage() for r in caplog.records if "refuses" in r.getMessage()]
    assert len(warnings) == 1
    assert f"the broker refuses {BASE}/bad/history: not authorised" in warnings[0]


async def test_a_document_the_broker_does_not_permit_stops_nothing(
    broker_with: Callable[..., Broker], tmp_path: Path
) -> None:
    access = tmp_path / "access"
    access.write_text(f"topic {BASE}/one/state\n")
    access.chmod(0o600)
    rig = Rig(broker_with(f"acl_file {access}"))
    rig.publisher.retain("one/info", b"{}")
    rig.put("one", 0)

    async with rig.running():
        await rig.delivered()

    assert rig.status.counts["documents_refused"] == 2, "the status and the info"
    assert rig.errors == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [("max_qos 0", "takes no QoS 1"), ("retain_available false", "keeps no retained messages")],
)
async def test_a_broker_that_cannot_keep_the_contract_is_refused(
    broker_with: Callable[..., Broker], setting: str, words: str
) -> None:
    rig = Rig(broker_with(setting))

    assert words in await rig.first_failure()


# Bad names, and fairness.


async def test_a_bad_name_reaches_no_topic_and_is_counted(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(broker)
    rig.publisher.retain("a/+/info", b"{}")
    rig.publisher.post("#", b"x")
    rig.outbox.put(Readings("a/#", (Sample("a/#", 1, 0, 0.0, {"t": 1}),)))
    rig.put("one", 0)

    async with rig.running():
        await rig.delivered()

    assert rig.status.counts["topics_refused"] == 2
    assert rig.status.counts["samples_refused"] == 1
    assert rig.status.counts["samples_delivered"] == 1
    assert caplog.text.count("not a topic: 'a/+/info'") == 1


async def test_a_document_does_not_wait_for_the_end_of_a_flood_of_records(broker: Broker) -> None:
    rig = Rig(broker, changes={"batch_max": 1, "window": 20})
    rig.put("one", *range(20_000))
    async with Subscriber(broker.host, broker.port, f"{BASE}/one/+") as subscriber, rig.running():
        await rig.until(lambda: rig.status.counts["samples_delivered"] > 200)

        rig.publisher.retain("one/info", b"{}")
        rig.publisher.post("one/log", b"x")

        await subscriber.wait_for(
            lambda messages: {f"{BASE}/one/info", f"{BASE}/one/log"} <= {m.topic for m in messages}
        )
        assert rig.outbox.size > 5000


async def test_records_do_not_wait_for_the_end_of_a_flood_of_documents(broker: Broker) -> None:
    rig = Rig(broker, changes={"batch_max": 1, "window": 20})
    async with rig.running():
        await rig.until(lambda: rig.status.counts["messages"])
        rig.put("one", *range(100))

        changes = 0
        while rig.outbox.size:
            for _ in range(50):  # more than the broker takes in a turn
                changes += 1
                rig.publisher.retain(f"dev-{changes % 1000}/info", str(changes).encode())
            await asyncio.sleep(0)
            assert changes < 200_000, "the records starve"
