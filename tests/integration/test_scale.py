"""Many boards on one daemon: what it delivers, and what that costs."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.broker import Broker
from tests.support.daemon import as_users_run_it, running_daemon
from tests.support.light import light_boards
from tests.support.subscriber import Received, Subscriber

pytestmark = pytest.mark.alone

MIB = 1 << 20
MOST_STARTS = 4
"""Of which the first compiles."""


def compiled_in(folder: Path) -> dict[str, str]:
    """Return that environment, with a place for compiled modules if it forbade them."""
    environment = {**as_users_run_it(), "PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


class Watch:
    """What the waits look at; each message once, for tens of thousands arrive."""

    def __init__(self) -> None:
        self.online: set[str] = set()
        self.samples = 0
        self.health: dict[str, Any] = {}
        self._seen = 0

    def look(self, messages: Sequence[Received]) -> "Watch":
        for message in messages[self._seen :]:
            match message.topic.rpartition("/")[2]:
                case "availability":
                    self.online.add(message.topic)
                case "state" | "history":
                    self.samples += message.payload.count(b'"id":')
                case "health":
                    self.health = message.json()
        self._seen = len(messages)
        return self


def ids(messages: Sequence[Received]) -> dict[tuple[str, int], list[int]]:
    """Sequence numbers by (device, boot), in the order in which they came."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for message in messages:
        _, _, kind = message.topic.rpartition("/")
        if kind in {"state", "history"}:
            body = message.json()
            for sample in body if isinstance(body, list) else [body]:
                device, boot, seq = sample["id"].split("/")
                found[device, int(boot)].append(int(seq))
    return found


def assert_exactly_once_in_order(
    boards: Sequence[dict[str, Any]], messages: Sequence[Received]
) -> int:
    """Compare what each board produced with what the subscriber has; return how many samples."""
    found = ids(messages)
    by_name = {message.json()["name"]: message.topic for message in messages if is_info(message)}
    total = 0
    for board in boards:
        device = by_name[board["name"]].split("/")[2]
        for life in board["lives"]:
            expected = list(range(life["produced"]))
            assert found[device, life["epoch"]] == expected, (device, life)
            total += len(expected)
    return total


def is_info(message: Received) -> bool:
    return message.topic.endswith("/info")


async def test_500_boards_each_restarted_once_lose_nothing_and_stay_within_bounds(
    broker: Broker, tmp_path: Path
) -> None:
    count = 500
    watch = Watch()
    ports = tmp_path / "ports"
    ports.mkdir()
    async with (
        asyncio.timeout(110),
        light_boards(ports, count, 1.0) as boards,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        running_daemon(
            tmp_path / "daemon", broker.port, f"{ports}/*", environment=as_users_run_it()
        ) as daemon,
    ):
        await subscriber.wait_for(lambda m: len(watch.look(m).online) == count, 60)
        for name in [board["name"] for board in (await boards.ask("boards"))["boards"]]:
            await boards.ask(f"reset {name}")
            await boards.ask(f"unplug {name}")
            await boards.ask(f"plug {name}")
        drained = await boards.ask("drain 40")
        description = (await boards.ask("boards"))["boards"]
        await subscriber.wait_for(lambda m: watch.look(m).samples >= drained["produced"], 30)
        measured = watch.health
        rss_bytes, descriptors = daemon.rss_bytes(), daemon.descriptors()

    assert all(board["resets"] >= 1 for board in description)
    assert drained["overflowed"] == drained["cut"] == 0
    total = assert_exactly_once_in_order(description, subscriber.messages)
    assert total == drained["produced"] >= 2 * count
    print(  # noqa: T201 - the figures, for those who ask pytest for them
        f"{count} boards, {total} samples: RSS {rss_bytes / MIB:.0f} MiB, {descriptors} "
        f"descriptors, loop lag p99 {measured['loop_lag_s']['p99'] * 1000:.1f} ms, "
        f"latency p99 {measured['latency_s']['p99'] * 1000:.1f} ms"
    )
    assert measured["loop_lag_s"]["p99"] < 0.1
    assert rss_bytes < 150 * MIB
    assert descriptors <= count + 30


async def test_an_idle_daemon_is_small_and_publishes_within_a_second_of_its_start(
    broker: Broker, tmp_path: Path
) -> None:
    """As an installed one does: its modules are compiled, by the first start.

    Each start is one process for itself; where others hold up the machine the next may be as it is.
    """
    starts = []
    for number in range(MOST_STARTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = compiled_in(tmp_path / "compiled")
        starts.append(await _start(broker, folder, environment, retained=10 if number else 0))
        if number and starts[-1].first_sample_s < 1.0:
            break
    rss_bytes, descriptors = starts[-1].rss_bytes, starts[-1].descriptors
    took_s = [start.first_sample_s for start in starts[1:]]

    print(f"10 boards: RSS {rss_bytes / MIB:.0f} MiB, first sample after {took_s} s")  # noqa: T201 - as above
    assert rss_bytes < 60 * MIB
    assert min(took_s) < 1.0
    assert descriptors <= 10 + 30


class _Start(NamedTuple):
    first_sample_s: float
    rss_bytes: int
    descriptors: int


async def _start(
    broker: Broker, folder: Path, environment: Mapping[str, str], *, retained: int
) -> _Start:
    """`retained` states are with the broker from before."""
    ports = folder / "ports"
    ports.mkdir()

    def samples(_: Sequence[Received]) -> list[Received]:
        return subscriber.on("edge/test/+/state")[retained:]

    async with (
        asyncio.timeout(60),
        light_boards(ports, 10, 0.5) as boards,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
    ):
        await subscriber.wait_for(lambda _: len(subscriber.on("edge/test/+/state")) == retained)
        started_s = time.monotonic()
        async with running_daemon(
            folder / "daemon", broker.port, f"{ports}/*", environment=environment
        ) as daemon:
            await subscriber.wait_for(samples)
            took_s = samples([])[0].monotonic_s - started_s
            watch = Watch()
            await subscriber.wait_for(lambda m: len(watch.look(m).online) == 10)
            await boards.ask("drain")
            return _Start(took_s, daemon.rss_bytes(), daemon.descriptors())
