"""What is asked about devices, and what is answered."""

from typing import TYPE_CHECKING, Any

import pytest

from gateway.admin.device_requests import DeviceRequests
from gateway.clock import Clock
from gateway.devices.device import Declared
from gateway.devices.registry import Devices
from gateway.errors import RequestError, StoreError
from gateway.model import Actuator, Description, Sample, Sensor
from gateway.mqtt import payloads
from gateway.mqtt.names import Names
from gateway.requests.admin import DeviceRequest, DevicesRequest, RemoveRequest, RenameRequest
from gateway.status import Status
from gateway.timekeeper import TimeKeeper
from tests.support.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.store.registry import Entry

NOW_S = 1000.0
UNIX_S = 1_795_330_800.0  # 2026-11-22T07:00:00Z


class Disk:
    """Keeps nothing if it fails."""

    def __init__(self) -> None:
        self.is_failing = False
        self.entry_of: Callable[[str], Entry | None] = lambda _key: None

    def save(self, key: str) -> None:
        """Take note."""

    async def wait_written(self) -> None:
        if self.is_failing:
            raise StoreError("not on the disk within 5 s")


class Bench:
    """A gateway with three boards, one of which is named in the configuration."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.shelf = Shelf()
        self.status = Status()
        self.forgotten: list[str] = []
        timekeeper = TimeKeeper(Clock(lambda: NOW_S, lambda: UNIX_S, "boot", lambda: True))
        self.devices = Devices(
            self.shelf,
            Names(),
            self.status,
            timekeeper,
            writer=self.disk,
            declared={"board_3": Declared(name="Cellar")},
        )
        for number in (2, 3, 1):
            self.devices.seen(f"usb{number}", described(f"board_{number}", f"ADDRESS-{number}"))
        self.requests = DeviceRequests(self.devices, self.status, timekeeper, self.forget)

    def forget(self, address: str) -> bool:
        self.forgotten.append(address)
        return True


def described(key: str, address: str) -> Description:
    return Description(
        key,
        f"Board {key[-1]}",
        "board",
        firmware="1.2",
        address=address,
        boot=7,
        sensors=(Sensor("temperature", "°C", source_key="t0"), Sensor("rssi")),
        actuators=(Actuator("pump", "Pump", "switch"),),
    )


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_devices_are_listed_by_key_with_what_came_of_them(bench: Bench) -> None:
    entry = bench.status.device("board_1")
    entry.received, entry.delivered, entry.lost, entry.last_s = 7, 6, 1, NOW_S - 60.0

    told = await bench.requests.list_all(DevicesRequest())

    assert told["devices"][0] == {
        "device": "board_1",
        "level": "board_1",
        "name": "Board 1",
        "driver": "board",
        "link": "usb1",
        "online": True,
        "enabled": True,
        "last_sample": "2026-11-22T06:59:00.000Z",
        "received": 7,
        "delivered": 6,
        "lost": 1,
    }
    assert [each["device"] for each in told["devices"]] == ["board_1", "board_2", "board_3"]
    assert [each["last_sample"] for each in told["devices"][1:]] == [None, None]
    assert told["devices"][2]["level"] == "cellar"
    assert (told["total"], told["more"]) == (3, False)


async def test_many_devices_come_in_several_answers(bench: Bench) -> None:
    first = await bench.requests.list_all(DevicesRequest(limit=2))
    rest = await bench.requests.list_all(DevicesRequest(limit=2, after="board_2"))

    assert [each["device"] for each in first["devices"]] == ["board_1", "board_2"]
    assert (first["more"], first["total"]) == (True, 3)
    assert [each["device"] for each in rest["devices"]] == ["board_3"]
    assert rest["more"] is False


async def test_an_answer_stays_below_what_brokers_take(bench: Bench) -> None:
    for number in range(190):
        bench.devices.seen("l" * 64, described(f"{number:03}{'k' * 61}", "A"))
        bench.devices.rename(f"{number:03}{'k' * 61}", f"{number:03} {'ü' * 60}")

    keys: list[str] = []
    is_more = True
    while is_more:
        told = await bench.requests.list_all(DevicesRequest(after=keys[-1] if keys else ""))
        assert 0 < len(payloads.answer("x" * 64, told)) < 64_000
        keys += [each["device"] for each in told["devices"]]
        is_more = told["more"]

    assert keys == sorted(device.key for device in bench.devices)
    assert len(keys) == 193


@pytest.mark.parametrize("name", ["board_3", "cellar"])
async def test_a_device_is_found_by_its_key_and_by_its_name_in_topics(
    bench: Bench, name: str
) -> None:
    told = await bench.requests.show(DeviceRequest(device=name))

    assert (told["device"], told["level"], told["name"]) == ("board_3", "cellar", "Cellar")
    assert (told["firmware"], told["address"], told["boot"]) == ("1.2", "ADDRESS-3", 7)
    assert "model" not in told
    assert told["known_since"] == "2026-11-22T07:00:00.000Z"
    assert told["sensors"] == [
        {"key": "temperature", "unit": "°C", "called_by_device": "t0"},
        {"key": "rssi"},
    ]
    assert told["actuators"] == [{"key": "pump", "name": "Pump", "kind": "switch"}]
    assert told["options"] == {}


async def test_what_is_measured_is_not_told(bench: Bench) -> None:
    bench.status.device("board_1").values["temperature"] = 21.123456
    sample = Sample("board_1", 7, 0, NOW_S, {"temperature": 21.123456})
    bench.devices.heard(sample.device)

    told: Any = [
        await bench.requests.show(DeviceRequest(device="board_1")),
        await bench.requests.list_all(DevicesRequest()),
    ]

    assert "21.123456" not in str(told)


async def test_a_rename_moves_what_is_retained(bench: Bench) -> None:
    told = await bench.requests.rename(RenameRequest(device="board_1", to="Green House"))

    assert told == {
        "device": "board_1",
        "level": "green_house",
        "name": "Green House",
        "kept": True,
    }
    assert bench.shelf.retained["green_house/availability"] == b"online"
    assert bench.shelf.retained["board_1/availability"] == b""
    again = await bench.requests.show(DeviceRequest(device="green_house"))
    assert again["device"] == "board_1"


@pytest.mark.parametrize(
    ("device", "to", "error"),
    [
        ("board_9", "x", 'there is no device "board_9"; `devices` lists them'),
        ("board_1", "Board_2", "another device"),
        ("board_1", "status", "the gateway's own"),
        ("board_3", "x", "named in the configuration"),
        ("cellar", "x", "named in the configuration"),
    ],
)
async def test_a_rename_that_cannot_be_changes_nothing(
    bench: Bench, device: str, to: str, error: str
) -> None:
    before = dict(bench.shelf.retained)

    with pytest.raises(RequestError, match=error):
        await bench.requests.rename(RenameRequest(device=device, to=to))

    assert bench.shelf.retained == before


async def test_a_removed_device_leaves_nothing_and_may_join_anew(bench: Bench) -> None:
    told = await bench.requests.remove(RemoveRequest(device="board_1"))

    assert told == {"device": "board_1", "level": "board_1", "kept": True}
    assert bench.forgotten == ["ADDRESS-1"]
    assert {payload for topic, payload in bench.shelf.retained.items() if "board_1" in topic} == {
        b""
    }
    with pytest.raises(RequestError, match="there is no device"):
        await bench.requests.show(DeviceRequest(device="board_1"))


async def test_what_the_disk_has_not_is_told_so(bench: Bench) -> None:
    bench.disk.is_failing = True

    renamed = await bench.requests.rename(RenameRequest(device="board_1", to="shed"))
    removed = await bench.requests.remove(RemoveRequest(device="board_2"))

    assert (renamed["level"], renamed["kept"]) == ("shed", False)
    assert (removed["level"], removed["kept"]) == ("board_2", False)
