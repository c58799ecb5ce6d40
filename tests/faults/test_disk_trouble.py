"""A disk that does not take what it is given: the gateway says so, holds on, and recovers.

Boards that keep what is not safe, a broker that is away, and a disk that is full at the worst time.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.simulate.faults.broker import BrokerProxy
from gateway.simulate.faults.small_disk import FileSizeLimit, SmallDisk, small_disk
from tests.support.ack_watch import AckWatch
from tests.support.broker import Broker
from tests.support.daemon import Daemon, running_daemon
from tests.support.exactly_once import ExactlyOnce
from tests.support.subscriber import Received, Subscriber
from tests.support.talking_boards import TalkingBoards

FRAMED = 2
INTERVAL_S = 0.005
MAX_RECORDS = 1200
"""In memory. Boards are told to keep their samples at 80 % of it. The rest has room for what is on
its way then: three batches of at most 25 of each framed board, 60 lines of the printing one."""

KEPT = 600
"""Samples that the boards keep because the gateway has no room."""

DISK_BYTES = 16 << 20
TOLD = 50
FAILS = "until it works again only the broker's word counts"
WORKS = "the store works again"


@dataclass
class Scene:
    """All that takes part."""

    boards: TalkingBoards
    proxy: BrokerProxy
    subscriber: Subscriber
    daemon: Daemon

    def take_broker_away(self) -> None:
        self.proxy.refuse()
        self.proxy.cut()

    async def until_crowded(self) -> None:
        """Return once the boards keep more than the gateway has room for."""
        while self.boards.waiting() < MAX_RECORDS + KEPT:  # noqa: ASYNC110 - they are asked
            await asyncio.sleep(0.02)

    async def until_relaxed(self) -> None:
        """Return once the boards keep little of what they take."""
        while self.boards.waiting() > KEPT / 2:  # noqa: ASYNC110 - they are asked
            await asyncio.sleep(0.02)

    async def until_health(self, reached: Callable[[dict[str, Any]], object]) -> None:
        """Return once the newest health document is as wanted."""
        await self.subscriber.wait_for(
            lambda _: (health := self.health()) and reached(health), timeout_s=30
        )

    def health(self) -> dict[str, Any]:
        found = self.subscriber.on("edge/test/health")
        health: dict[str, Any] = found[-1].json() if found else {}
        return health

    async def until_exact(self) -> ExactlyOnce:
        """Stop producing; return what was heard once each sample was."""
        self.boards.produce(wanted=False)
        once = ExactlyOnce()
        taken = 0

        def is_complete(messages: Sequence[Received]) -> bool:
            nonlocal taken
            for message in messages[taken:]:
                if message.topic.rpartition("/")[2] in {"state", "history", "gap"}:
                    once.feed(message.topic, message.payload)
            taken = len(messages)
            return not missing(once, self.boards.produced())

        await self.subscriber.wait_for(is_complete, timeout_s=40)
        return once


def missing(once: ExactlyOnce, produced: dict[str, int]) -> dict[str, list[int]]:
    """Return the samples that were neither delivered nor published as lost."""
    heard: dict[str, set[int]] = defaultdict(set)
    for reading in once.readings:
        device, _, seq = reading.split("/")
        heard[device].add(int(seq))
    for (device, _, first), gap in once.gaps.items():
        heard[device].update(range(first, gap["to"] + 1))
    lost = {name: sorted(set(range(count)) - heard[name]) for name, count in produced.items()}
    return {name: seqs for name, seqs in lost.items() if seqs}


@asynccontextmanager
async def scene(
    folder: Path,
    broker: Broker,
    store: Path,
    *,
    disk: SmallDisk | None = None,
    watch: AckWatch | None = None,
) -> AsyncIterator[Scene]:
    """Let all play; the gateway's outbox is `store`."""
    boards = TalkingBoards(folder / "ports", framed=FRAMED, interval_s=INTERVAL_S)
    if watch is not None:
        boards.on_acked = watch.on_acked
    more = f'[outbox]\npath = "{store}"\nspill_after_s = 0.2\nmax_records = {MAX_RECORDS}'
    async with (
        BrokerProxy(
            broker.host, broker.port, on_packet=None if watch is None else watch.on_packet
        ) as proxy,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        boards.running(),
        running_daemon(
            *(folder / "daemon", proxy.port, f"{folder}/ports/*"),
            more=more,
            wrap=list if disk is None else disk.command,
        ) as daemon,
    ):
        yield Scene(boards, proxy, subscriber, daemon)


