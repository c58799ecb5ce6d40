"""What is answered when a board is replaced, what the new one is told, and how it is put."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.device_requests import DeviceRequests
from gateway.admin.intervals import Intervals
from gateway.admin.key_requests import KeyRequests
from gateway.admin.replace_requests import ReplaceRequests
from gateway.cli.replace import told
from gateway.clock import Clock
from gateway.commands.letter import End
from gateway.config.models import Settings
from gateway.devices.registry import Devices
from gateway.errors import RequestError
from gateway.model import Actuator, Description, Gone, Sensor
from gateway.mqtt.names import Names
from gateway.protocol.fields import Json
from gateway.protocol.sealed import key_id
from gateway.protocol.session_events import Outcome
from gateway.requests.admin import DevicesRequest, ReplaceRequest
from gateway.requests.local import KeysRequest, RemoveKeyRequest
from gateway.status import Status
from gateway.store.keys import KeyStore
from gateway.timekeeper import TimeKeeper
from gateway.updates.service import Updates
from tests.support.shelf import Shelf
from tests.support.updates import Disk, Others, Road, firmware

AIR, SOIL, LIGHT = Sensor("air"), Sensor("soil"), Sensor("light")
KEY, OTHER_KEY = bytes(range(32)), b"\xb2" * 32
PUMP = Actuator("pump", "Pump", "switch")
CLIMATE = {"interval_ms": {"climate": 5000}}


class Bench:
    """A gateway with an old board that is gone, and a new one."""

    def __init__(self) -> None:
        status = Status()
        timekeeper = TimeKeeper(Clock(lambda: 1000.0, lambda: 2e9, "boot", lambda: True))
        self.devices = Devices(Shelf(), Names(), status, timekeeper)
        self.asked: list[tuple[str, str, Any]] = []
        self.end = End(Outcome.DONE)
        self.replaced_commands: list[tuple[str, str]] = []
        self.intervals = Intervals(self.devices, self, Others())
        self.updates = Updates(
            devices=self.devices,
            outlet=Shelf(),
            journal=Disk(),
            road=Road,
            timekeeper=timekeeper,
            others=Others(),
            own=firmware,
        )
        self.updates.take([])
        self.about = DeviceRequests(self.devices, status, timekeeper, lambda _address: False)
        self.requests = ReplaceRequests(
            self.about.find, self.devices, self, self.updates, self.intervals
        )
        self.seen("old", sensors=(AIR, SOIL), actuators=(PUMP,))
        self.devices.left("port", Gone("old", "unplugged"))
        self.devices.set_options("old", CLIMATE)
        self.seen("new", sensors=(LIGHT, AIR), actuators=(PUMP,))
        self.intervals.ready("port", "new", "1.1")

    def seen(self, key: str, **given: Any) -> None:  # noqa: ANN401 - any field
        self.devices.seen("port", Description(key, f"Board {key}", "board", slot="a", **given))

    async def call(
        self, device: str, name: str, arguments: Json = None, expires_s: float = 0.0
    ) -> End:
        del expires_s
        self.asked.append((device, name, arguments))
        return self.end

    def replaced(self, device: str, by: str) -> int:
        self.replaced_commands.append((device, by))
        return 2

    async def replace(self, device: str = "old", by: str = "new") -> dict[str, Any]:
        return await self.requests.replace(ReplaceRequest(device=device, by=by))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_it_is_told_what_went_on_and_what_did_not(bench: Bench) -> None:
    bench.updates.begin(firmware(), ["old"])

    assert await bench.replace() == {
        "device": "new",
        "replaced": "old",
        "identity": "old",
        "level": "old",
        "name": "Board old",
        "driver": "board",
        "goes_on": ["air", "pump"],
        "missing": ["soil"],
        "new": ["light"],
        "interval_ms": {"climate": 5000},
        "applied": True,
        "commands_ended": 2,
        "rollouts_ended": [1],
        "kept": True,
    }
    assert bench.replaced_commands == [("old", "new")]
    assert bench.asked == [("new", "interval", {"climate": 5000})]
    (listed,) = (await bench.about.list_all(DevicesRequest()))["devices"]
    assert (listed["device"], listed["identity"], listed["level"]) == ("new", "old", "old")


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome.FAILED, "no stream climate; it is told again each time it has restarted"),
        (Outcome.EXPIRED, "it is told when it comes the next time"),
    ],
)
async def test_an_interval_that_the_new_board_does_not_take_is_kept(
    bench: Bench, outcome: Outcome, why: str
) -> None:
    bench.end = End(outcome, error="no stream climate")

    answer = await bench.replace()

    assert (answer["applied"], answer["reason"]) == (False, why)
    device = bench.devices.get("new")
    assert device is not None
    assert device.options == CLIMATE


async def test_a_board_that_is_away_is_told_its_interval_when_it_comes(bench: Bench) -> None:
    new = bench.devices.get("new")
    assert new is not None
    await bench.intervals.set(new, {"climate": 1000}, 1.0)  # it knows its own, in this life
    bench.asked.clear()
    bench.intervals.left("port", "new")
    bench.devices.left("port", Gone("new", "unplugged"))

    answer = await bench.replace()
    asked = [*bench.asked]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.intervals.run())
        await asyncio.sleep(0)
        bench.seen("new")
        bench.intervals.ready("port", "new", "1.1")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()

    assert (answer["applied"], asked) == (False, [])
    assert bench.asked == [("new", "interval", {"climate": 5000})]


async def test_a_board_that_sleeps_is_not_told_an_interval(bench: Bench) -> None:
    bench.seen("new", reset_cause="sleep")

    answer = await bench.replace()

    assert bench.asked == []
    assert "its own `sleep` says how often" in answer["reason"]


async def test_what_nobody_set_is_nobodys_to_tell(bench: Bench) -> None:
    bench.devices.set_options("old", {})

    answer = await bench.replace()

    assert (answer["interval_ms"], answer["applied"], bench.asked) == ({}, True, [])


async def test_who_is_not_known_is_told_by_the_name_that_was_given(bench: Bench) -> None:
    with pytest.raises(RequestError, match='there is no device "shed"'):
        await bench.replace(by="shed")
    with pytest.raises(RequestError, match='there is no device "shed"'):
        await bench.replace(device="shed")


async def test_each_board_keeps_its_own_key(bench: Bench, tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.load()
    store.put("old", KEY)
    store.put("new", OTHER_KEY)
    keys = KeyRequests(store, bench.devices, bench)
    bench.seen("new", key_id=key_id(OTHER_KEY))
    await bench.replace()

    rows = {each["device"]: each for each in (await keys.list_all(KeysRequest()))["keys"]}
    assert rows["old"]["replaced_by"] == "new"
    assert (rows["new"]["level"], rows["new"]["commanded"]) == ("old", True)
    assert "replaced_by" not in rows["new"]

    with pytest.raises(RequestError, match="new has that key"):
        await keys.remove(RemoveKeyRequest(device="new"))
    assert await keys.remove(RemoveKeyRequest(device="old")) == {"device": "old"}
    assert store.devices() == ["new"]
    with pytest.raises(RequestError, match="new has that key"):  # it is a name in topics now
        await keys.remove(RemoveKeyRequest(device="old"))


ANSWER: dict[str, Any] = {
    "device": "new",
    "replaced": "old",
    "identity": "old",
    "level": "greenhouse",
    "name": "Greenhouse",
    "driver": "board",
    "goes_on": ["air", "pump"],
    "missing": [],
    "new": [],
    "interval_ms": {},
    "applied": True,
    "commands_ended": 0,
    "rollouts_ended": [],
    "kept": True,
}


def said(**changed: object) -> str:
    settings = Settings.model_validate({"gateway": {"name": "attic"}})
    return "\n".join(told(settings, {**ANSWER, **changed}))


def test_what_was_done_is_said_in_words() -> None:
    assert said() == (
        """\
