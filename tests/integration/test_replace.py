"""A broken board is swapped: the daemon, a real mosquitto, two boards, somebody at the shell."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from gateway.simulate.light_board import LightBoard, load_board_code
from tests.support.broker import Broker
from tests.support.commander import Commander
from tests.support.commands import Done, gateway
from tests.support.daemon import Daemon, running_daemon
from tests.support.exactly_once import ExactlyOnce
from tests.support.requester import asking
from tests.support.retained_set import retained_set
from tests.support.subscriber import Subscriber

BASE = "edge/test"
DISCOVERY = "homeassistant/device/edge_test_{}/config"
OLD, NEW = "board-1", "board-2"
RING_BYTES = 1 << 16


class Site:
    """Two boards of one kind, and what runs beside them."""

    def __init__(self, folder: Path, mosquitto: Path) -> None:
        self.folder = folder
        (folder / "broker").mkdir()
        self.broker = Broker(mosquitto, folder / "broker", persistence=True)
        self.environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
        code = load_board_code()
        self.old, self.new = (
            LightBoard(
                *(code, folder / f"tty-{name}", name),
                interval_s=0.1,
                ring_bytes=RING_BYTES,
                has_relay=True,
            )
            for name in (OLD, NEW)
        )

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        folder = self.folder / "daemon"
        ports = f"{self.folder}/tty-*"
        async with running_daemon(
            folder, self.broker.port, ports, environment=self.environment
        ) as daemon:
            yield daemon

    async def replace(self, old: str, new: str) -> Done:
        config = str(self.folder / "daemon" / "gateway.toml")
        run = partial(
            gateway, "replace", old, new, "--config", config, environment=self.environment
        )
        return await asyncio.to_thread(run)

    async def retained(self) -> dict[str, bytes]:
        return await asyncio.to_thread(retained_set, self.broker.host, self.broker.port)


@asynccontextmanager
async def site_in(folder: Path, mosquitto: Path) -> AsyncIterator[Site]:
    site = Site(folder, mosquitto)
    await asyncio.to_thread(site.broker.start)
    try:
        yield site
    finally:
        site.old.close()
        site.new.close()
        await asyncio.to_thread(site.broker.stop)


def newest_of(subscriber: Subscriber, level: str) -> str:
    """Return whose the newest state of a level is; nothing while there is none."""
    said = [each for each in subscriber.on(f"{BASE}/{level}/state") if each.payload]
    return str(said[-1].json()["id"]).partition("/")[0] if said else ""


def announced(subscriber: Subscriber, identity: str, level: str) -> bool:
    """Tell whether Home Assistant knows somebody, and where to hear of him."""
    said = subscriber.on(DISCOVERY.format(identity))
    if not said or not said[-1].payload:
        return False
    document = said[-1].json()
    ids = [each.get("unique_id", "") for each in document["components"].values()]
    assert all(each.startswith(f"edge.test.{identity}.") for each in ids), ids
    return bool(document["state_topic"] == f"{BASE}/{level}/state")


async def begin(site: Site, subscriber: Subscriber) -> None:
    """Have both boards there, the old one as the greenhouse."""
    site.old.open()
    site.new.open()
    await subscriber.wait_for(lambda _: announced(subscriber, OLD, OLD))
    await subscriber.wait_for(lambda _: announced(subscriber, NEW, NEW))
    async with asking(site.broker.host, site.broker.port) as requester:
        await requester.ask("rename", device=OLD, to="Greenhouse")
    await subscriber.wait_for(lambda _: announced(subscriber, OLD, "greenhouse"))


async def unplug(board: LightBoard, at_least: int = 0) -> None:
    """Have it measure so much more, and unplug it when all of it is safe with the gateway."""
    told = asyncio.Event()
    board.on_activity = told.set
    enough = board.produced + at_least
    while board.is_producing or board.waiting:
        board.is_producing = board.produced < enough
        told.clear()
        await told.wait()
    board.close()


async def swap(site: Site) -> None:
    """Have the new board go on as the greenhouse; what cannot be is refused in words."""
    done = await site.replace("greenhouse", NEW)
    again = await site.replace("greenhouse", NEW)
    unknown = await site.replace(OLD, "nobody")

    assert done.code == 0, done
    assert f"{NEW} goes on in the place of {OLD}" in done.out
    assert "name              Greenhouse\n" in done.out
    assert f"topics            {BASE}/greenhouse/...\n" in done.out
    assert f"known as {OLD}\n" in done.out
    assert "goes on           number, temperature, relay\n" in done.out
    assert "edge-gateway update greenhouse --settings FILE" in done.out
    assert (again.code, unknown.code) == (1, 1)
    assert f"{NEW} is that device already" in again.err
    assert 'there is no device "nobody"' in unknown.err


async def come_back(site: Site, subscriber: Subscriber) -> None:
    """Have the old board plugged in again: it takes nothing back."""
    site.old.is_producing = True
    site.old.open()
    await subscriber.wait_for(lambda _: newest_of(subscriber, f"{OLD}_2") == OLD)
    await subscriber.wait_for(lambda _: announced(subscriber, f"{OLD}_2", f"{OLD}_2"))
    before = len(subscriber.on(f"{BASE}/greenhouse/state"))
    await subscriber.wait_for(lambda _: len(subscriber.on(f"{BASE}/greenhouse/state")) > before + 2)
    assert newest_of(subscriber, "greenhouse") == NEW


async def swap_back(site: Site) -> None:
    """Have the old board be the greenhouse again; a command that waits for the new one ends."""
    await unplug(site.new)
    async with Commander(site.broker.host, site.broker.port, BASE) as client:
        await client.until_heard("greenhouse/availability", b"offline")
        wish = {"transaction": "t1", "set": {"relay": True}, "expires_s": 600}
        await client.say("greenhouse/command", wish)  # the broker has it: it comes first
        async with asking(site.broker.host, site.broker.port) as requester:
            answer = await requester.ask("replace", device="greenhouse", by=f"{OLD}_2")
        result = await client.result("t1")
        await client.say("greenhouse/command", wish | {"transaction": "t2"})
        done = await client.result("t2")
        repeated = await client.result("t1")

    assert answer.data["device"] == answer.data["identity"] == OLD
    assert answer.data["commands_ended"] == 1
    assert result["status"] == repeated["status"] == "failed"
    assert f"{NEW} was replaced by {OLD}" in result["error"]
    assert done["status"] == "done"


def missing(subscriber: Subscriber, boards: list[LightBoard]) -> set[str]:
    """Return what was measured and did not come; nothing is lost, nor in one id with another."""
    once = ExactlyOnce()
    for message in subscriber.on(f"{BASE}/+/+"):
        if message.topic.endswith(("/state", "/history", "/gap")):
            once.feed(message.topic, message.payload)
    assert not once.gaps
    came = {f"{each.partition('/')[0]}/{said['number']}" for each, said in once.readings.items()}
    assert len(came) == len(once.readings)
    return {f"{board.name}/{number}" for board in boards for number in range(board.produced)} - came


async def test_a_board_is_swapped_and_nobody_notices_but_the_hardware(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(150),
        site_in(tmp_path, mosquitto_bin) as site,
        Subscriber(
            site.broker.host, site.broker.port, f"{BASE}/#", "homeassistant/device/#"
        ) as subscriber,
    ):
        async with site.daemon() as daemon:
            await begin(site, subscriber)
            await asyncio.to_thread(site.broker.stop)
            await unplug(site.old, at_least=5)  # what it measured now is on the disk alone
            waiting = len(subscriber.on(f"{BASE}/greenhouse/history"))
            await swap(site)
            await daemon.kill()
        await asyncio.to_thread(site.broker.start)

        async with site.daemon():
            await subscriber.wait_for(lambda _: newest_of(subscriber, "greenhouse") == NEW)
            await subscriber.wait_for(
                lambda _: len(subscriber.on(f"{BASE}/greenhouse/history")) > waiting
            )
            await come_back(site, subscriber)
            known = await site.retained()
            await swap_back(site)
            await subscriber.wait_for(lambda _: newest_of(subscriber, "greenhouse") == OLD)
            await unplug(site.old)
            await subscriber.wait_for(lambda _: not missing(subscriber, [site.old, site.new]))
        at_last = await site.retained()

    discovered = {each for each in known if each.startswith("homeassistant/")}
    assert {DISCOVERY.format(each) for each in (OLD, f"{OLD}_2")} <= discovered
    assert DISCOVERY.format(NEW) not in discovered
    info = json.loads(known[f"{BASE}/greenhouse/info"])
    assert (info["device"], info["identity"], info["name"]) == (NEW, OLD, "Greenhouse")
    tops = {each.split("/")[2] for each in at_last if each.startswith(f"{BASE}/")}
    assert tops == {"status", "health", "greenhouse"}
    assert all(each.payload for each in subscriber.on(DISCOVERY.format(OLD))), "entities were lost"
