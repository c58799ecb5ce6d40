"""A disk that is full in the middle of an outage: nothing acknowledged is lost, and it recovers."""

import asyncio
import signal
from pathlib import Path

import pytest

from gateway.simulate.faults.small_disk import FileSizeLimit, SmallDisk, small_disk
from gateway.simulate.firmware import find_interpreter
from tests.support.site import Plan, Site

STORE = "store"
DISK_BYTES = 1 << 20
FAILS = "until it works again only the broker's word counts"
WORKS = "the store works again"


@pytest.mark.parametrize("is_killed", [False, True], ids=["", "and the gateway is killed"])
@pytest.mark.parametrize("kind", ["as a disk", "by the size of files"])
async def test_on_a_full_disk_nothing_that_was_acknowledged_is_lost(
    kind: str, is_killed: bool, mosquitto_bin: Path, micropython_bin: Path, tmp_path: Path
) -> None:
    micropython = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    store = tmp_path / STORE
    store.mkdir()
    with small_disk(store, DISK_BYTES) as best:
        disk: SmallDisk = best if kind == "as a disk" else FileSizeLimit(store)
        plan = Plan(
            *(tmp_path, mosquitto_bin, [micropython] * 3, 240),
            outbox="spill_after_s = 0.2",
            store=STORE,
            wrap=disk.command,
        )
        async with asyncio.timeout(100), Site.running(plan) as site:
            await site.until_heard(50)
            site.take_broker_away()
            await site.until_noted(20)
            disk.fill(site.gateway.pid)
            await site.until_logged(FAILS)
            await site.until_noted(30)
            if is_killed:
                site.gateway.send(signal.SIGKILL)
                await site.until_started(2)
                disk.fill(site.gateway.pid)
                await site.until_noted(30)
            disk.free(site.gateway.pid)
            if is_killed:
                await site.until_noted(30)
                site.gateway.send(signal.SIGKILL)
            else:
                await site.until_logged(WORKS)
            await site.until_noted(20)
            site.bring_broker_back()
            await site.until_produced()
            accounts = await site.until_told(timeout_s=30)
            await site.stop_gateway()

    print(disk, *accounts, sep="\n")  # noqa: T201 - shown with a failure
    for account in accounts:
        assert account.is_exact
        assert not account.gaps
