"""Updates and commands over the radio: the daemon, and MicroPython boards with slots on the air."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.own_bundle import own_bundle
from gateway.simulate.boards import Ending, FirmwareBoard, Flash, Json
from gateway.simulate.firmware import find_interpreter
from gateway.simulate.radio.server import VirtualRadio
from gateway.simulate.slots import lay_out
from tests.support.broker import Broker
from tests.support.commander import Commander
from tests.support.slot_boards import newer_firmware
from tests.support.slot_site import BASE, LONGEST_S, Installation, installed, packed

KEY = bytes(range(32))
KEYED, SLEEPER = "0000000000a0", "0000000000b0"
CONFIG: dict[str, Json] = {
    "links": ["ble"],
    "sensors": [{"kind": "simulated", "name": "demo", "interval_ms": 200}],
    "actuators": [{"kind": "relay", "name": "pump", "pin": 5, "min_interval_ms": 0}],
    "watchdog_s": 0,
}
SLEEP: dict[str, Json] = {"durability": "batch", "sleep": {"interval_s": 2, "awake_s": 10}}


class Air:
    """A gateway with a radio, a board with a key, and one that sleeps."""

    def __init__(self, site: Installation, client: Commander) -> None:
        self.site = site
        self.client = client
        self.keyed, self.sleeper = f"linux-{KEYED}", f"linux-{SLEEPER}"
        self.transactions = 0

    def told(self, device: str) -> Any:  # noqa: ANN401 - JSON
        """Return what is published of a board's updates; empty before that."""
        found = [
            each.json() for topic, each in self.site.newest("/update").items() if device in topic
        ]
        return found[0] if found else {"state": ""}

    async def until(self, device: str, state: str, reason: str = "") -> None:
        def is_so(_messages: object) -> bool:
            told = self.told(device)
            return told["state"] == state and reason in told.get("reason", "")

        await self.site.heard.wait_for(is_so, timeout_s=LONGEST_S)

    async def pump(self, value: bool) -> dict[str, object]:
        """Set the keyed board's pump; return the result."""
        self.transactions += 1
        said = {"transaction": f"t{self.transactions}", "set": {"pump": value}, "expires_s": 20.0}
        await self.client.say(f"{self.keyed}/command", said)
        return await self.client.result(f"t{self.transactions}")


async def try_without_the_key(air: Air, bundle: str) -> None:
    """A board with a key is read, and neither commanded nor updated."""
    refused = await air.pump(value=True)
    assert refused["status"] == "failed"
    assert "this gateway has none for it" in str(refused["error"])
    await air.site.ask("update", devices=[air.keyed], bundle=bundle)
    await air.until(air.keyed, "refused", "key")


async def try_with_the_key(air: Air, bundle: str) -> None:
    await air.site.ask("keep_key", device=air.keyed, key=KEY.hex())
    assert (await air.pump(value=True))["status"] == "done"
    await air.site.ask("update", devices=[air.keyed], bundle=bundle)
    await air.until(air.keyed, "done")
    assert (await air.pump(value=False))["status"] == "done"


async def try_while_it_sleeps(air: Air, board: FirmwareBoard, bundle: str) -> None:
    """It is waited for, stays awake for the update and for its trial, and sleeps again."""
    while board.pid:  # noqa: ASYNC110 - until it sleeps; nobody tells of it
        await asyncio.sleep(0.005)
    await air.site.ask("update", devices=[air.sleeper], bundle=bundle)
    await air.until(air.sleeper, "trial")
    before = during = board.endings[Ending.DEEP_SLEEP]
    while True:
        naps = board.endings[Ending.DEEP_SLEEP]
        state = json.loads((board.root / "slots.json").read_text())
        if state["t"] is None:
            break
        during = naps
        await asyncio.sleep(0.01)
    await air.until(air.sleeper, "done")
    while board.endings[Ending.DEEP_SLEEP] < naps + 2:  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.01)

    assert during == before, "it slept amid its trial"
    assert board.endings[Ending.RESET] == 1, "into its trial, which needed one try"
    assert state["a"] == "b"


def boards(folder: Path, micropython: Path, radio: str) -> list[FirmwareBoard]:
    interpreter, own = find_interpreter(str(micropython)), own_bundle()
    made = []
    for board_id, key, more in ((KEYED, KEY, {}), (SLEEPER, b"", SLEEP)):
        root = folder / f"flash-{board_id}"
        lay_out(root, own.manifest, own.files, key)
        flash = Flash({**CONFIG, **more, "name": board_id})
        path = folder / f"port-{board_id}"
        made.append(FirmwareBoard(path, root, flash, interpreter, board_id=board_id, radio=radio))
    return made


async def test_boards_on_the_radio_are_commanded_and_updated_though_one_has_a_key_and_one_sleeps(
    micropython_bin: Path, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOARD_TRIAL_ALIVE_MS", "6000")  # longer than it is awake otherwise
    bundle = packed(await asyncio.to_thread(newer_firmware, tmp_path / "new"))
    async with VirtualRadio() as radio, Commander(broker.host, broker.port, BASE) as client:
        two = await asyncio.to_thread(boards, tmp_path, micropython_bin, radio.board_address)
        more = f'[ble]\nadapter = "virtual:{radio.hci_address}"\n'
        async with installed(two, broker, tmp_path, more) as site, site.daemon():
            air = Air(site, client)
            await site.all_there()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(try_while_it_sleeps(air, two[1], bundle))
                await try_without_the_key(air, bundle)
                await try_with_the_key(air, bundle)
            site.assert_nothing_is_lost()
