"""What is asked of boards, done by the real firmware: intervals that outlast a restart."""

import asyncio
from pathlib import Path

from gateway.simulate.boards import Ending, FirmwareBoard, Flash, Json
from gateway.simulate.firmware import find_interpreter
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.requester import asking
from tests.support.subscriber import Subscriber

CONFIG: dict[str, Json] = {
    "name": "shed",
    "links": ["stdio"],
    "sensors": [
        {
            "kind": "simulated",
            "name": "demo",
            "interval_ms": 3_600_000,
            "waveform": "counter",
            "exponent": 0,
        }
    ],
}
"""It reads its sensor once an hour, unless it is told otherwise."""


def samples(subscriber: Subscriber) -> int:
    """Return how many samples came as the newest."""
    return sum(bool(message.payload) for message in subscriber.on("edge/test/+/state"))


async def test_an_interval_is_set_and_outlasts_a_restart_of_the_board(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    interpreter = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    board = FirmwareBoard(tmp_path / "ttyA", tmp_path / "flash", Flash(CONFIG), interpreter)
    async with (
        asyncio.timeout(100),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*"),
        asking(broker.host, broker.port) as requester,
    ):
        running = tasks.create_task(board.run())
        await subscriber.wait_for(lambda _: subscriber.on("edge/test/+/availability"))
        (listed,) = (await requester.ask("devices")).data["devices"]
        await requester.ask("rename", device=listed["device"], to="shed")
        refused = await requester.ask("options", device="shed", interval_ms={"dmeo": 20})
        set_so = await requester.ask("options", device="shed", interval_ms={"demo": 20})
        await subscriber.wait_for(lambda _: samples(subscriber) > 5)

        restarted = await requester.ask("restart", device="shed")
        await subscriber.wait_for(lambda _: board.endings[Ending.RESET])
        before = samples(subscriber)
        await subscriber.wait_for(lambda _: samples(subscriber) > before + 30)
        kept = await requester.ask("device", device="shed")
        running.cancel()

    assert "no stream dmeo" in refused.error
    assert set_so.data["applied"] is True
    assert restarted.data == {"device": listed["device"]}
    assert board.endings[Ending.RESET] == 1
    assert kept.data["options"] == {"interval_ms": {"demo": 20}}