@pytest.mark.parametrize("kind", ["full", "not to be written"])
async def test_a_disk_that_fails_in_an_outage_costs_nothing_and_is_told(
    kind: str, broker: Broker, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with small_disk(store, DISK_BYTES) as best:
        disk: SmallDisk = best if kind == "full" else FileSizeLimit(store)
        # Another process cannot look into a tmpfs of the gateway's own.
        watch = AckWatch(store / "outbox.db") if isinstance(disk, FileSizeLimit) else None
        async with (
            asyncio.timeout(100),
            scene(tmp_path, broker, store / "outbox.db", disk=disk, watch=watch) as play,
        ):
            boards, proxy, daemon = play.boards, play.proxy, play.daemon
            await boards.until_told(TOLD)
            play.take_broker_away()
            await boards.until_told(TOLD)
            disk.fill(daemon.pid)
            await daemon.wait_for_log(FAILS)
            await play.until_crowded()
            proxy.accept()
            await play.until_health(
                lambda health: (
                    health["outbox"]["store"]["state"] == "failing"
                    and health["counts"]["samples_delivered"] > MAX_RECORDS
                )
            )
            assert str(store) in play.health()["outbox"]["store"]["error"]
            boards.produce(wanted=False)
            await play.until_health(lambda health: not health["outbox"]["records"])
            assert play.health()["outbox"]["oldest_age_s"] is None
            failures = 1
            if isinstance(disk, FileSizeLimit):
                assert play.health()["outbox"]["store"]["state"] == "failing"
            else:  # its own files, in which nothing is left, make room for new ones
                await play.until_health(
                    lambda health: health["outbox"]["store"]["state"] == "ok",
                )
                disk.fill(daemon.pid)
                failures = 2
            boards.produce(wanted=True)
            await boards.until_told(TOLD)
            play.take_broker_away()
            await play.until_crowded()
            disk.free(daemon.pid)
            await daemon.wait_for_log(WORKS)
            await play.until_relaxed()
            proxy.accept()
            once = await play.until_exact()
            await play.until_health(
                lambda health: (
                    health["outbox"]["store"]["state"] == "ok" and health["outbox"]["records"] == 0
                )
            )

    assert once.gaps == {}
    assert "samples_dropped" not in play.health()["counts"]
    assert "error" not in play.health()["outbox"]["store"]
    assert (daemon.log().count(FAILS), daemon.log().count(WORKS)) == (failures, failures)
    assert watch is None or not watch.too_early


@pytest.mark.parametrize("obstacle", ["a file instead of its folder", "a folder of its name"])
async def test_a_store_that_cannot_be_opened_is_waited_for(
    obstacle: str, broker: Broker, tmp_path: Path
) -> None:
    store = tmp_path / "state" / "outbox.db"
    if obstacle == "a file instead of its folder":
        store.parent.touch()
    else:
        store.mkdir(parents=True)
    watch = AckWatch(store)
    async with asyncio.timeout(100), scene(tmp_path, broker, store, watch=watch) as play:
        await play.boards.until_told(TOLD)
        await play.until_health(lambda health: health["outbox"]["store"]["state"] == "failing")
        play.take_broker_away()
        await play.until_crowded()
        if store.is_dir():
            store.rmdir()
        else:
            store.parent.unlink()
        await play.daemon.wait_for_log(WORKS)
        await play.until_relaxed()
        play.proxy.accept()
        once = await play.until_exact()

    assert once.gaps == {}
    assert not watch.too_early
    assert play.daemon.log().count(FAILS) == 1
