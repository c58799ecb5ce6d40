"""A plain MQTT client that gives commands, and hears what becomes of them."""

import asyncio
import json
import time
from types import TracebackType
from typing import Any, Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.subscriber import Received, Subscriber


class Commander:
    """Publishes below the base topic of a gateway, and collects all that is published there."""

    def __init__(self, host: str, port: int, base: str) -> None:
        self.base = base
        self.heard = Subscriber(host, port, f"{base}/#", "answers/#")
        self.sent_s: dict[str, float] = {}
        """Monotonic time at which each transaction was published first."""
        self._client = aiomqtt.Client(host, port, protocol=aiomqtt.ProtocolVersion.V5)

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.heard.__aenter__()
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._client.__aexit__(kind, error, trace)
        await self.heard.__aexit__(kind, error, trace)

    async def say(
        self,
        topic: str,
        payload: object,
        *,
        retain: bool = False,
        answer_on: str = "",
        correlation: bytes = b"",
    ) -> None:
        """Publish below the base; text and bytes as they are, all else as JSON."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no types here
        if answer_on:
            properties.ResponseTopic = answer_on
            properties.CorrelationData = correlation
        body = payload if isinstance(payload, str | bytes) else json.dumps(payload)
        if isinstance(payload, dict) and "transaction" in payload:
            self.sent_s.setdefault(payload["transaction"], time.monotonic())
        await self._client.publish(
            f"{self.base}/{topic}", body, qos=1, retain=retain, properties=properties
        )

    def results(self, device: str = "+") -> list[Received]:
        """Return what came on the topics of results."""
        return self.heard.on(f"{self.base}/{device}/command/result")

    async def result(self, transaction: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait for the result of a transaction, and return the first."""
        found: list[dict[str, Any]] = []

        def look(_messages: object) -> bool:
            said = [message.json() for message in self.results()]
            found[:] = [each for each in said if each.get("transaction") == transaction]
            return bool(found)

        await self.heard.wait_for(look, timeout_s)
        return found[0]

    async def until_heard(self, topic: str, payload: bytes, timeout_s: float = 30.0) -> None:
        """Wait until a message came on a topic below the base."""
        whole = f"{self.base}/{topic}"
        await self.heard.wait_for(
            lambda messages: any((m.topic, m.payload) == (whole, payload) for m in messages),
            timeout_s,
        )

    async def until_online(self, *devices: str) -> None:
        """Wait until all of these devices are there."""
        async with asyncio.TaskGroup() as tasks:
            for device in devices:
                tasks.create_task(self.until_heard(f"{device}/availability", b"online"))
