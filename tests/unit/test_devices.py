"""The registry of devices: what is retained of whom, by which name, and what outlasts a start."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.clock import Clock
from gateway.devices.device import Declared, Device
from gateway.devices.newcomers import NEW_AT_ONCE, NEW_PAUSE_S
from gateway.devices.presence import GRACE_S
from gateway.devices.registry import FORGOTTEN_S, Devices
from gateway.devices.sayings import AWAITED_S
from gateway.errors import RequestError
from gateway.model import Actuator, Description, Gone, Sensor
from gateway.mqtt.names import Names
from gateway.status import Status
from gateway.store.registry import Entry, Registered
from gateway.timekeeper import TimeKeeper

TEMPERATURE = Sensor("temperature", "°C", "temperature", -2)
HUMIDITY = Sensor("humidity", "%", "humidity")
RELAY = Actuator("relay", "Relay", "switch", state=True)

LASTING = {"info", "state", "availability", "diagnostics", "relay/state"}
"""What the broker has of a device stays over a restart until there is something newer."""


class Shelf:
    """The broker's retained messages, as they are once all is published."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.claimed: set[str] = set()
        self.cleared: set[str] = set()
        self.emptied: set[str] = set()
        """Topics that were cleared at any time, though something may be there again."""
        self.loaded: list[str] = []

    def retain(self, subtopic: str, payload: bytes | None) -> None:
        if payload is None:
            self.retained.pop(subtopic, None)
            self.claimed.discard(subtopic)
            self.cleared.add(subtopic)
            self.emptied.add(subtopic)
        else:
            self.retained[subtopic] = payload
            self.cleared.discard(subtopic)

    def claim(self, subtopic: str) -> None:
        self.claimed.add(subtopic)
        self.cleared.discard(subtopic)

    def move_state(self, subtopic: str, to_subtopic: str) -> None:
        self.claim(to_subtopic)
        self.retain(subtopic, None)

    def load_retained(self, topics_noted: Iterable[str]) -> None:
        self.loaded += topics_noted

    def noted_topics(self) -> list[str]:
        return sorted(self.retained.keys() | self.claimed)

    def of(self, level: str) -> set[str]:
        """Return what may be retained below a level."""
        return {
            topic.partition("/")[2]
            for topic in self.retained.keys() | self.claimed
            if topic.startswith(f"{level}/")
        }


class Disk:
    """Keeps devices, as they are when it gets round to it."""

    def __init__(self) -> None:
        self.entry_of: Callable[[str], Entry | None] = lambda _key: None
        self.entries: dict[str, str] = {}
        self.changes = 0

    async def wait_written(self) -> None:
        """It writes at once."""

    def save(self, key: str) -> None:
        self.changes += 1
        entry = self.entry_of(key)
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = json.dumps(entry())

    def registered(self) -> Registered:
        return Registered({key: json.loads(text) for key, text in self.entries.items()})


@dataclass
class Told:
    """A listener that notes whom it was told of."""

    events: list[str] = field(default_factory=list)

    def device_changed(self, device: Device) -> None:
        self.events.append(f"{device.key} is {device.level}")

    def device_removed(self, device: Device) -> None:
        self.events.append(f"{device.key} was {device.level}")


class Bench:
    """One run of the gateway; `restart` begins the next one on the same disk."""

    def __init__(self, disk: Disk | None = None, **declared: Declared) -> None:
        self.now_s = 1000.0
        self.unix_s = 1_700_000_000.0
        self.disk = disk or Disk()
        self.declared = declared
        self.restart()

    def restart(self, **changes: Declared) -> None:
        self.declared = {**self.declared, **changes}
        clock = Clock(lambda: self.now_s, lambda: self.unix_s, "boot", lambda: True)
        self.shelf = Shelf()
        self.status = Status()
        self.told = Told()
        self.names = Names()
        self.devices = Devices(
            self.shelf,
            self.names,
            self.status,
            TimeKeeper(clock),
            writer=self.disk,
            declared=self.declared,
            describe=lambda said: said,
        )
        self.devices.add_listener(self.told)
        self.devices.restore(self.disk.registered())

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.unix_s += seconds
        self.devices.look_around()

    def seen(self, key: str = "board_1", **given: Any) -> None:  # noqa: ANN401 - any field
        self.devices.seen("usb0", described(key, **given))

    def info(self, level: str) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.shelf.retained[f"{level}/info"])


