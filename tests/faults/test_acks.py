"""No board is told that a sample is safe before the broker or the disk has it."""

import asyncio
from pathlib import Path

import pytest

from gateway.simulate.faults import parse
from gateway.simulate.faults.broker import BrokerProxy
from gateway.simulate.faults.relay import Direction
from tests.support.ack_watch import AckWatch
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.talking_boards import TalkingBoards

INTERVAL_S = 0.02
SPILL_AFTER_S = 0.4

LATE = parse("broker_latency_s=0.03")
"""So an acknowledgement that did not wait for the broker's comes well before it."""

TOLD = 100
"""How many samples each board is told of before the broker does something else."""


async def until_told(watch: AckWatch, boards: TalkingBoards, by: str) -> None:
    """Return once each board was told of so many more that were safe because of the one thing."""
    before = watch.told.copy()
    await watch.until(
        lambda: all(watch.told[name, by] - before[name, by] >= TOLD for name in boards.devices)
    )


@pytest.mark.parametrize("durability", ["spill", "always"])
async def test_whatever_the_broker_does_a_sample_is_safe_when_the_board_is_told_so(
    durability: str, broker: Broker, tmp_path: Path
) -> None:
    watch = AckWatch(tmp_path / "store" / "outbox.db")
    boards = TalkingBoards(tmp_path / "ports", interval_s=INTERVAL_S)
    boards.on_acked = watch.on_acked
    healthy = "broker" if durability == "spill" else "disk"
    more = f"[outbox]\ndurability = '{durability}'\nspill_after_s = {SPILL_AFTER_S}\n"
    more += f"path = '{tmp_path}/store/outbox.db'"
    async with (
        asyncio.timeout(90),
        BrokerProxy(broker.host, broker.port, LATE, on_packet=watch.on_packet) as proxy,
        boards.running(),
        running_daemon(tmp_path / "daemon", proxy.port, f"{tmp_path}/ports/*", more=more),
    ):
        await until_told(watch, boards, healthy)
        proxy.stall(Direction.TO_CLIENT)  # PUBACKs are withheld
        await until_told(watch, boards, "disk")
        proxy.resume()
        await until_told(watch, boards, healthy)
        proxy.refuse()
        proxy.cut()
        await until_told(watch, boards, "disk")
        proxy.accept()
        await until_told(watch, boards, healthy)

    assert not watch.too_early
    assert all(board.lives[-1].overflowed == 0 for board in boards.framed.values())
