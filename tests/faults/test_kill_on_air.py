"""The same as `test_kill`, with boards on the radio: whoever is killed, and whatever link ends."""

import asyncio
from collections import Counter
from pathlib import Path
from signal import SIGKILL

import pytest

from gateway.simulate.faults.process import Blow, Blows, process_events
from gateway.simulate.firmware import find_interpreter
from tests.support.account import Account
from tests.support.figures import Figures
from tests.support.site import Plan, Site

SEED = 29
ON_AIR = 3


@pytest.mark.timeout(900)
async def test_over_gatt_each_sample_is_delivered_or_in_a_gap_whoever_is_killed(
    mosquitto_bin: Path, micropython_bin: Path, tmp_path: Path, figures: Figures, *, soak: bool
) -> None:
    micropython = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    cpython = await asyncio.to_thread(find_interpreter, "cpython")
    plan = Plan(
        *(tmp_path, mosquitto_bin, [micropython, micropython, cpython, micropython]),
        readings=2000 if soak else 200,
        on_air=ON_AIR,
        outbox="spill_after_s = 0.2",
        broker_away_s=1.0,
        seed=SEED,
    )

    async with Site.running(plan) as site:
        victims = site.victims()
        blows = Blows(process_events(list(victims), SEED, stop_share=0.1), victims)
        blows.start()
        try:
            await site.until_produced()
        finally:
            blows.stop()
        accounts = await site.until_told(timeout_s=90)
        await site.stop_gateway()

    print(f"seed {SEED}", *accounts, site.gateway.log()[-20_000:], sep="\n")  # noqa: T201 - shown with a failure
    assert all(account.is_exact for account in accounts)
    killed = [blows.dealt[Blow(name, SIGKILL)] for name in victims]
    assert all(killed)
    figures(f"killed: {', '.join(victims)}", ", ".join(map(str, killed)))
    figures(f"samples of {ON_AIR} boards on the air and one on a port", f"{_total(accounts)}")
    figures("... that came more than once", f"{sum(account.repeated for account in accounts)}")
    gaps = sum((account.gaps for account in accounts), Counter[str]())
    assert gaps.keys() <= {"ring_overflow"}  # of a board that was killed with much in its memory
    figures("... in gaps", str(gaps.total()))


def _total(accounts: list[Account]) -> int:
    return sum(account.produced for account in accounts)
