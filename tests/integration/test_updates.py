"""Rollouts to the real firmware: MicroPython boards with slots, the daemon, mosquitto."""

import asyncio
import base64
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.bundle.archive import to_archive
from gateway.bundle.bundle import Bundle
from gateway.cli import control
from gateway.config.models import Settings
from gateway.own_bundle import own_bundle
from gateway.simulate.boards import FirmwareBoard, Json
from gateway.simulate.firmware import find_interpreter
from tests.support.broker import Broker
from tests.support.commands import Done, gateway
from tests.support.daemon import Daemon, running_daemon
from tests.support.figures import Figures
from tests.support.slot_boards import changed_bytes, newer_firmware, slot_boards
from tests.support.subscriber import Received, Subscriber
from tests.support.updates import firmware

BASE = "edge/test"
CONFIG: dict[str, Json] = {
    "links": ["stdio"],
    "sensors": [{"kind": "simulated", "name": "demo", "interval_ms": 200}],
}
"""Five samples a second."""
RATE_HZ = 5.0
KEY = bytes(range(32))
LONGEST_S = 100.0
"""Only a test that hangs takes longer."""
BOARDS = 20
BUNDLE_BYTES = 20_000


class Installation:
    """Boards, daemon and broker, and who hears what is published."""

    def __init__(
        self, folder: Path, boards: Sequence[FirmwareBoard], heard: Subscriber, port: int
    ) -> None:
        self.folder = folder
        self.boards = boards
        self.heard = heard
        self.port = port
        self.environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
        self.config = folder / "daemon" / "gateway.toml"
        socket = str(folder / "state" / "control.sock")
        self.settings = Settings.model_validate({"gateway": {"control_socket": socket}})

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        """Have a gateway run."""
        async with running_daemon(
            self.config.parent, self.port, f"{self.folder}/tty*", environment=self.environment
        ) as daemon:
            yield daemon

    async def all_there(self) -> None:
        """Wait until each board delivers, and could be updated."""
        count = len(self.boards)
        await self.heard.wait_for(
            lambda _: (
                len(self.newest("/state")) == count
                and [each["state"] for each in self.told()] == ["idle"] * count
            ),
            timeout_s=LONGEST_S,
        )

    async def ask(self, verb: str, **fields: object) -> Any:  # noqa: ANN401 - JSON
        return await asyncio.to_thread(control.ask, self.settings, verb, fields)

    async def command(self, *words: str) -> Done:
        run = partial(gateway, "update", *words, "--config", str(self.config))
        return await asyncio.to_thread(run, environment=self.environment)

    def newest(self, suffix: str) -> dict[str, Received]:
        """Return the newest message on each topic that ends so."""
        return {each.topic: each for each in self.heard.messages if each.topic.endswith(suffix)}

    def rollout(self) -> Any:  # noqa: ANN401 - JSON
        found = self.newest("/rollout")
        return found[f"{BASE}/rollout"].json() if found else {"rollout": 0, "state": "none"}

    def told(self) -> list[Any]:
        """Return what is published of each board's updates."""
        return [each.json() for _, each in sorted(self.newest("/update").items())]

    async def until(self, number: int, *states: str) -> None:
        """Wait until the rollout of that number is in one of these states."""

        def is_there(_messages: Sequence[Received]) -> bool:
            rollout = self.rollout()
            return rollout["rollout"] == number and rollout["state"] in states

        await self.heard.wait_for(is_there, timeout_s=LONGEST_S)

    async def until_told(self, key: str, *values: str) -> None:
        """Wait until that is what is published of the boards, in whatever order.

        A topic that waits for the broker keeps its place when there is something newer to say.
        """
        wanted = sorted(values)
        await self.heard.wait_for(
            lambda _: sorted(each[key] for each in self.told()) == wanted, timeout_s=LONGEST_S
        )

    def samples(self) -> dict[tuple[str, str], list[int]]:
        """Return the numbers of samples, by device and boot, as they came; each once."""
        numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
        for message in self.heard.messages:
            if message.topic.endswith(("/state", "/history")) and message.payload:
                body = message.json()
                for sample in body if isinstance(body, list) else [body]:
                    device, boot, number = sample["id"].split("/")
                    numbers[device, boot].append(int(number))
        return {key: sorted(set(each)) for key, each in numbers.items()}

    def assert_nothing_is_lost(self) -> None:
        assert not self.newest("/gap")
        for key, numbers in self.samples().items():
            assert numbers == [*range(numbers[0], numbers[-1] + 1)], key


@asynccontextmanager
async def installation(
    micropython: Path, broker: Broker, folder: Path, count: int, key: bytes = b""
) -> AsyncIterator[Installation]:
    interpreter = await asyncio.to_thread(find_interpreter, str(micropython))
    boards = await asyncio.to_thread(slot_boards, folder, count, interpreter, CONFIG, key)
    heard = Subscriber(broker.host, broker.port, f"{BASE}/#")
    async with asyncio.timeout(2 * LONGEST_S), heard, asyncio.TaskGroup() as tasks:
        site = Installation(folder, boards, heard, broker.port)
        running = [tasks.create_task(board.run()) for board in boards]
        yield site
        for task in running:
            task.cancel()


async def try_without_the_keys(site: Installation) -> None:
    """Who does not know the boards' keys cannot update them; then the gateway learns them."""
    old = packed(firmware("0.0.1"))
    await site.ask("update", all=True, downgrade=True, bundle=old)
    await site.until(1, "done")
    await site.until_told("state", "refused", "refused")
    assert all("key" in each["reason"] for each in site.told())
    for listed in (await site.ask("devices"))["devices"]:
        await site.ask("keep_key", device=listed["device"], key=KEY.hex())


def packed(bundle: Bundle) -> str:
    """Return a bundle as the socket takes it."""
    return base64.b64encode(to_archive(bundle)).decode()


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
