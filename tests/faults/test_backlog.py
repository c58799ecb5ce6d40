"""A day without a broker: a million samples wait on disk, and live ones do not wait behind them."""

import asyncio
import os
import random
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import TimeBase
from gateway.model import Sample
from gateway.simulate.faults.broker import BrokerProxy
from gateway.store.jobs import Job, Limits
from gateway.store.keeper import READ_RECORDS
from gateway.store.parcels import MAX_RECORDS, Parcel
from gateway.store.rows import Moment
from gateway.store.store import Store
from tests.support.broker import Broker
from tests.support.daemon import Daemon, running_daemon
from tests.support.figures import Figures
from tests.support.light import light_boards
from tests.support.subscriber import Received, Subscriber

SOAK = bool(os.environ.get("SOAK"))
pytestmark = [pytest.mark.alone, pytest.mark.timeout(600 if SOAK else 120)]

SAMPLES = 1_000_000
DEVICES = 50
BOARDS = 4
FEW = 30_000
MIB = 1 << 20

RATE = 8000
"""The cap in samples a second: above the default, so that each device has two turns meanwhile."""

MEASURE_S = 6.0

FAST = 20_000
"""The cap when all of it is drained: for so long that a late subscriber counts for little."""
BURST_S = 0.05
"""What the cap gives in so much time may go out at once (gateway/store/lanes.py)."""

ROWS = {"rows of 20 to 100": (20, 100)} | ({"rows of 1": (1, 1)} if SOAK else {})
"""How many samples a row has: boards that report every few seconds make those of one."""


