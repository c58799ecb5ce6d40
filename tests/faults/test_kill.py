"""Whoever is killed, and whenever: what arrives and what is published as lost is what there was."""

import asyncio
from collections import Counter
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import pytest

from gateway.simulate.faults.process import Blow, Blows, process_events
from gateway.simulate.firmware import find_interpreter
from tests.support.figures import Figures
from tests.support.remarks import remarks
from tests.support.site import Plan, Site

SEED = 28


@pytest.mark.timeout(900)
async def test_whoever_is_killed_each_sample_is_delivered_or_in_a_gap(
    mosquitto_bin: Path, micropython_bin: Path, tmp_path: Path, figures: Figures, *, soak: bool
) -> None:
    micropython = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    cpython = await asyncio.to_thread(find_interpreter, "cpython")
    interpreters = [micropython, micropython, micropython, cpython, cpython]
    plan = Plan(
        *(tmp_path, mosquitto_bin, interpreters, 2000 if soak else 300),
        outbox="spill_after_s = 0.2",
        broker_away_s=1.0,
        seed=SEED,
    )

    async with Site.running(plan) as site:
        victims = site.victims()
        blows = Blows(process_events(list(victims), SEED, stop_share=0.2), victims)
        blows.start()
        try:
            await site.until_produced()
        finally:
            blows.stop()
        accounts = await site.until_told(timeout_s=60)
        # Shown with a failure: what the gateway said of salvage, damage and its starts.
        print(f"seed {SEED}", *accounts, remarks(site.gateway.log()), sep="\n")  # noqa: T201
        await site.stop_gateway()

    assert all(account.is_exact for account in accounts)
    for number, what in ((SIGKILL, "killed"), (SIGSTOP, "stopped for a while")):
        counts = [blows.dealt[Blow(name, number)] for name in victims]
        figures(f"{what}: {', '.join(victims)}", ", ".join(map(str, counts)))
        assert number is SIGSTOP or all(counts)
    figures("samples of 5 boards", f"{sum(account.produced for account in accounts)}")
    figures("... that came more than once", f"{sum(account.repeated for account in accounts)}")
    gaps = sum((account.gaps for account in accounts), Counter[str]())
    assert gaps.keys() <= {"ring_overflow"}  # of a board that was killed with much in its memory
    figures("... in gaps", str(gaps.total()))
