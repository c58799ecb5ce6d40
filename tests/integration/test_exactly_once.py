"""The example of a subscriber, as a user runs it."""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import aiomqtt

from tests.support import exactly_once
from tests.support.broker import Broker

BASE = "edge/pi/dev"


def reading(number: int) -> dict[str, object]:
    return {"n": number, "id": f"dev/7/{number}"}


@contextlib.asynccontextmanager
async def subscriber(broker: Broker) -> AsyncIterator[Process]:
    """The program, killed when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, exactly_once.__file__, broker.host, str(broker.port), stdout=PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def printed(process: Process, count: int) -> list[int]:
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(count)]
    return [json.loads(line)["n"] for line in lines]


async def test_the_example_prints_each_reading_once_and_misses_none_while_it_is_away(
    broker: Broker,
) -> None:
    async with asyncio.timeout(30), aiomqtt.Client(broker.host, broker.port) as gateway:

        async def publish(topic: str, document: object, *, retain: bool = False) -> None:
            await gateway.publish(f"{BASE}/{topic}", json.dumps(document), 1, retain)

        await publish("state", reading(9), retain=True)  # what a new subscriber gets first
        async with subscriber(broker) as first:
            assert await printed(first, 1) == [9]
            await publish("gap", {"boot": 7, "from": 0, "to": 4, "cause": "expired", "count": 5})
            await publish("history", [reading(number) for number in range(5, 10)])
            await publish("history", [reading(number) for number in range(5, 10)])
            await publish("state", reading(10), retain=True)
            assert await printed(first, 5) == [5, 6, 7, 8, 10]

        await publish("state", reading(11), retain=True)
        await publish("state", reading(12), retain=True)
        async with subscriber(broker) as second:
            (number,) = await printed(second, 1)
            if number == 10:  # printed, and killed before that was confirmed: it comes again
                (number,) = await printed(second, 1)
            assert [number, *await printed(second, 1)] == [11, 12]
