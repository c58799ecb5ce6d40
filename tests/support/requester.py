"""Somebody who asks the gateway for things over MQTT."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiomqtt

MARK = "tests/mark"
"""A message of our own: what the broker had to say before it has been said."""


class Answer(NamedTuple):
    """What was answered, and after how long."""

    fields: dict[str, Any]
    seconds: float

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON
        """What the answer to a request that was done holds."""
        assert self.fields["status"] == "ok", self.fields
        return self.fields["data"]

    @property
    def error(self) -> str:
        """Why it was not done."""
        assert self.fields["status"] == "error", self.fields
        return str(self.fields["error"])


class Requester:
    """Connected for the length of `asking`."""

    def __init__(self, client: aiomqtt.Client, base: str) -> None:
        self.answers: list[tuple[str, dict[str, Any]]] = []
        """Last level of the topic, and what was answered, in the order of arrival."""
        self._client = client
        self._base = base
        self._numbers = itertools.count(1)
        self._changed = asyncio.Condition()

    async def ask(self, verb: str, **fields: object) -> Answer:
        """Send a request, and return its answer."""
        transaction = f"test-{next(self._numbers)}"
        began_s = time.monotonic()
        payload = json.dumps({"transaction": transaction, **fields}).encode()
        await self.publish(verb, payload)
        async with asyncio.timeout(30), self._changed:
            while True:
                for level, answer in self.answers:
                    if answer.get("transaction") == transaction:
                        assert level == verb
                        return Answer(answer, time.monotonic() - began_s)
                await self._changed.wait()

    async def publish(self, verb: str, payload: bytes, *, retain: bool = False) -> None:
        """Send whatever it is, and wait for nothing but the broker."""
        await self._client.publish(f"{self._base}/request/{verb}", payload, qos=1, retain=retain)

    async def wait_for_answers(self, count: int) -> None:
        """Return once so many have come in all."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(self.answers) >= count)

    async def collect(self) -> None:
        """Take what is answered, until cancelled."""
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            level = message.topic.value.rpartition("/")[2]
            async with self._changed:
                self.answers.append((level, json.loads(message.payload)))
                self._changed.notify_all()


@asynccontextmanager
async def asking(host: str, port: int, base: str = "edge/test") -> AsyncIterator[Requester]:
    """Connect somebody who asks."""
    async with (
        aiomqtt.Client(host, port, protocol=aiomqtt.ProtocolVersion.V5) as client,
        asyncio.TaskGroup() as tasks,
    ):
        await client.subscribe(f"{base}/response/+", qos=1)
        requester = Requester(client, base)
        collecting = tasks.create_task(requester.collect())
        yield requester
        collecting.cancel()


async def retained(host: str, port: int, topic_filter: str) -> dict[str, bytes]:
    """Return what the broker has retained there."""
    found: dict[str, bytes] = {}
    async with asyncio.timeout(20), aiomqtt.Client(host, port) as client:
        await client.subscribe([(topic_filter, 1), (MARK, 1)])
        await client.publish(MARK, b"", qos=1)
        async for message in client.messages:
            if message.topic.value == MARK:
                break
            assert isinstance(message.payload, bytes)
            if message.retain:
                found[message.topic.value] = message.payload
    return found