new goes on in the place of old
  name              Greenhouse
  topics            edge/attic/greenhouse/...
  Home Assistant    the device and its history go on, known as old
  goes on           air, pump
not taken over:
  sensors and pins  its config.json has them: `edge-gateway flash --config FILE`, or
                    `edge-gateway update greenhouse --settings FILE`
  key               each board has its own; the old one's is kept, see `keys remove`
old is a new device of another name, should it be plugged in again."""
    )


def test_what_is_missing_and_what_has_ended_is_said() -> None:
    words = said(
        missing=["soil"],
        new=["light"],
        goes_on=[],
        interval_ms={"climate": 5000},
        applied=False,
        reason="it sleeps",
        commands_ended=2,
        rollouts_ended=[3, 4],
    )

    assert "goes on           nothing that both boards have" in words
    assert "missing           soil: the new one has no such thing yet" in words
    assert "Home Assistant keeps them for a day" in words
    assert "new               light" in words
    assert (
        "sampling          climate every 5000 ms\n                    not there yet: it sl" in words
    )
    assert "2 waited for the old board: they have ended, not done" in words
    assert "the old board's part of rollout 3, 4 has ended" in words


def test_of_what_has_no_config_nothing_is_said_of_one() -> None:
    assert "config.json" not in said(driver="json_lines")
