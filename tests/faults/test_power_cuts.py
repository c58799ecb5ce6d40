"""Boards that lose their power: what `batch` brings through it, and what is told of the rest."""

import asyncio
from collections import Counter
from pathlib import Path
from signal import SIGKILL

import pytest

from gateway.simulate.boards import Ending
from gateway.simulate.faults import parse
from gateway.simulate.faults.process import Blows, process_events
from gateway.simulate.firmware import find_interpreter
from tests.support.figures import Figures
from tests.support.site import Plan, Site

SEED = 5
INTERVAL_MS = 5
OUTAGE = 300
"""Readings of each board while there is no gateway."""

UNSAVED = 160
"""Records of 10 bytes that may be in no file: three quarters of a ring of 2 KB, and some that are
produced while it is found out."""


@pytest.mark.timeout(300)
async def test_an_outage_and_a_power_cut_cost_a_batch_board_only_what_was_in_no_file(
    mosquitto_bin: Path, micropython_bin: Path, tmp_path: Path, figures: Figures
) -> None:
    """The gateway is killed, the boards' power fails meanwhile, and both come back."""
    micropython = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    plan = Plan(
        *(tmp_path, mosquitto_bin, [micropython, micropython], 900),
        interval_ms=INTERVAL_MS,
        batch=1,
    )

    async with Site.running(plan) as site:
        await site.until_noted(100)
        await site.until_heard(10)
        site.gateway.may_start.clear()
        site.gateway.send(SIGKILL)
        await site.until_noted(OUTAGE)
        for board in site.boards:
            board.board.cut_power()
        await site.until_noted(20)
        site.gateway.may_start.set()
        await site.until_produced()
        await site.until_flash_is_empty()
        batch, ram = await site.until_told(timeout_s=60, power_cuts=True)
        await site.stop_gateway()

    print(batch, ram, sep="\n")  # noqa: T201 - shown with a failure
    assert batch.is_exact
    assert ram.is_exact
    assert batch.untold + batch.gaps.total() <= UNSAVED
    assert ram.untold + ram.gaps.total() >= OUTAGE - 1, "the last one may have become no sample"
    figures("lost by an outage and a power cut: batch, ram", f"{batch.untold}, {ram.untold}")


@pytest.mark.timeout(600)
async def test_however_often_power_and_gateway_fail_what_a_batch_board_had_is_told(
    mosquitto_bin: Path, micropython_bin: Path, tmp_path: Path, figures: Figures, *, soak: bool
) -> None:
    micropython = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    plan = Plan(
        *(tmp_path, mosquitto_bin, [micropython, micropython], 20_000 if soak else 1000),
        interval_ms=INTERVAL_MS,
        batch=2,
        faults=parse(f"restart_every_s=3,kill_every_s=4,seed={SEED}"),
        gateway_away_s=2.0,
        seed=SEED,
    )

    async with Site.running(plan) as site:
        blows = Blows(
            process_events(["gateway"], SEED, shortest_s=0.5, longest_s=2.0), site.victims()
        )
        blows.start()
        try:
            await site.until_produced()
        finally:
            blows.stop()
        await site.until_connected()
        await site.until_flash_is_empty()
        accounts = await site.until_told(timeout_s=90, power_cuts=True)
        await site.stop_gateway()

    print(f"seed {SEED}", *accounts, sep="\n")  # noqa: T201 - shown with a failure
    assert all(account.is_exact for account in accounts)
    for account, board in zip(accounts, site.boards, strict=True):
        assert account.untold <= UNSAVED * board.board.endings[Ending.POWER_CUT]
    produced = sum(account.produced for account in accounts)
    gaps = sum((account.gaps for account in accounts), Counter[str]())
    untold = sum(account.untold for account in accounts)
    figures("batch boards: samples, in gaps, untold", f"{produced}, {dict(gaps) or 0}, {untold}")
