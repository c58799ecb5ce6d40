"""Board to subscriber with nothing simulated in between: firmware, pty, daemon, mosquitto."""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.simulate.boards import Ending, FirmwareBoard, Flash, Json
from gateway.simulate.faults import FaultPlan, LineRates
from gateway.simulate.firmware import Interpreter, find_interpreter, firmware_folder
from gateway.simulate.text_boards import Printing, TextBoard
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.subscriber import Received, Subscriber

CLIMATE: Mapping[str, Json] = {
    "name": "Greenhouse",
    "sensors": [
        {
            "kind": "bme280",
            "name": "climate",
            "interval_ms": 100,
            "bus": {"i2c": 0, "sda": 21, "scl": 22},
        },
        {"kind": "heap", "name": "system", "interval_ms": 300},
    ],
    "actuators": [{"kind": "relay", "name": "pump", "pin": 5, "safe": False}],
}


def counter(count_every_ms: int) -> Mapping[str, Json]:
    return {
        "name": "Counter",
        "sensors": [
            {
                "kind": "simulated",
                "name": "n",
                "interval_ms": count_every_ms,
                "key": "n",
                "waveform": "counter",
                "exponent": 0,
            }
        ],
    }


def samples(messages: Sequence[Received], device: str) -> list[dict[str, Any]]:
    """All samples of a device in the order in which they came, from state and history."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if message.topic == f"edge/test/{device}/state":
            found.append(message.json())
        elif message.topic == f"edge/test/{device}/history":
            found += message.json()
    return found


@pytest.fixture(params=["micropython", "micropython-i386"])
def micropython(request: pytest.FixtureRequest) -> str:
    name = {"micropython": "micropython_bin", "micropython-i386": "micropython_i386_bin"}
    return str(request.getfixturevalue(name[request.param]))


async def test_a_board_on_real_micropython_is_on_mqtt_as_it_describes_itself(
    micropython: str, broker: Broker, tmp_path: Path
) -> None:
    interpreter = await asyncio.to_thread(find_interpreter, micropython)
    board = FirmwareBoard(
        tmp_path / "ttyBOARD", tmp_path / "flash", Flash(CLIMATE), interpreter, board_id="c0ffee01"
    )
    device = "linux-c0ffee01"

    async with (
        asyncio.timeout(60),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/ttyBOARD"),
    ):
        running = tasks.create_task(board.run())
        await subscriber.wait_for(lambda messages: len(samples(messages, device)) >= 30, 40)
        running.cancel()
        await subscriber.wait_for(
            lambda _: subscriber.on(f"edge/test/{device}/availability")[-1].payload == b"offline"
        )

    received = samples(subscriber.messages, device)
    ids = [sample["id"].rpartition("/") for sample in received]
    boots = {boot for boot, _, _ in ids}
    assert len(boots) == 1
    assert [int(seq) for _, _, seq in ids] == list(range(len(ids)))
    climate = [sample for sample in received if "pressure" in sample]
    system = [sample for sample in received if "free_heap" in sample]
    assert len(climate) + len(system) == len(received)
    assert all(-40 <= sample["temperature"] <= 85 for sample in climate)
    assert all(0 <= sample["humidity"] <= 100 for sample in climate)
    times = [sample["time"] for sample in received]
    assert times == sorted(times)

    info = subscriber.on(f"edge/test/{device}/info")[-1]
    assert info.retain
    assert info.json()["name"] == "Greenhouse"
    assert info.json()["runtime"].startswith("MicroPython 1.2")
    units = {sensor["key"]: sensor.get("unit") for sensor in info.json()["sensors"]}
    assert units["temperature"] == "°C"
    assert [actuator["key"] for actuator in info.json()["actuators"]] == ["pump"]
    assert subscriber.on(f"edge/test/{device}/pump/state")[-1].payload == b"false"
    availability = [m.payload for m in subscriber.on(f"edge/test/{device}/availability")]
    assert availability == [b"online", b"offline"]


async def test_every_sample_arrives_once_in_order_over_a_wire_that_loses_a_fifth(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    count = 3000
    interpreter = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    plan = FaultPlan(seed=20, lines=LineRates(drop=0.1, corrupt=0.1))
    board = FirmwareBoard(
        *(tmp_path / "ttyBOARD", tmp_path / "flash", Flash(counter(10)), interpreter),
        plan=plan,
        board_id="c0ffee02",
    )
    device = "linux-c0ffee02"

    async with (
        asyncio.timeout(110),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/ttyBOARD"),
    ):
        running = tasks.create_task(board.run())
        await subscriber.wait_for(lambda messages: sum(map(size, messages)) >= count, timeout_s=100)
        running.cancel()

    received = samples(subscriber.messages, device)[:count]
    assert [int(sample["id"].rpartition("/")[2]) for sample in received] == list(range(count))
    assert [sample["n"] for sample in received] == list(range(count))
    assert subscriber.on(f"edge/test/{device}/gap") == []
    for counts in (board.wire.status.from_board, board.wire.status.to_board):
        assert counts.lines > 100
        assert (counts.dropped + counts.corrupted) / counts.lines > 0.15


def has_samples(count: int, messages: Sequence[Received]) -> bool:
    return sum(map(size, messages)) >= count


def size(message: Received) -> int:
    """How many samples a message holds, without parsing it."""
    return message.payload.count(b'"id":')


@dataclass(frozen=True)
class Crashing(Interpreter):
    """Runs a copy of the firmware that crashes in its main loop, once, if its flash has `bug`."""

    firmware: Path = Path()

    def copy_firmware(self) -> None:
        shutil.copytree(firmware_folder(), self.firmware)
        app = self.firmware / "board" / "app.py"
        before, anchor, after = app.read_text().partition("    def tick(self):\n")
        assert anchor
        bug = (
            "        if 'bug' in os.listdir():\n"
            "            os.remove('bug')\n"
            "            raise ValueError('a bug of ours')\n"
        )
        app.write_text(before + anchor + bug + after)

    def command(self, folder: Path, root: Path, heap_size: str = "") -> list[str]:
        del folder
        return super().command(self.firmware, root, heap_size)


async def test_a_crash_is_told_and_only_a_loss_of_power_begins_a_new_boot(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    interpreter = Crashing(
        *(str(micropython_bin), "micropython", True), firmware=tmp_path / "device_firmware"
    )
    interpreter.copy_firmware()
    flash = tmp_path / "flash"
    board = FirmwareBoard(
        *(tmp_path / "ttyBOARD", flash, Flash(counter(50)), interpreter),
        board_id="c0ffee03",
    )
    device = "linux-c0ffee03"

    def boots(messages: Sequence[Received]) -> list[str]:
        ids = (sample["id"].split("/")[1] for sample in samples(messages, device))
        return list(dict.fromkeys(ids))

    def has_boots(count: int, messages: Sequence[Received]) -> bool:
        return len(boots(messages)) >= count

    def has_crashed(messages: Sequence[Received]) -> bool:
        """Whether both have come: what `info` has room for, and the log to its last line."""
        infos = (each for each in messages if each.topic == f"edge/test/{device}/info")
        logs = (each for each in messages if each.topic == f"edge/test/{device}/log")
        is_logged = any("a bug of ours" in log.json()["text"] for log in logs)
        return is_logged and any("crash" in info.json() for info in infos)

    async with (
        asyncio.timeout(60),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/ttyBOARD") as daemon,
    ):
        running = tasks.create_task(board.run())
        await subscriber.wait_for(partial(has_boots, 1), 20)
        (flash / "bug").touch()
        await subscriber.wait_for(has_crashed, 20)
        board.cut_power()
        await subscriber.wait_for(partial(has_boots, 2), 20)
        running.cancel()
        log = daemon.log()

    first, second = (int(boot) for boot in boots(subscriber.messages))
    assert second == (first + 1) & 0xFFFF
    assert board.endings == {Ending.RESET: 1, Ending.POWER_CUT: 1}

    documents = [each.json() for each in subscriber.on(f"edge/test/{device}/info")]
    told = [(document["boot"], document.get("crash", "")) for document in documents]
    before, after, last = list(dict.fromkeys(told))
    assert (before, last) == ((first, ""), (second, ""))
    assert after[0] == first, "numbers outlive the reset after a crash"
    assert after[1].endswith(", in tick\nValueError: a bug of ours"), "what HELLO has room for"

    lines = [each.json() for each in subscriber.on(f"edge/test/{device}/log")]
    traceback = [line["text"] for line in lines if line["level"] == "error"]
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "ValueError: a bug of ours"
    assert log.count(f"{device}: crashed before this boot: ValueError: a bug of ours") == 1


async def test_boards_wait_for_a_restarted_gateway_and_nothing_is_lost(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    interpreter = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    board = FirmwareBoard(
        *(tmp_path / "ttyBOARD", tmp_path / "flash", Flash(counter(20)), interpreter),
        board_id="c0ffee04",
    )
    device = "linux-c0ffee04"

    async with (
        asyncio.timeout(90),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
    ):
        running = tasks.create_task(board.run())
        for number in range(3):
            goal = sum(map(size, subscriber.messages)) + 100
            async with running_daemon(
                tmp_path / "daemon", broker.port, f"{tmp_path}/ttyBOARD"
            ) as daemon:
                await subscriber.wait_for(partial(has_samples, goal), 20)
                if number == 1:
                    await daemon.kill()
        running.cancel()

    seqs = [int(sample["id"].rpartition("/")[2]) for sample in samples(subscriber.messages, device)]
    assert list(dict.fromkeys(seqs)) == list(range(max(seqs) + 1))
    assert subscriber.on(f"edge/test/{device}/gap") == []


async def test_a_board_that_only_prints_json_needs_no_configuration(
    broker: Broker, tmp_path: Path
) -> None:
    board = TextBoard(tmp_path / "ttyARDUINO", Printing(interval_s=0.05))

    async with (
        asyncio.timeout(30),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/ttyARDUINO"),
    ):
        running = tasks.create_task(board.run())
        await subscriber.wait_for(lambda messages: len(samples(messages, "ttyarduino")) >= 10, 20)
        running.cancel()

    received = samples(subscriber.messages, "ttyarduino")
    seqs = [int(sample["id"].rpartition("/")[2]) for sample in received]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert all(isinstance(sample["temperature"], float) for sample in received)


async def test_the_daemon_starts_without_a_broker_and_delivers_when_it_appears(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = Broker(mosquitto_bin, folder, persistence=True)
    await asyncio.to_thread(broker.start)
    board = TextBoard(tmp_path / "ttyARDUINO", Printing(interval_s=0.05))

    try:
        async with (
            asyncio.timeout(60),
            # Its session lasts: whoever comes first when the broker is back, it hears everything.
            Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
            asyncio.TaskGroup() as tasks,
        ):
            await asyncio.to_thread(broker.stop)
            async with running_daemon(
                tmp_path / "daemon", broker.port, f"{tmp_path}/ttyARDUINO"
            ) as daemon:
                running = tasks.create_task(board.run())
                await daemon.wait_for_log("ttyarduino")
                await asyncio.to_thread(broker.start)
                await subscriber.wait_for(
                    lambda messages: len(samples(messages, "ttyarduino")) >= 20, 50
                )
                running.cancel()
    finally:
        await asyncio.to_thread(broker.stop)

    seqs = [
        int(sample["id"].rpartition("/")[2])
        for sample in samples(subscriber.messages, "ttyarduino")
    ]
    assert seqs == list(range(len(seqs)))


async def test_a_stopped_daemon_says_so_and_a_killed_one_is_said_to_be_gone(
    broker: Broker, tmp_path: Path
) -> None:
    async with Subscriber(broker.host, broker.port, "edge/test/status") as subscriber:

        def states(_: Sequence[Received]) -> list[str]:
            return [message.json()["state"] for message in subscriber.messages]

        async with running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/none"):
            await subscriber.wait_for(lambda m: states(m) == ["online"])
        await subscriber.wait_for(lambda m: states(m) == ["online", "offline"])
        async with running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/none") as daemon:
            await subscriber.wait_for(lambda m: states(m)[2:] == ["online"])
            await daemon.kill()
            await subscriber.wait_for(lambda m: states(m)[2:] == ["online", "offline"])

    sessions = [message.json()["session"] for message in subscriber.messages]
    assert sessions[0] == sessions[1] != sessions[2] == sessions[3]
