"""An MQTT subscriber that keeps what it receives, in the order in which it came."""

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

RECONNECT_INTERVAL_S = 0.02
"""Between two attempts to reach a broker that is being restarted."""

_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it arrived."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    """As its publisher set it."""
    properties: dict[str, Any]
    """MQTT 5 properties by the names of the specification, without blanks."""
    monotonic_s: float

    def json(self) -> Any:  # noqa: ANN401 - whatever the publisher wrote
        """Return the payload, parsed."""
        return json.loads(self.payload)


class Subscriber:
    """Subscribed for the length of an `async with`; reconnects while the broker restarts.

    It resumes its session: a broker with persistence delivers what came in while it was away.
    """

    def __init__(self, host: str, port: int, *topics: str, qos: int = 1) -> None:
        self.messages: list[Received] = []
        self.connections = 0
        """How often it has subscribed: 1 at the start, one more after each restart."""
        self._by_topic: dict[str, list[Received]] = {}
        self._host = host
        self._port = port
        self._topics = topics or ("#",)
        self._qos = qos
        self._identifier = f"test-subscriber-{os.getpid()}-{next(_NUMBERS)}"
        self._changed = asyncio.Condition()
        self._tasks = asyncio.TaskGroup()
        self._collector: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Return once the broker has confirmed the subscription."""
        await self._tasks.__aenter__()
        self._collector = self._tasks.create_task(self._collect(), name=self._identifier)
        try:
            await self.wait_connections(1, timeout_s=10.0)
        except BaseException as exc:
            await self.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect; what the block raised is passed on as it is, in no exception group."""
        if self._collector is not None:
            self._collector.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def wait_for(
        self, predicate: Callable[[Sequence[Received]], object], timeout_s: float = 30.0
    ) -> None:
        """Return as soon as `predicate(messages)` is true.

        Raises:
            AssertionError: it was not within the time; the text counts what did arrive.
        """
        await self._wait(lambda: bool(predicate(self.messages)), timeout_s)

    async def wait_connections(self, count: int, timeout_s: float = 30.0) -> None:
        """Return once it has subscribed `count` times; raises AssertionError as `wait_for` does."""
        await self._wait(lambda: self.connections >= count, timeout_s)

    def on(self, topic_filter: str) -> list[Received]:
        """Return the messages whose topic matches the filter, wildcards included.

        It is cheap: who waits asks with each message that comes.
        """
        if not {"+", "#"}.intersection(topic_filter):
            return list(self._by_topic.get(topic_filter, ()))
        wanted = aiomqtt.Wildcard(topic_filter)
        topics = {topic for topic in self._by_topic if aiomqtt.Topic(topic).matches(wanted)}
        return [each for each in self.messages if each.topic in topics]

    async def _wait(self, reached: Callable[[], bool], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(reached)
        except TimeoutError:
            topics = Counter(message.topic for message in self.messages)
            listed = "".join(f"\n  {count:6} x {topic}" for topic, count in topics.items())
            last = f"\nlast: {self.messages[-1]}" if self.messages else ""
            raise AssertionError(
                f"not within {timeout_s} s; subscribed {self.connections} times, received "
                f"{len(self.messages)} messages{listed}{last}"
            ) from None

    async def _collect(self) -> None:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
        session.SessionExpiryInterval = 60
        options = SubscribeOptions(
            qos=self._qos,
            retainAsPublished=True,
            retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,  # once a session, not again
        )
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    self._host,
                    self._port,
                    identifier=self._identifier,
                    protocol=aiomqtt.ProtocolVersion.V5,
                    clean_start=False,
                    properties=session,
                ) as client:
                    await client.subscribe([(topic, options) for topic in self._topics])
                    await self._note(None)
                    async for message in client.messages:
                        await self._note(message)
            await asyncio.sleep(RECONNECT_INTERVAL_S)

    async def _note(self, message: aiomqtt.Message | None) -> None:
        """Keep a message, or count a subscription; then wake who waits."""
        async with self._changed:
            if message is None:
                self.connections += 1
            else:
                received = _received(message)
                self.messages.append(received)
                self._by_topic.setdefault(received.topic, []).append(received)
            self._changed.notify_all()


def _received(message: aiomqtt.Message) -> Received:
    payload = message.payload
    assert isinstance(payload, bytes), "paho delivers bytes"
    return Received(
        topic=message.topic.value,
        payload=payload,
        qos=message.qos,
        retain=message.retain,
        properties=_properties(message.properties),
        monotonic_s=time.monotonic(),
    )


def _properties(properties: Properties | None) -> dict[str, Any]:
    if properties is None:
        return {}
    named: dict[str, Any] = properties.json()  # type: ignore[no-untyped-call]  # paho: no types here
    return named