def described(key: str = "board_1", **given: Any) -> Description:  # noqa: ANN401 - any field
    return replace(
        Description(key, "Greenhouse", "board", sensors=(TEMPERATURE,), boot=7, crash="crash"),
        **given,
    )


def test_a_device_that_is_seen_is_announced_and_kept() -> None:
    bench = Bench()

    bench.seen(actuators=(RELAY,))

    assert bench.shelf.retained["board_1/availability"] == b"online"
    assert bench.shelf.retained["board_1/relay/state"] == b"true"
    assert bench.info("board_1")["device"] == "board_1"
    assert bench.info("board_1")["boot"] == 7
    assert "board_1/state" in bench.shelf.claimed
    assert bench.told.events == ["board_1 is board_1"]
    assert list(bench.disk.entries) == ["board_1"]


def test_known_devices_are_there_at_once_and_offline_after_a_grace() -> None:
    bench = Bench()
    bench.seen(actuators=(RELAY,))
    bench.seen("board_2")
    bench.restart()

    assert bench.told.events == ["board_1 is board_1", "board_2 is board_2"]
    assert bench.shelf.of("board_1") == LASTING
    assert set(bench.shelf.retained) == {"board_1/info", "board_2/info"}
    assert "boot" not in bench.info("board_1")
    assert [sensor["key"] for sensor in bench.info("board_1")["sensors"]] == ["temperature"]

    bench.pass_time(GRACE_S - 1)
    bench.seen("board_2")
    assert "board_1/availability" not in bench.shelf.retained
    bench.pass_time(1)

    assert bench.shelf.retained["board_1/availability"] == b"offline"
    assert bench.shelf.retained["board_2/availability"] == b"online"
    assert bench.info("board_2")["boot"] == 7


def test_a_board_that_sleeps_has_its_time_to_wake_also_after_a_restart() -> None:
    bench = Bench()
    bench.seen()
    bench.devices.left("usb0", Gone("board_1", "sleeps", back_in_s=600.0))
    bench.restart()

    bench.pass_time(1799)
    assert "board_1/availability" not in bench.shelf.retained
    bench.pass_time(2)

    assert bench.shelf.retained["board_1/availability"] == b"offline"


def test_the_disk_hears_of_what_changed_for_good_only() -> None:
    bench = Bench()
    bench.seen(actuators=(RELAY,))
    changes = bench.disk.changes

    bench.seen(actuators=(replace(RELAY, state=False),), boot=8, crash="", reset_cause="power")
    bench.devices.heard("board_1")
    bench.devices.heard("board_1")
    bench.devices.actuator_changed("board_1", replace(RELAY, state=True))
    bench.restart()
    bench.seen(actuators=(RELAY,))
    assert bench.disk.changes == changes

    bench.seen(sensors=(TEMPERATURE, HUMIDITY), actuators=(RELAY,))
    assert bench.disk.changes == changes + 1


def test_who_asks_by_the_name_people_read_is_told_the_name_in_topics() -> None:
    bench = Bench()
    bench.seen()

    assert bench.devices.who_is("greenhouse") == '; "Greenhouse" is board_1 in topics'
    assert bench.devices.who_is("cellar") == ""

    bench.seen("board_2")
    assert bench.devices.who_is("greenhouse") == ""  # which of the two?


def test_a_rename_moves_everything_and_lasts() -> None:
    bench = Bench()
    bench.seen(actuators=(RELAY,))
    bench.devices.retain("board_1", "diagnostics", b"{}")

    bench.devices.rename("board_1", "Attic  North")

    assert bench.shelf.of("attic_north") == {
        "info",
        "state",
        "availability",
        "relay/state",
        "diagnostics",
    }
    assert bench.shelf.of("board_1") == set()
    assert {"board_1/info", "board_1/state", "board_1/relay/state"} <= bench.shelf.cleared
    assert bench.info("attic_north")["name"] == "Attic North"
    assert bench.info("attic_north")["device"] == "board_1"
    assert bench.told.events[-1] == "board_1 is attic_north"
    assert bench.devices.find("attic_north") is bench.devices.get("board_1")

    bench.restart()
    assert bench.info("attic_north")["name"] == "Attic North"
    bench.devices.rename("board_1", "")
    assert bench.info("board_1")["name"] == "Greenhouse"
    assert bench.shelf.of("attic_north") == set()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("board_2", "another device, board_2"),
        ("Cellar", "another device, board_3"),
        ("Status", "gateway's own"),
    ],
)
def test_a_name_that_is_taken_is_refused_and_changes_nothing(name: str, why: str) -> None:
    bench = Bench(board_3=Declared("Cellar"))
    bench.seen()
    bench.seen("board_2")
    bench.devices.rename("board_2", "Roof")

    with pytest.raises(RequestError, match=why):
        bench.devices.rename("board_1", name)

    assert bench.info("board_1")["name"] == "Greenhouse"


