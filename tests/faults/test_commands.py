"""Whoever is killed between receipt, write and answer: a command is done at most once, and ends."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from signal import SIGKILL, Signals

import pytest

from gateway.simulate.faults import parse
from gateway.simulate.faults.process import Blow, Blows, process_events
from gateway.simulate.firmware import find_interpreter
from tests.support.figures import Figures
from tests.support.remarks import remarks
from tests.support.site import BASE, Plan, Site
from tests.support.stubborn_client import StubbornClient

SEED = 11
NAMES = ("gateway", "broker", "board", "power")
"""Who is killed; `power` stands for the gateway and all boards at once."""
ENDS = {"done", "failed", "expired", "unknown"}


@pytest.mark.timeout(900)
async def test_whoever_is_killed_each_command_is_done_at_most_once_and_ends(
    mosquitto_bin: Path, micropython_bin: Path, tmp_path: Path, figures: Figures, *, soak: bool
) -> None:
    micropython = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    count = 2000 if soak else 80
    plan = Plan(
        *(tmp_path, mosquitto_bin, [micropython] * 4, 10**6),
        interval_ms=500,
        has_valves=True,
        faults=parse(f"delay=1,delay_s=0.2,drop=0.05,broker_latency_s=0.02,seed={SEED}"),
        seed=SEED,
    )
    rng = random.Random(SEED)

    async with Site.running(plan) as site, asyncio.TaskGroup() as tasks:
        client = StubbornClient(site.broker.host, site.broker.port, BASE, site.witness.heard)
        victims = site.victims()

        def all_but_the_broker(number: Signals) -> None:
            victims["gateway"](number)
            for _ in site.boards:
                victims["board"](number)

        longest_s = 2.0 if soak else 1.2
        blows = Blows(
            process_events([*victims, "power"], SEED, longest_s=longest_s),
            {**victims, "power": all_but_the_broker},
        )
        giving = tasks.create_task(client.run())
        try:
            await site.witness.wait_for(
                lambda: (
                    {f"{BASE}/{board.device}/info" for board in site.boards}
                    <= {heard.topic for heard in site.witness.heard}
                ),
                60,
            )
            blows.start()
            for number in range(count):
                device = site.boards[number % 4].device
                said = {"set": {"valve": number}, "expires_s": rng.choice([1.0, 8.0])}
                client.give(device, str(number), said)
                await asyncio.sleep(0.1)  # how fast they are given, not a wait for a state
            blows.stop()
            await site.witness.wait_for(lambda: not client.waiting, 120)
        finally:
            blows.stop()
            giving.cancel()
            print(f"seed {SEED}", remarks(site.gateway.log()), sep="\n")  # noqa: T201 - for failures
        done = Counter(number for board in site.boards for number in board.done())
        await site.stop_gateway()

    statuses = {int(number): results[0]["status"] for number, results in client.results.items()}
    figures("killed: " + ", ".join(NAMES), _deaths(blows))
    figures("commands: " + ", ".join(sorted(ENDS)), _counts(statuses))
    assert statuses.keys() == set(range(count))
    assert set(statuses.values()) <= ENDS
    assert max(done.values()) == 1, done
    assert all(done[number] == 1 for number, status in statuses.items() if status == "done")
    assert not any(done[number] for number, status in statuses.items() if status == "expired")
    for first, *others in client.results.values():
        # Told before it was on the disk, because that took seconds: what is not known any more.
        assert {each["status"] for each in others} <= {first["status"], "unknown"}, (first, others)
    assert Counter(statuses.values())["done"] > count / 10
    assert all(blows.dealt[Blow(name, SIGKILL)] for name in NAMES)


def _deaths(blows: Blows) -> str:
    return ", ".join(str(blows.dealt[Blow(name, SIGKILL)]) for name in NAMES)


def _counts(statuses: dict[int, str]) -> str:
    counted = Counter(statuses.values())
    return ", ".join(str(counted[status]) for status in sorted(ENDS))
