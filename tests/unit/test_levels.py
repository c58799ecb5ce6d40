"""Levels: who gets a name, who makes way, who gets it back."""

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.devices.device import Declared, Device
from gateway.devices.levels import Levels
from gateway.errors import RequestError
from gateway.model import Description
from gateway.mqtt.names import Names


class Town:
    """Devices that are called as they are given to be."""

    def __init__(self, *keys: str) -> None:
        self.levels = Levels(Names())
        self.devices: dict[str, Device] = {}
        for key in keys:
            self.add(key)

    def add(self, key: str) -> None:
        level = self.levels.give_new(key)
        said = Description(key, key, "board")
        self.devices[key] = Device(key, level, said, said, own_level=level)

    def call(self, key: str, name: str) -> None:
        device = self.devices[key]
        device.level = device.own_level = self.levels.give_named(key, name)

    def remove(self, key: str) -> None:
        del self.devices[key]
        self.levels.take_back(key)

    def configure(self, **names: str) -> None:
        declared = {key: Declared(name) for key, name in names.items()}
        for _ in self.follow(self.levels.reconfigure(declared, [*self.devices.values()])):
            pass

    def give_back(self) -> dict[str, str]:
        """Return who got what."""
        return {
            key: self.devices[key].level
            for key in self.follow(self.levels.give_back([*self.devices.values()]))
        }

    def follow(self, moves: Iterator[tuple[Device, str]]) -> Iterator[str]:
        for device, level in moves:
            device.level = level
            yield device.key

    @property
    def called(self) -> Mapping[str, str]:
        return {key: device.level for key, device in self.devices.items()}


def test_who_made_way_for_the_configuration_has_a_number_until_it_lets_go() -> None:
    town = Town("board_1", "board_2")
    town.call("board_1", "Cellar")
    town.configure(board_2="Cellar")
    assert town.called == {"board_1": "cellar_2", "board_2": "cellar"}

    town.remove("board_2")
    assert town.give_back() == {}, "what is configured is kept for it, also while it is not there"
    town.configure()

    assert town.called == {"board_1": "cellar"}


def test_a_name_that_was_given_up_goes_to_who_waits_for_it() -> None:
    town = Town("board_1", "board_2")
    town.call("board_1", "Attic")
    town.configure(board_1="Roof")
    town.call("board_2", "Attic")
    town.configure()
    assert town.called == {"board_1": "attic_2", "board_2": "attic"}

    town.call("board_2", "Cellar")

    assert town.give_back() == {"board_1": "attic"}
    assert town.give_back() == {}


def test_who_gets_his_name_back_leaves_one_that_another_waits_for() -> None:
    town = Town("fourth", "second", "first", "third")
    town.call("second", "Attic 2")
    town.call("first", "Attic")
    town.configure(first="Roof", second="Shed")
    town.call("third", "Attic")
    town.configure(second="Shed")
    town.configure()
    assert town.called == {
        "first": "attic_2",
        "second": "attic_2_2",
        "third": "attic",
        "fourth": "fourth",
    }

    town.call("third", "Cellar")

    assert town.give_back() == {"first": "attic", "second": "attic_2"}


def test_a_number_of_a_new_device_is_its_own() -> None:
    town = Town("board_1")
    town.call("board_1", "attic")
    town.add("attic")
    assert town.called["attic"] == "attic_2"

    town.remove("board_1")

    assert town.give_back() == {}
    assert town.called == {"attic": "attic_2"}


@pytest.mark.parametrize(
    ("name", "why"), [("board_2", "another"), ("Attic", "another"), ("Status", "gateway's own")]
)
def test_a_name_that_cannot_be_had_changes_nothing(name: str, why: str) -> None:
    town = Town("board_1", "board_2")
    town.call("board_2", "Attic")

    with pytest.raises(RequestError, match=why):
        town.call("board_1", name)

    assert town.levels.names.level("board_1") == "board_1"


KEYS = ["board_1", "board_2", "attic", "attic_2"]
keys = st.sampled_from(KEYS)
names = st.sampled_from(["Attic", "attic 2", "Cellar", "board_2", ""])


class Life(RuleBasedStateMachine):
    """Whatever people do, nobody waits for a name that is free, and none is had twice."""

    def __init__(self) -> None:
        super().__init__()
        self.town = Town(*KEYS[:2])
        self.declared: dict[str, str] = {}

    @rule(key=keys)
    def comes(self, key: str) -> None:
        if key not in self.town.devices:
            self.town.add(key)

    @rule(key=keys)
    def goes(self, key: str) -> None:
        if key in self.town.devices:
            self.town.remove(key)
            self.town.give_back()

    @rule(key=keys, name=names)
    def is_renamed(self, key: str, name: str) -> None:
        if key in self.town.devices and not self.declared.get(key):
            try:
                self.town.call(key, name)
            except RequestError:
                return
            self.town.give_back()

    @rule(declared=st.dictionaries(keys, names, max_size=3))
    def is_configured(self, declared: dict[str, str]) -> None:
        slugs = [name.lower().replace(" ", "_") or key for key, name in declared.items()]
        if len({*slugs}) == len(slugs):
            self.declared = declared
            self.town.configure(**declared)

    @invariant()
    def all_have_what_they_may(self) -> None:
        called = self.town.called
        levels = self.town.levels
        assert len({*called.values()}) == len(called)
        assert {key: levels.names.level(key) for key in called} == called
        kept = {levels.configured(key) for key in self.declared}
        for key, level in called.items():
            wanted = levels.wanted(self.town.devices[key])
            assert level == wanted or wanted in kept or wanted in called.values(), key
            if levels.configured(key):
                assert level == wanted


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=50, stateful_step_count=20)