def test_its_own_key_is_refused_to_a_device_if_it_is_anothers_name() -> None:
    bench = Bench(board_1=Declared("Attic"))
    bench.seen("attic")
    assert bench.devices.level("attic") == "attic_2"

    with pytest.raises(RequestError, match="another device, board_1"):
        bench.devices.rename("attic", "Attic")

    bench.devices.rename("attic", "")
    assert bench.devices.level("attic") == "attic_2"


def test_a_name_without_latin_letters_is_only_shown() -> None:
    bench = Bench()
    bench.seen()

    bench.devices.rename("board_1", "温室")

    assert bench.info("board_1")["name"] == "温室"


def test_the_configuration_names_devices_and_has_the_last_word() -> None:
    bench = Bench(board_1=Declared("Attic"))
    bench.seen("attic")  # whoever comes first
    bench.seen("board_1")

    assert bench.info("attic")["device"] == "board_1"
    assert bench.info("attic_2")["device"] == "attic"
    with pytest.raises(RequestError, match="configuration"):
        bench.devices.rename("board_1", "Cellar")

    bench.restart(board_1=Declared())
    assert bench.info("board_1")["name"] == "Greenhouse"
    assert bench.info("attic_2")["device"] == "attic"


@pytest.mark.parametrize("is_restarted", [False, True], ids=["reload", "restart"])
def test_names_of_the_configuration_can_be_exchanged(is_restarted: bool) -> None:
    bench = Bench(board_1=Declared("Attic"), board_2=Declared("Cellar"))
    for key in ("board_1", "board_2", "cellar"):
        bench.seen(key)
    exchanged = {"board_1": Declared("Cellar"), "board_2": Declared("Attic")}

    if is_restarted:
        bench.restart(**exchanged)
    else:
        bench.devices.reconfigure(exchanged)

    assert bench.info("cellar")["device"] == "board_1"
    assert bench.info("attic")["device"] == "board_2"
    assert bench.info("cellar_2")["device"] == "cellar"
    assert len({topic.partition("/")[0] for topic in bench.shelf.retained}) == 3


@pytest.mark.parametrize("is_restarted", [False, True], ids=["reload", "restart"])
def test_a_board_is_replaced_by_another_of_its_name(is_restarted: bool) -> None:
    bench = Bench(old=Declared("Kitchen"))
    bench.seen("old")
    bench.declared = {}

    if is_restarted:
        bench.restart(new=Declared("Kitchen"))
    else:
        bench.devices.reconfigure({"new": Declared("Kitchen")})
    bench.seen("new")

    assert bench.info("kitchen")["device"] == "new"
    assert bench.info("old")["device"] == "old"


@pytest.mark.parametrize("is_restarted", [False, True], ids=["reload", "restart"])
def test_the_configuration_may_give_away_what_another_is_called(is_restarted: bool) -> None:
    bench = Bench()
    bench.seen("board_1")
    bench.seen("board_2")
    declared = {"board_1": Declared("board_2")}

    if is_restarted:
        bench.restart(**declared)
    else:
        bench.devices.reconfigure(declared)

    assert bench.info("board_2")["device"] == "board_1"
    assert bench.info("board_2_2")["device"] == "board_2"
    bench.devices.reconfigure({})
    assert bench.info("board_2")["device"] == "board_2"
    assert bench.info("board_1")["device"] == "board_1"


def test_a_name_outlasts_a_board_that_is_called_so_by_itself() -> None:
    bench = Bench()
    bench.seen("zboard")
    bench.devices.rename("zboard", "Kitchen")
    bench.seen("kitchen")

    bench.restart()

    assert bench.info("kitchen")["device"] == "zboard"
    assert bench.info("kitchen_2")["device"] == "kitchen"


