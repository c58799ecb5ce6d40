"""The whole chain of per-device processing: lines, daemon, an outage, mosquitto."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.simulate.text_boards import TextBoard
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.exactly_once import ExactlyOnce
from tests.support.numbered_lines import NumberedLines
from tests.support.subscriber import Received, Subscriber

CONFIGURATION = """
[outbox]
spill_after_s = 0.1

[[device]]
id = "tank"

[[device.sensor]]
key = "number"
rename = "level"
unit = "cm"
scale = 0.5
offset = 2
low = 19
deadband = 5
window = ["max"]
window_s = 1

[[device.sensor]]
key = "z"
deadband = 1

[[device]]
id = "cellar"
enabled = false
"""

PLAUSIBLE = 34
"""The first number with `number * 0.5 + 2` not below 19."""
IN_OUTAGE = 100
"""How many numbers are safe before the broker comes back."""


async def test_what_is_stored_and_published_is_what_the_configuration_makes_of_it_once(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    (tmp_path / "mosquitto").mkdir()
    broker = Broker(mosquitto_bin, tmp_path / "mosquitto", persistence=True)
    await asyncio.to_thread(broker.start)
    tank, cellar = (NumberedLines(name, 0.01, first_number=0) for name in ("tank", "cellar"))
    counts: dict[str, int] = {}

    def windows(_: Sequence[Received]) -> list[int]:
        return [n for n, each in readings_by_number(subscriber).items() if "level_max" in each]

    def is_settled(_: Sequence[Received]) -> bool:
        for message in subscriber.on("edge/test/health")[-1:]:
            counts.update(message.json()["counts"])
        settled = counts.get("samples_left_out", 0) + counts.get("samples_delivered", 0)
        return not tank.waiting and settled == tank.taken

    try:
        async with (
            asyncio.timeout(60),
            # Its session lasts: it hears what comes before it is back.
            Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
            asyncio.TaskGroup() as tasks,
            running_daemon(
                tmp_path / "daemon", broker.port, f"{tmp_path}/tty*", more=CONFIGURATION
            ),
        ):
            boards = [
                tasks.create_task(TextBoard(tmp_path / f"tty{lines.name}", lines).run())
                for lines in (tank, cellar)
            ]
            await subscriber.wait_for(windows)
            await asyncio.to_thread(broker.stop)
            await safe(tank, tank.taken + IN_OUTAGE)
            await asyncio.to_thread(broker.start)
            await subscriber.wait_for(lambda messages: len(windows(messages)) >= 2)
            tank.is_producing = False
            await subscriber.wait_for(is_settled)
            for board in boards:
                board.cancel()
    finally:
        await asyncio.to_thread(broker.stop)

    published = readings_by_number(subscriber)
    assert {n: each["level"] for n, each in published.items() if "level" in each} == {
        number: number * 0.5 + 2 for number in range(PLAUSIBLE, tank.taken, 10)
    }
    greatest = {n: each["level_max"] for n, each in published.items() if "level_max" in each}
    assert all(level == number * 0.5 + 2 for number, level in greatest.items())
    assert [n for n, each in published.items() if "z" in each] == [0]
    assert all({"level", "level_max", "z"} & each.keys() for each in published.values())

    assert counts["samples_delivered"] == len(published)
    assert counts["values_implausible"] == PLAUSIBLE
    event, *again = [message.json() for message in subscriber.on("edge/test/tank/event")]
    assert all(each == event for each in again)  # what was in flight at the outage comes twice
    assert event.pop("time") == published[0]["time"]
    assert event == {
        "kind": "implausible",
        "sensor": "level",
        "value": 2.0,
        "low": 19.0,
        "count": 1,
        "id": "tank/7/0",
    }
    sensors = subscriber.on("edge/test/tank/info")[-1].json()["sensors"]
    assert [(each["key"], each.get("unit", "")) for each in sensors] == [
        ("level", "cm"),
        ("level_max", "cm"),
        ("z", ""),
    ]

    assert cellar.taken > len(cellar.waiting)  # they were acknowledged
    assert counts["samples_disabled"] > 0
    assert not [message for message in subscriber.on("edge/test/cellar/#") if message.payload]


async def safe(lines: NumberedLines, count: int) -> None:
    """Wait until so many samples are acknowledged, in whatever order."""
    reached = asyncio.Event()

    def look(_seq: int) -> None:
        if lines.taken - len(lines.waiting) >= count:
            reached.set()

    lines.on_acked = look
    await reached.wait()


def readings_by_number(subscriber: Subscriber) -> dict[int, dict[str, Any]]:
    """What a subscriber has after it dropped what came again; gaps there must not be."""
    once = ExactlyOnce()
    for message in subscriber.on("edge/test/tank/+"):
        if message.topic.rpartition("/")[2] in {"state", "history", "gap"}:
            once.feed(message.topic, message.payload)
    assert not once.gaps
    return {int(key.rpartition("/")[2]): reading for key, reading in once.readings.items()}
