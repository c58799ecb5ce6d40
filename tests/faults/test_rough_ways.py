"""Wires that damage, boards that lose power, a broker that is hard to reach: all of it exact."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from gateway.simulate.faults import parse
from gateway.simulate.faults.process import Blows, process_events
from gateway.simulate.firmware import find_interpreter
from tests.support.figures import Figures
from tests.support.site import Plan, Site

SEED = 1
WIRES = (
    "drop=0.05,corrupt=0.05,duplicate=0.05,truncate=0.02,garbage=0.05,"
    "unplug_every_s=7,unplug_s=0.5,restart_every_s=6"
)
BROKER = (
    "broker_cut_every_s=3,broker_cut_s=0.5,broker_stall_every_s=4,broker_stall_s=0.5,"
    "broker_latency_s=0.01,puback_drop=0.05"
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("faults", "victims"),
    [
        pytest.param(BROKER, [], id="the way to the broker"),
        pytest.param(WIRES, [], id="boards and their wires"),
        pytest.param(f"{WIRES},{BROKER}", ["gateway"], id="everything and the gateway"),
    ],
)
async def test_however_rough_the_ways_what_is_produced_is_delivered_or_told(  # noqa: PLR0913, PLR0917 - fixtures
    faults: str,
    victims: list[str],
    mosquitto_bin: Path,
    micropython_bin: Path,
    tmp_path: Path,
    figures: Figures,
    request: pytest.FixtureRequest,
    *,
    soak: bool,
) -> None:
    micropython = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    plan = Plan(
        *(tmp_path, mosquitto_bin, [micropython] * 3, 2000 if soak else 150),
        outbox="spill_after_s = 0.2",
        faults=parse(f"{faults},seed={SEED}"),
    )
    power_cuts = "restart_every_s" in faults

    async with Site.running(plan) as site:
        blows = Blows(
            process_events(victims or ["nobody"], SEED, shortest_s=1.0, longest_s=4.0),
            site.victims(),
        )
        if victims:
            blows.start()
        try:
            await site.until_produced()
        finally:
            blows.stop()
        site.calm()
        accounts = await site.until_told(timeout_s=90, power_cuts=power_cuts)
        await site.stop_gateway()

    print(f"seed {SEED}", *accounts, sep="\n")  # noqa: T201 - shown with a failure
    assert all(account.is_exact for account in accounts)
    produced = sum(account.produced for account in accounts)
    gaps = sum((account.gaps for account in accounts), Counter[str]())
    untold = sum(account.untold for account in accounts)
    figures(
        f"{request.node.callspec.id}: samples, in gaps, untold",
        f"{produced}, {dict(gaps) or 0}, {untold}",
    )
