"""A plain MQTT client that repeats its commands until it hears of their end, whoever is killed."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

import aiomqtt

from tests.support.witness import Heard

REPEAT_S = 1.0
"""From one publication of a command to the next."""
_RECONNECT_S = 0.1


class StubbornClient:
    """Says what a witness of the same broker has not heard the end of."""

    def __init__(self, host: str, port: int, base: str, heard: list[Heard]) -> None:
        self.results: dict[str, list[dict[str, Any]]] = {}
        """By transaction."""
        self._address = (host, port)
        self._base = base
        self._heard = heard
        self._looked = 0
        self._open: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._has_new = asyncio.Event()

    def give(self, device: str, transaction: str, said: Mapping[str, Any]) -> None:
        """Have a command published until it has an end."""
        self._open[transaction] = (device, {"transaction": transaction, **said})
        self._has_new.set()

    @property
    def waiting(self) -> set[str]:
        """Transactions that have no end yet."""
        while self._looked < len(self._heard):
            heard = self._heard[self._looked]
            self._looked += 1
            if heard.topic.endswith("/command/result"):
                result = json.loads(heard.payload)
                self.results.setdefault(result["transaction"], []).append(result)
        for transaction in self.results:
            self._open.pop(transaction, None)
        return set(self._open)

    async def run(self) -> NoReturn:
        """Publish, for ever."""
        while True:
            try:
                async with (
                    aiomqtt.Client(*self._address, timeout=2.0) as client,
                    asyncio.TaskGroup() as tasks,
                ):
                    tasks.create_task(_listen(client))
                    while True:
                        await self._publish(client)
            except* aiomqtt.MqttError:
                await asyncio.sleep(_RECONNECT_S)

    async def _publish(self, client: aiomqtt.Client) -> None:
        waiting = sorted(self.waiting, key=int)
        for device, said in [self._open[transaction] for transaction in waiting]:
            await client.publish(f"{self._base}/{device}/command", json.dumps(said), qos=1)
        self._has_new.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPEAT_S):
                await self._has_new.wait()


async def _listen(client: aiomqtt.Client) -> None:
    """Notice that the connection is lost."""
    async for _ in client.messages:
        pass
