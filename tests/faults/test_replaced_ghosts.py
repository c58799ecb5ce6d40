"""Boards replace each other while the gateway is killed: the broker retains what there is.

A real mosquitto, and gateways in processes of their own. Who is who is learned from the gateway;
what the broker has must go with it. What Home Assistant knows of who is replaced is overwritten,
and never cleared.
"""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.figures import Figures
from tests.support.nest import Hatched, Nest
from tests.support.retained_set import retained_set
from tests.support.subscriber import Subscriber

SEED = 20_261_123
SETTLE_TIMEOUT_S = 20.0
BASE = "edge/test"
DISCOVERY = "homeassistant/device/edge_test"
KEYS = ["board_1", "board_2", "board_3"]
OWN = {"status", "health", "rollout"}

Known = dict[str, dict[str, Any]]


class Farm:
    """One broker, and one gateway after the other."""

    def __init__(
        self, nest: Nest, broker: Broker, folder: Path, chance: random.Random, seen: Subscriber
    ) -> None:
        self.nest = nest
        self.broker = broker
        self.folder = folder
        self.chance = chance
        self.seen = seen
        self.seq = 0
        self.replaced = self.undone = 0
        self.gateway: Hatched

    def hatch(self) -> None:
        self.gateway = self.nest.hatch(
            {
                "gateway": {"name": "test"},
                "mqtt": {"host": self.broker.host, "port": self.broker.port},
                "serial": {"enabled": False},
                "ble": {"enabled": False},
                "outbox": {"path": str(self.folder / "outbox.db")},
            }
        )

    def known(self) -> Known:
        known: Known = self.gateway.ask("known")
        return known

    def comes(self, key: str) -> None:
        """Have a board say what it is, and measure."""
        sensors = self.chance.sample(["air", "soil"], self.chance.randint(1, 2))
        actuators = {each: True for each in ("pump", "lamp") if self.chance.random() < 0.5}
        self.gateway.ask("seen", key=key, sensors=sensors, actuators=actuators)
        self.seq += 1
        values = dict.fromkeys(sensors, 1.0)
        self.gateway.ask("sample", key=key, boot=1, seq=self.seq, values=values)

    async def step(self) -> None:
        """Have something happen, and look at the broker when it is over."""
        key, other = self.chance.sample(KEYS, 2)
        match self.chance.choice(["comes", "leaves", "rename", "remove", "restart", *["by"] * 4]):
            case "comes":
                self.comes(key)
            case "leaves" if key in self.known():
                self.gateway.ask("left", key=key)
            case "rename" if key in self.known():
                self.gateway.ask("rename", key=key, name=self.chance.choice(["Attic", "Roof", ""]))
            case "remove" if key in self.known():
                self.gateway.ask("left", key=key)
                self.gateway.ask("remove", key=key)
            case "restart":
                self.gateway.kill()
                self.hatch()
            case "by":
                for each in {key, other} - self.known().keys():
                    self.comes(each)
                await self.look()
                await self.replace(key, other)
        await self.look()

    async def replace(self, old: str, new: str) -> None:
        """Have a board replaced, and perhaps the gateway killed: all of it is done, or nothing."""
        before = self.known()
        self.comes(new)  # one that is away does not replace one that is there
        if self.chance.random() < 0.5:
            refused = self.gateway.ask("replace", key=old, by=new)
            assert not refused, refused
        else:
            self.gateway.begin("replace", key=old, by=new)
            await asyncio.sleep(self.chance.choice([0.0, 0.001, 0.003, 0.01, 0.03]))
            self.gateway.kill()
            self.hatch()
        after = self.known()
        if old in after:
            self.undone += 1
            assert [after[each]["identity"] for each in (old, new)] == [
                before[each]["identity"] for each in (old, new)
            ]
        else:
            self.replaced += 1
            named = ("identity", "level", "own_level")
            assert [after[new][each] for each in named] == [before[old][each] for each in named]
        topic = f"{DISCOVERY}_{before[old]['identity']}/config"
        cleared = sum(not each.payload for each in self.seen.on(topic))
        await self.look()
        assert sum(not each.payload for each in self.seen.on(topic)) == cleared

    async def look(self) -> None:
        """Wait until the broker retains what there is."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            problems = ["not settled"]
            while problems:
                await asyncio.sleep(0.005)
                if self.gateway.ask("is_settled", connects=1):
                    found = await asyncio.to_thread(
                        retained_set, self.broker.host, self.broker.port
                    )
                    problems = wrong(found, self.known())


def wrong(found: dict[str, bytes], known: Known) -> list[str]:
    """Return in words what is not as it should be."""
    problems = []
    discovered = {each for each in found if each.startswith(DISCOVERY)}
    wanted = {f"{DISCOVERY}_{each['identity']}/config" for each in known.values()}
    if discovered != wanted | {f"{DISCOVERY}/config"}:
        problems.append(f"discovery: {sorted(discovered)} instead of {sorted(wanted)}")
    tops = {each.split("/")[2] for each in found if each.startswith(f"{BASE}/")}
    if tops - OWN != {each["level"] for each in known.values()}:
        problems.append(f"levels: {sorted(tops)}")
    for key, each in known.items():
        top, identity = f"{BASE}/{each['level']}", each["identity"]
        info = json.loads(found.get(f"{top}/info", b"{}"))
        sensors = [sensor["key"] for sensor in info.get("sensors", ())]
        if (info.get("device"), sensors) != (key, each["sensors"]):
            problems.append(f"{top}/info: {info}")
        payload = found.get(f"{DISCOVERY}_{identity}/config", b"{}")
        announced = json.loads(payload).get("components", {}).values()
        ids = [each["unique_id"] for each in announced if "unique_id" in each]
        if not all(each.startswith(f"edge.test.{identity}.") for each in ids):
            problems.append(f"{identity}: {ids}")
        states = {each.split("/")[3] for each in found if each.startswith(f"{top}/")} - {
            *("info", "availability", "state", "diagnostics"),
            *each["actuators"],
        }
        if states:
            problems.append(f"ghosts below {top}: {states}")
    return problems


@pytest.mark.timeout(900)
async def test_boards_replace_each_other_and_leave_no_ghosts(
    mosquitto_bin: Path, tmp_path: Path, figures: Figures, *, soak: bool
) -> None:
    chance = random.Random(SEED)
    with Nest.ready(tmp_path) as nest, Broker.running(mosquitto_bin, tmp_path) as broker:
        async with Subscriber(broker.host, broker.port, "homeassistant/device/#") as seen:
            farm = Farm(nest, broker, tmp_path, chance, seen)
            farm.hatch()
            try:
                for key in KEYS:
                    farm.comes(key)
                for _ in range(1000 if soak else 30):
                    await farm.step()
            finally:
                farm.gateway.kill()

    assert farm.replaced > 3, f"seed {SEED}"
    figures("boards replaced, and not for a kill", f"{farm.replaced}, {farm.undone}")