def test_of_two_with_one_name_the_one_that_had_it_last_keeps_it() -> None:
    bench = Bench()
    bench.seen("board_1")
    bench.seen("board_2")
    bench.devices.rename("board_1", "Attic")
    bench.devices.reconfigure({"board_1": Declared("Cellar")})
    bench.devices.rename("board_2", "Attic")
    bench.devices.reconfigure({})
    levels = {device.key: device.level for device in bench.devices}
    assert levels == {"board_1": "attic_2", "board_2": "attic"}

    bench.restart()

    assert {device.key: device.level for device in bench.devices} == levels


def give_up_by_rename(bench: Bench) -> None:
    bench.devices.rename("board_2", "Cellar")


def give_up_by_removal(bench: Bench) -> None:
    bench.devices.remove("board_2")


def give_up_by_being_forgotten(bench: Bench) -> None:
    bench.devices.left("usb0", Gone("board_2", "unplugged"))
    bench.pass_time(FORGOTTEN_S + 1)


@pytest.mark.parametrize(
    "give_up", [give_up_by_rename, give_up_by_removal, give_up_by_being_forgotten]
)
def test_who_made_way_has_his_name_again_as_soon_as_it_is_free(
    give_up: Callable[[Bench], None],
) -> None:
    bench = Bench()
    bench.seen("board_1", actuators=(RELAY,))
    bench.seen("board_2")
    bench.devices.rename("board_1", "Attic")
    bench.devices.reconfigure({"board_1": Declared("Roof")})
    bench.devices.rename("board_2", "Attic")
    bench.devices.reconfigure({})
    assert bench.info("attic_2")["device"] == "board_1"
    everything = bench.shelf.of("attic_2")

    give_up(bench)

    assert bench.info("attic")["device"] == "board_1"
    assert bench.shelf.of("attic") == everything
    assert bench.shelf.of("attic_2") == set()
    assert bench.told.events[-1] == "board_1 is attic"
    bench.restart()
    assert bench.info("attic")["device"] == "board_1"


def test_what_one_device_left_is_not_taken_over_by_the_next_of_its_name() -> None:
    bench = Bench(board_1=Declared("Attic"))
    bench.seen("board_1", actuators=(RELAY,))
    bench.seen("board_2", actuators=(RELAY,))

    bench.restart(board_1=Declared("Cellar"), board_2=Declared("Attic"))

    assert bench.shelf.of("attic") == bench.shelf.of("cellar") == {"info", "state"}
    assert {"attic/state", "cellar/state"} <= bench.shelf.emptied
    bench.restart()
    assert bench.shelf.of("attic") == LASTING
    assert bench.shelf.emptied == set()


def test_what_was_renamed_by_request_comes_back_when_the_configuration_lets_go() -> None:
    bench = Bench()
    bench.seen()
    bench.devices.rename("board_1", "Cellar")

    bench.devices.reconfigure({"board_1": Declared("Attic")})
    assert bench.shelf.of("attic") == {"info", "state", "availability"}
    assert bench.shelf.of("cellar") == set()

    bench.devices.reconfigure({})
    assert bench.shelf.of("cellar") == {"info", "state", "availability"}
    assert bench.shelf.of("attic") == set()


def test_of_a_device_that_was_removed_nothing_is_left() -> None:
    bench = Bench()
    bench.seen(actuators=(RELAY,))
    bench.devices.left("usb0", Gone("board_1", "unplugged"))

    bench.devices.remove("board_1")

    assert bench.shelf.of("board_1") == set()
    assert {f"board_1/{each}" for each in ("info", "state", "availability", "relay/state")} == (
        bench.shelf.cleared
    )
    assert bench.disk.entries == {}
    assert bench.told.events[-1] == "board_1 was board_1"
    bench.devices.heard("board_1")  # what waited in the outbox is no sign of life
    assert bench.devices.get("board_1") is None
    with pytest.raises(RequestError, match="no device"):
        bench.devices.remove("board_1")


def test_a_device_that_speaks_on_after_its_removal_is_a_new_one() -> None:
    bench = Bench()
    bench.seen()
    bench.devices.rename("board_1", "Attic")

    bench.devices.remove("board_1")
    bench.devices.heard("board_1")

    assert bench.shelf.of("attic") == set()
    assert bench.shelf.of("board_1") == {"info", "state", "availability"}
    assert bench.info("board_1")["name"] == "Greenhouse"


