"""The daemon as a user runs it, with BlueZ for its radio: what only its own process shows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.gatt_board import GattBoard
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.exactly_once import ExactlyOnce
from tests.support.subscriber import Received, Subscriber

ADDRESS = "A4:C1:38:00:00:03"
INTERVAL_S = 0.1
BLE = "[ble]\nenabled = true"

ENOUGH_S = 60.0
"""For what takes some seconds."""


@asynccontextmanager
async def a_board(bluetoothd: Bluetoothd) -> AsyncIterator[GattBoard]:
    """Have a board on the air, which advertises while nobody is connected to it."""
    board = GattBoard(ADDRESS, "barn", INTERVAL_S)
    bluetoothd.place(ADDRESS, board.peripheral)

    async def advertise() -> None:
        while True:
            if not board.peripheral.is_connected:
                bluetoothd.hear(board.advert)
            await asyncio.sleep(INTERVAL_S)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(board.run()), tasks.create_task(advertise())]
        try:
            yield board
        finally:
            for task in running:
                task.cancel()


def numbers(messages: Sequence[Received]) -> list[int]:
    """Return the numbers of the readings, each once, in order."""
    once = ExactlyOnce()
    for message in messages:
        if message.topic.endswith(("/state", "/history", "/gap")):
            once.feed(message.topic, message.payload)
    assert not once.gaps
    return sorted(reading["number"] for reading in once.readings.values())


# Takes some 4 s: two starts of the daemon, and a board that repeats itself ever more rarely while
# nobody listens.
async def test_a_gateway_that_was_killed_takes_over_the_connection_it_left(
    bluetoothd: Bluetoothd, broker: Broker, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "no-ports-*")

    async with (
        asyncio.timeout(ENOUGH_S),
        Subscriber(broker.host, broker.port, "edge/#") as subscriber,
        a_board(bluetoothd) as board,
    ):
        async with running_daemon(tmp_path, broker.port, nowhere, more=BLE) as first:
            await subscriber.wait_for(lambda messages: len(numbers(messages)) >= 10, ENOUGH_S)
            await first.kill()
        was_left = board.peripheral.is_connected
        had = len(numbers(subscriber.messages))
        async with running_daemon(tmp_path, broker.port, nowhere, more=BLE):
            await subscriber.wait_for(lambda messages: len(numbers(messages)) >= had + 10, ENOUGH_S)

    assert was_left
    arrived = numbers(subscriber.messages)
    assert arrived == list(range(len(arrived)))
    assert board.peripheral.connections == 1
