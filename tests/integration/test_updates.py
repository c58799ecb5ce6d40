"""Rollouts to the real firmware: MicroPython boards with slots, the daemon, mosquitto."""

import asyncio
from pathlib import Path

import pytest

from gateway.bundle.archive import to_archive
from gateway.own_bundle import own_bundle
from tests.support.broker import Broker
from tests.support.figures import Figures
from tests.support.slot_boards import changed_bytes, newer_firmware
from tests.support.slot_site import LONGEST_S, Installation, installation, packed
from tests.support.updates import firmware

RATE_HZ = 5.0
KEY = bytes(range(32))
BOARDS = 20
BUNDLE_BYTES = 20_000


async def try_without_the_keys(site: Installation) -> None:
    """Who does not know the boards' keys cannot update them; then the gateway learns them."""
    old = packed(firmware("0.0.1"))
    await site.ask("update", all=True, downgrade=True, bundle=old)
    await site.until(1, "done")
    await site.until_told("state", "refused", "refused")
    assert all("key" in each["reason"] for each in site.told())
    for listed in (await site.ask("devices"))["devices"]:
        await site.ask("keep_key", device=listed["device"], key=KEY.hex())


@pytest.fixture
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards prove an update in a second instead of a minute."""
    monkeypatch.setenv("BOARD_TRIAL_ALIVE_MS", "1000")


@pytest.mark.usefixtures("short_trials")
def test_a_board_that_rolls_back_halts_the_rollout_and_the_next_one_goes_through(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    bad = newer_firmware(tmp_path / "bad", board__supervisor="raise ValueError('of no use')")
    good = newer_firmware(tmp_path / "good")
    file = tmp_path / "good.egb"
    file.write_bytes(to_archive(good))

    async def run() -> None:
        async with (
            installation(micropython_bin, broker, tmp_path, 2, KEY) as site,
            site.daemon(),
        ):
            await site.all_there()
            await try_without_the_keys(site)
            checked = await site.command("--check")
            assert checked.out.count(f"  {own_bundle().version}  nothing newer\n") == 2
            await site.ask("update", all=True, canary=1, bundle=packed(bad))
            await site.until(2, "halted")
            await site.until_told("state", "halted", "rolled_back")
            why = next(each["reason"] for each in site.told() if each["state"] == "rolled_back")
            assert "of no use" in why
            assert site.rollout()["reason"].endswith(f"rolled back: {why}")

            done = await site.command("--all", "--canary", "1", "--bundle", str(file))
            assert done.code == 0, done
            assert done.out.startswith(f"rollout 3: firmware {good.version}: done: 2 done")
            await site.until_told("installed_version", good.version, good.version)
            listed = await site.command("--status")
            assert "rollout 2: firmware" in listed.out
            assert "halted" in listed.out
            assert (await site.command("--abort")).code == 1, "nothing is under way"
            again = await site.command("--all", "--bundle", str(file))
            assert again.code == 1
            assert "no board is to be updated" in again.err
            site.assert_nothing_is_lost()

    asyncio.run(run())


@pytest.mark.alone
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("short_trials")
def test_twenty_boards_are_updated_at_once_and_no_sample_is_lost(
    micropython_bin: Path, broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    new = newer_firmware(tmp_path / "new", BUNDLE_BYTES)
    size = changed_bytes(own_bundle(), new)
    assert BUNDLE_BYTES * 0.8 < size < BUNDLE_BYTES * 1.3

    async def run() -> None:
        async with installation(micropython_bin, broker, tmp_path, BOARDS) as site, site.daemon():
            await site.all_there()
            before = sum(map(len, site.samples().values()))
            begin_s = asyncio.get_running_loop().time()
            await site.ask("update", all=True, parallel=BOARDS, bundle=packed(new))
            await site.until(1, "done", "halted")
            took_s = asyncio.get_running_loop().time() - begin_s
            delivered = sum(map(len, site.samples().values())) - before

            assert site.rollout()["counts"] == {"done": BOARDS}, site.told()
            site.assert_nothing_is_lost()
            await site.until_told("installed_version", *[new.version] * BOARDS)
            rate_hz = delivered / took_s / BOARDS
            figures("update, boards at once", str(BOARDS))
            figures("update, bytes of changed files each", str(size))
            figures("update, until all have confirmed", f"{took_s:.1f} s")
            figures("update, samples a second and board", f"{rate_hz:.2f}", f"> {RATE_HZ / 2:g}")
            assert rate_hz > RATE_HZ / 2, "boards stand still while they start anew, no longer"

    asyncio.run(run())


@pytest.mark.usefixtures("short_trials")
def test_a_gateway_that_is_killed_in_the_middle_goes_on_with_the_rollout(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    new = newer_firmware(tmp_path / "new", BUNDLE_BYTES)

    async def run() -> None:
        async with installation(micropython_bin, broker, tmp_path, 1) as site:
            async with site.daemon() as daemon:
                await site.all_there()
                await site.ask("update", all=True, bundle=packed(new))
                await site.heard.wait_for(
                    lambda _: site.told()[0]["state"] == "sending", timeout_s=LONGEST_S
                )
                await daemon.kill()
            async with site.daemon():
                await site.until(1, "done")

                assert site.rollout()["counts"] == {"done": 1}
                await site.until_told("installed_version", new.version)
                site.assert_nothing_is_lost()

    asyncio.run(run())


def test_the_bundle_of_these_tests_is_another_one(tmp_path: Path) -> None:
    new = newer_firmware(tmp_path)

    assert new.version != own_bundle().version
    assert 0 < changed_bytes(own_bundle(), new) < BUNDLE_BYTES