def test_nothing_is_published_of_a_disabled_device() -> None:
    bench = Bench(board_1=Declared(is_enabled=False))

    bench.seen(actuators=(RELAY,))
    bench.devices.actuator_changed("board_1", RELAY)
    bench.devices.left("usb0", Gone("board_1", "unplugged"))
    bench.restart()

    assert bench.devices.disabled == {"board_1"}
    assert bench.shelf.of("board_1") == set()
    assert bench.told.events == []
    assert bench.devices.get("board_1") is not None


def test_a_device_can_be_disabled_and_enabled_while_it_runs() -> None:
    bench = Bench()
    bench.seen(actuators=(RELAY,))
    everything = bench.shelf.of("board_1")

    bench.devices.reconfigure({"board_1": Declared(is_enabled=False)})
    assert bench.shelf.of("board_1") == set()
    bench.devices.actuator_changed("board_1", replace(RELAY, state=False))

    bench.devices.reconfigure({"board_1": Declared()})
    assert bench.shelf.of("board_1") == everything
    assert bench.shelf.retained["board_1/relay/state"] == b"false"
    assert bench.told.events == [
        "board_1 is board_1",
        "board_1 was board_1",
        "board_1 is board_1",
    ]


def test_an_actuator_that_is_gone_leaves_nothing() -> None:
    bench = Bench()
    bench.seen(actuators=(RELAY, replace(RELAY, key="fan")))
    bench.restart()

    bench.seen(actuators=(RELAY,))

    assert bench.shelf.of("board_1") == LASTING
    assert "board_1/fan/state" in bench.shelf.cleared


def test_sensors_that_show_by_and_by_do_not_vanish_with_a_restart() -> None:
    bench = Bench()
    bench.seen(driver="csv_lines", sensors=(HUMIDITY, TEMPERATURE))
    bench.restart()

    bench.seen(driver="csv_lines", sensors=(TEMPERATURE,))
    assert [each["key"] for each in bench.info("board_1")["sensors"]] == ["humidity", "temperature"]

    bench.pass_time(AWAITED_S + 1)
    assert [each["key"] for each in bench.info("board_1")["sensors"]] == ["temperature"]


def test_a_board_says_which_sensors_it_has() -> None:
    bench = Bench()
    bench.seen(sensors=(HUMIDITY, TEMPERATURE))
    bench.restart()

    bench.seen(sensors=(TEMPERATURE,))

    assert [each["key"] for each in bench.info("board_1")["sensors"]] == ["temperature"]


def test_options_are_kept() -> None:
    bench = Bench()
    bench.seen()

    bench.devices.set_options("board_1", {"interval_s": 60})
    bench.restart()

    device = bench.devices.get("board_1")
    assert device is not None
    assert device.options == {"interval_s": 60}


def test_whoever_invents_names_wears_out_neither_disk_nor_broker() -> None:
    bench = Bench()
    for number in range(NEW_AT_ONCE + 500):
        bench.seen(f"invented_{number}")
    assert len(bench.devices) == NEW_AT_ONCE
    assert bench.status.counts == Counter(devices_refused=500)

    bench.pass_time(NEW_PAUSE_S)
    bench.seen("honest")
    bench.seen("too_soon")

    assert bench.devices.get("honest") is not None
    assert bench.devices.get("too_soon") is None
    assert len(bench.disk.entries) == NEW_AT_ONCE + 1


def test_who_never_had_a_sample_is_forgotten_after_a_day() -> None:
    bench = Bench()
    for key in ("useless", "proven", "relay"):
        bench.seen(key, actuators=(RELAY,) if key == "relay" else ())
    bench.devices.heard("proven")
    for key in ("useless", "proven", "relay"):
        bench.devices.left("usb0", Gone(key, "unplugged"))

    bench.pass_time(FORGOTTEN_S - 1)
    assert len(bench.devices) == 3
    bench.pass_time(2)

    assert {device.key for device in bench.devices} == {"proven", "relay"}
    assert bench.shelf.of("useless") == set()


def test_an_entry_of_nonsense_costs_that_device_only(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.seen()
    for key, entry in {
        "a": {},
        "b": {"level": "b", "description": 5},
        "c": {"level": "c", "description": {"device": "c", "name": {}, "driver": "board"}},
        "d": {"level": "d", "description": {"device": "d"}},
        "e": {"level": "e", "added_unix_s": [], "description": {}},
    }.items():
        bench.disk.entries[key] = json.dumps(entry)

    bench.restart()

    assert [device.key for device in bench.devices] == ["board_1"]
    assert len([each for each in caplog.records if "cannot be read" in each.message]) == 5