def preload(path: Path, smallest: int, largest: int, samples: int = SAMPLES) -> None:
    """Store what was taken yesterday, in an earlier boot of the machine, in rows of some sizes."""
    rng = random.Random(1)
    store = Store(path, Limits())
    store.open_ledger()
    moment = Moment(1, TimeBase(time.time() - 86400.0, "synced"), 0.0)
    store.open(moment)
    stored = [0] * DEVICES
    parcels: list[Parcel] = []
    n = 0
    while min(stored) < samples // DEVICES:
        for device in range(DEVICES):
            name, first = f"device-{device:02}", stored[device]
            stored[device] = end = min(first + rng.randint(smallest, largest), samples // DEVICES)
            if first < end:
                n += 1
                taken = [Sample(name, 1, seq, seq * 4.32, {"n": seq}) for seq in range(first, end)]
                parcels.append(Parcel(n, name, taken, None, 0.0))
        if len(parcels) > 10_000:
            store.commit(Job(moment, parcels))
            parcels = []
    store.commit(Job(moment, parcels))
    store.close()


@dataclass(frozen=True)
class Million:
    """A store with a million samples, to be copied."""

    label: str
    folder: Path


@pytest.fixture(scope="module", params=ROWS)
def million(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Million:
    folder = tmp_path_factory.mktemp("million")
    preload(folder / "outbox.db", *ROWS[request.param])
    return Million(f"a million in {request.param}", folder)


def prepare(million: Million, folder: Path) -> None:
    """Give the gateway a copy that has been on disk for long: nothing of it is being written."""
    shutil.copytree(million.folder, folder / "state")
    (folder / "ports").mkdir()
    os.sync()  # else the kernel's writers hold up the ports for seconds: n_tty_poll waits for them


@dataclass
class Seen:
    """What has arrived, each message looked at once."""

    seqs: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Of each device with a backlog, what came on its history."""
    states: dict[str, float] = field(default_factory=dict)
    """When the first state of each device came."""
    online_s: list[float] = field(default_factory=list)
    """When the gateway said that it is there."""
    health: dict[str, Any] = field(default_factory=dict)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """When samples of a backlog came, and how many."""
    _looked_at: int = 0

    def look(self, messages: Sequence[Received]) -> "Seen":
        for message in messages[self._looked_at :]:
            device, _, kind = message.topic.removeprefix("edge/test/").partition("/")
            match kind:
                case "state":
                    self.states.setdefault(device, message.monotonic_s)
                case "history" if device.startswith("device-"):
                    samples = message.json()
                    self.seqs[device] += [sample["n"] for sample in samples]
                    self.arrivals.append((message.monotonic_s, len(samples)))
                case "":
                    if device == "health":
                        self.health = message.json()
                    elif device == "status" and message.json()["state"] == "online":
                        self.online_s.append(message.monotonic_s)
        self._looked_at = len(messages)
        return self

    @property
    def drained(self) -> int:
        """How many samples of the backlog came."""
        return sum(count for _, count in self.arrivals)

    def states_of_backlog(self) -> list[float]:
        return [at_s for device, at_s in self.states.items() if device.startswith("device-")]

    def states_of_boards(self) -> list[float]:
        return [at_s for device, at_s in self.states.items() if device.startswith("light-")]

    def check_order(self) -> None:
        """Fail unless each device's backlog came in order, from its first sample on."""
        for device, seqs in self.seqs.items():
            assert seqs == list(range(len(seqs))), device


def environment(state: Path) -> Mapping[str, str]:
    """Return the environment of a user, whose outbox is in `state`."""
    mine = {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}
    return mine | {"STATE_DIRECTORY": str(state)}


def peak_bytes(daemon: Daemon) -> int:
    """Return the most memory a process had. Source: proc_pid_status(5), VmHWM, in kB."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@asynccontextmanager
async def gateway(folder: Path, port: int, state: Path, drain_rate: int) -> AsyncIterator[Daemon]:
    async with running_daemon(
        folder / "daemon",
        port,
        f"{folder}/ports/*",
        more=f"[outbox]\ndrain_rate = {drain_rate}\n",
        environment=environment(state),
    ) as daemon:
        yield daemon


async def memory_without_backlog(folder: Path, broker: Broker) -> int:
    """Return the most memory that the daemon has with the same boards, and nothing on disk."""
    async with (
        light_boards(folder / "ports", BOARDS, 0.2) as boards,
        gateway(folder, broker.port, folder / "empty", RATE) as daemon,
    ):
        await asyncio.sleep(MEASURE_S / 2)  # it has all its memory in the first second
        assert (await boards.ask("stats"))["joined"] == BOARDS
        return peak_bytes(daemon)


def rate_of(arrivals: Sequence[tuple[float, int]], from_s: float, to_s: float) -> float:
    """Return how many samples a second came between two moments."""
    return sum(count for at_s, count in arrivals if from_s < at_s <= to_s) / (to_s - from_s)


async def test_a_million_samples_on_disk_delay_no_live_one_and_drain_at_the_cap(
    million: Million, broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    prepare(million, tmp_path)
    seen = Seen()
    async with (
        light_boards(tmp_path / "ports", BOARDS, 0.2),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
    ):
        started_s = time.monotonic()
        async with gateway(tmp_path, broker.port, tmp_path / "state", RATE) as daemon:
            await subscriber.wait_for(lambda m: len(seen.look(m).states_of_boards()) == BOARDS)
            await subscriber.wait_for(lambda m: len(seen.look(m).states_of_backlog()) == DEVICES)
            from_s = time.monotonic()
            await asyncio.sleep(MEASURE_S)
            to_s = time.monotonic()
            with_bytes = peak_bytes(daemon)
    grown_bytes = with_bytes - await memory_without_backlog(tmp_path, broker)
    seen.look(subscriber.messages)
    first_s = min(seen.states_of_boards())
    rate = rate_of(seen.arrivals, from_s, to_s)
    lag_s = seen.health["loop_lag_s"]["p99"]
    figures(f"{million.label}: start to a live value", f"{first_s - started_s:.2f} s", "2 s")
    figures(
        f"{million.label}: connection to a live value",
        f"{first_s - seen.online_s[0]:.2f} s",
        "1 s",
    )
    newest_s = max(seen.states_of_backlog()) - seen.online_s[0]
    figures(
        f"{million.label}: connection to all newest values, checks included", f"{newest_s:.2f} s"
    )
    figures(f"{million.label}: drain rate", f"{rate:.0f}/s", f"{RATE}/s +-10 %")
    figures(f"{million.label}: more memory", f"{grown_bytes / MIB:.1f} MiB", "30 MiB")
    figures(f"{million.label}: loop lag p99", f"{lag_s * 1000:.0f} ms", "100 ms")
    seen.check_order()
    counts = [len(seqs) for seqs in seen.seqs.values()]
    assert max(counts) - min(counts) <= 2 * (READ_RECORDS + MAX_RECORDS), "devices take turns"
    assert len(counts) == DEVICES
    assert first_s - started_s < 2.0
    assert first_s - seen.online_s[0] < 1.0
    assert 0.9 * RATE < rate < 1.1 * RATE
    assert grown_bytes < 30 * MIB
    assert lag_s < 0.1


async def test_after_an_outage_each_device_has_its_newest_value_within_a_second(
    million: Million, broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    prepare(million, tmp_path)
    seen = Seen()
    async with (
        BrokerProxy(broker.host, broker.port) as proxy,
        light_boards(tmp_path / "ports", BOARDS, 0.2),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
    ):
        proxy.refuse()
        async with (
            asyncio.timeout(60),
            gateway(tmp_path, proxy.port, tmp_path / "state", RATE) as daemon,
        ):
            await daemon.wait_for_log("records of 50 devices wait on disk")
            await daemon.wait_for_log("light-0003 on light-0003")
            proxy.accept()
            everybody = DEVICES + BOARDS
            await subscriber.wait_for(lambda m: len(seen.look(m).states) == everybody, 40)
            first_s, last_s = min(seen.states.values()), max(seen.states.values())
            (online_s,) = seen.online_s

            seen.states.clear()
            proxy.cut()
            await subscriber.wait_for(lambda m: len(seen.look(m).states) == everybody, 40)
            again_s = max(seen.states.values()) - seen.online_s[-1]
    seen.look(subscriber.messages)
    figures(
        f"{million.label}: reconnection to the first newest value",
        f"{first_s - online_s:.2f} s",
        "1 s",
    )
    figures(
        f"{million.label}: reconnection to that of each device",
        f"{last_s - online_s:.2f} s",
        "1 s",
    )
    figures(f"{million.label}: the same in the midst of draining", f"{again_s:.2f} s", "1 s")
    assert last_s - online_s < 1.0
    assert again_s < 1.0


async def test_a_backlog_is_drained_to_its_last_sample_in_order(
    broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    samples = SAMPLES if SOAK else FEW
    preload(tmp_path / "state" / "outbox.db", 20, 100, samples)
    (tmp_path / "ports").mkdir()
    seen = Seen()
    async with (
        light_boards(tmp_path / "ports", BOARDS, 0.2),
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        gateway(tmp_path, broker.port, tmp_path / "state", FAST),
    ):
        await subscriber.wait_for(lambda m: seen.look(m).drained >= samples, 300)
    seen.check_order()
    assert {len(seqs) for seqs in seen.seqs.values()} == {samples // DEVICES}
    (first_s, _), *_, (last_s, _) = seen.arrivals
    rate = (samples - FAST * BURST_S) / (last_s - first_s)  # that much may go out at once
    figures(f"{samples} samples drained in order", f"{rate:.0f}/s", f"at most {FAST}/s")
    assert rate < FAST * 1.1
