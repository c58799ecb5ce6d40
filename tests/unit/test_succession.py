"""Hardware changes, and who it is stays: topics, entities, names, over restarts and comebacks."""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.clock import Clock
from gateway.devices.announcer import SETTLE_S, SPARED_S, TICK_S, Announcer
from gateway.devices.device import Declared
from gateway.devices.presence import GRACE_S
from gateway.devices.registry import Devices
from gateway.errors import RequestError
from gateway.model import Actuator, Batch, BatchKind, Description, Gone, Sample, Sensor
from gateway.mqtt.homeassistant.naming import Site
from gateway.mqtt.incoming import Handler
from gateway.mqtt.messages import Composer
from gateway.mqtt.names import Names
from gateway.mqtt.topics import Topics
from gateway.status import Status
from gateway.store.registry import Entry, Registered
from gateway.timekeeper import TimeKeeper
from tests.support.homeassistant_rules import problems_of

SITE = Site("attic", "edge/attic", "homeassistant", "1.2.3")
OWN = SITE.discovery_topic()
AIR = Sensor("air", "°C", "temperature", -2)
SOIL = Sensor("soil", "%", "moisture", 0)
LIGHT = Sensor("light", "lx", "illuminance", 0)
PUMP = Actuator("pump", "Pump", "switch", state=False)
LAMP = Actuator("lamp", "Lamp", "switch", state=True)


class Broker:
    """What is retained, and what was cleared, in order; every topic is noted at once."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.claimed: set[str] = set()
        self.noted: set[str] = set()
        self.cleared: list[str] = []
        self.documents: set[str] = set()

    def restart(self) -> None:
        """Let another run of the gateway begin."""
        self.claimed, self.documents = set(), set()

    def retain_at(self, topic: str, payload: bytes | None) -> None:
        if payload is None:
            self.claimed.discard(topic)
            self.documents.discard(topic)
            self.cleared.append(topic)
            self.retained.pop(topic, None)
        else:
            self.noted.add(topic)
            self.documents.add(topic)
            self.retained[topic] = payload

    def retain(self, subtopic: str, payload: bytes | None) -> None:
        self.retain_at(SITE.topic(subtopic), payload)

    def claim_at(self, topic: str) -> None:
        self.noted.add(topic)
        self.claimed.add(topic)

    def claim(self, subtopic: str) -> None:
        self.claim_at(SITE.topic(subtopic))

    def move_state(self, subtopic: str, to_subtopic: str) -> None:
        self.claim(to_subtopic)
        state = self.retained.get(SITE.topic(subtopic))
        if state is not None:
            self.retained[SITE.topic(to_subtopic)] = state
        self.retain(subtopic, None)

    def load_retained(self, topics_noted: Iterable[str]) -> None:
        for topic in sorted(topics_noted):
            if topic not in self.claimed | self.documents:
                self.retain_at(topic, None)

    def noted_topics(self) -> list[str]:
        return sorted(self.noted)

    def renew(self, topics_to_renew: Iterable[str]) -> None:
        """There is no birth."""

    def renew_states(self, subtopics: Iterable[str]) -> None:
        """There is no birth."""

    def subscribe(self, filters: Sequence[str], handler: Handler) -> None:
        """There is no birth."""

    def below(self, level: str) -> set[str]:
        """Return what is retained below a level."""
        top = SITE.topic(f"{level}/")
        return {each.removeprefix(top) for each in self.retained if each.startswith(top)}


class Disk:
    """Writes all that was changed in one turn in one change."""

    def __init__(self) -> None:
        self.entry_of: Callable[[str], Entry | None] = lambda _key: None
        self.entries: dict[str, str] = {}
        self.changes: list[set[str]] = []
        self._dirty: set[str] = set()

    async def wait_written(self) -> None:
        """It writes when the turn is over."""

    def save(self, key: str) -> None:
        self._dirty.add(key)

    def end_turn(self, *, is_killed: bool = False) -> None:
        """Write what was changed; if the gateway is killed, nothing of it."""
        dirty, self._dirty = self._dirty, set()
        if dirty and not is_killed:
            self.changes.append(dirty)
            for key in dirty:
                entry = self.entry_of(key)
                if entry is None:
                    self.entries.pop(key, None)
                else:
                    self.entries[key] = json.dumps(entry())

    def registered(self, topics: Iterable[str]) -> Registered:
        known = {key: json.loads(text) for key, text in self.entries.items()}
        return Registered(known, frozenset(topics))


class House:
    """A registry and its announcer, one run after the other on the same disk and broker."""

    def __init__(self, **declared: Declared) -> None:
        self.now_s = 1000.0
        self.unix_s = 1_795_330_800.0
        self.declared = declared
        self.broker, self.disk = Broker(), Disk()
        self.seq = 0
        self.restart()

    def restart(self, *came: str, is_killed: bool = False) -> None:
        """Begin another run; if it is killed, without what was changed in this turn.

        These boards come before the disk is read.
        """
        self.disk.end_turn(is_killed=is_killed)
        self.broker.restart()
        clock = Clock(lambda: self.now_s, lambda: self.unix_s, "boot", lambda: True)
        timekeeper = TimeKeeper(clock)
        self.names, self.status = Names(), Status()
        self.devices = Devices(
            self.broker,
            self.names,
            self.status,
            timekeeper,
            writer=self.disk,
            declared=self.declared,
        )
        self.announcer = Announcer(
            self.broker, self.devices, self.status, timekeeper, SITE, rng=random.Random(1)
        )
        self.devices.add_listener(self.announcer)
        self.announcer.start()
        self.composer = Composer(Topics(SITE.base_topic), timekeeper, names=self.names)
        kept = self.disk.registered(self.broker.noted)
        for key in came:
            self.comes(key)
        self.devices.restore(kept)
        self.disk.end_turn()

    def configure(self, **declared: Declared) -> None:
        self.declared = declared
        self.devices.reconfigure(declared)
        self.disk.end_turn()

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.unix_s += seconds
        self.devices.look_around()
        for _ in range(int((SETTLE_S + 2.0) / TICK_S)):
            self.now_s += TICK_S
            self.unix_s += TICK_S
            self.announcer.tick()
        self.disk.end_turn()

    def comes(self, key: str, **given: Any) -> None:  # noqa: ANN401 - any field
        """Have a board say what it is, and measure."""
        said = Description(key, f"Board {key}", "board", sensors=(AIR, SOIL), actuators=(PUMP,))
        self.devices.seen(f"port-{key}", replace(said, **given))
        self.measures(key)

    def leaves(self, key: str) -> None:
        self.devices.left(f"port-{key}", Gone(key, "unplugged"))
        self.disk.end_turn()

    def measures(self, key: str) -> None:
        self.devices.heard(key)
        self.seq += 1
        sample = Sample(key, 1, self.seq, self.now_s, {"air": 21.5})
        self.send(Batch(key, (sample,), BatchKind.LIVE))
        self.disk.end_turn()

    def send(self, batch: Batch) -> list[str]:
        """Publish records; return the topics."""
        messages = self.composer.compose(batch)
        for message in messages:
            if message.retain and message.topic in self.broker.claimed:
                self.broker.retained[message.topic] = message.payload
        return [message.topic.removeprefix(f"{SITE.base_topic}/") for message in messages]

    def replace(self, old: str, new: str) -> None:
        self.devices.replace(old, new)
        self.disk.end_turn()

    def begin_to_watch(self) -> set[str]:
        """Forget what was cleared so far; return what is there."""
        self.broker.cleared.clear()
        return set(self.broker.retained)

    def announced(self) -> set[str]:
        """Return who is announced to Home Assistant."""
        prefix, suffix = SITE.discovery_topic("|").split("|")
        return {
            topic.removeprefix(prefix).removesuffix(suffix)
            for topic in self.broker.retained
            if topic.startswith(prefix)
        }

    def said(self, identity: str) -> dict[str, Any]:
        topic = SITE.discovery_topic(identity)
        assert problems_of(topic, self.broker.retained[topic]) == []
        return dict(json.loads(self.broker.retained[topic]))

    def info(self, level: str) -> dict[str, Any]:
        return dict(json.loads(self.broker.retained[SITE.topic(f"{level}/info")]))

    def who(self) -> dict[str, tuple[str, str]]:
        """Return by its key what each device is known by, and its level."""
        return {each.key: (each.identity, each.level) for each in self.devices}


@pytest.fixture
def house() -> House:
    """An old board that is gone, and a new one that is there."""
    house = House()
    house.comes("old")
    house.wait(5)
    house.leaves("old")
    house.comes("new")
    house.wait(5)
    return house


def components(said: Mapping[str, Any]) -> dict[str, str]:
    """Return the unique ids of what can be seen; of what is to be removed an empty one."""
    return {each: component.get("unique_id", "") for each, component in said["components"].items()}


def test_a_new_board_has_name_topics_and_entities_of_the_old_one(house: House) -> None:
    before = house.said("old")
    house.broker.cleared.clear()

    house.replace("old", "new")
    house.wait(5)

    assert house.who() == {"new": ("old", "old")}
    assert house.announced() == {"old"}
    after = house.said("old")
    assert components(after) == components(before)
    assert after["device"]["identifiers"] == ["edge.attic.old"]
    assert after["device"]["name"] == "Board old"
    info = house.info("old")
    assert (info["device"], info["identity"], info["name"]) == ("new", "old", "Board old")
    assert house.broker.retained[SITE.topic("old/availability")] == b"online"
    assert house.broker.below("new") == set()
    assert house.broker.below("old") == {"info", "availability", "state", "pump/state"}
    assert SITE.discovery_topic("old") not in house.broker.cleared, "entities would be dropped"
    assert SITE.discovery_topic("new") in house.broker.cleared


def test_its_state_is_what_the_new_board_measured(house: House) -> None:
    house.replace("old", "new")

    state = json.loads(house.broker.retained[SITE.topic("old/state")])
    assert state["id"] == f"new/1/{house.seq}"


def test_it_is_one_change_on_the_disk(house: House) -> None:
    house.disk.changes.clear()

    house.replace("old", "new")

    assert house.disk.changes == [{"old", "new"}]


@pytest.mark.parametrize("is_noted", [False, True], ids=["before", "after"])
def test_a_kill_leaves_it_done_or_not_begun(house: House, *, is_noted: bool) -> None:
    house.devices.replace("old", "new")
    house.restart(is_killed=not is_noted)
    house.wait(GRACE_S + 5)

    if is_noted:
        assert house.who() == {"new": ("old", "old")}
        assert house.announced() == {"old"}
    else:
        assert house.who() == {"new": ("new", "new"), "old": ("old", "old")}
        assert house.announced() == {"old", "new"}
    for identity in house.announced():
        assert components(house.said(identity))["sensor_air"] == f"edge.attic.{identity}.air"


def test_it_lasts(house: House) -> None:
    house.devices.rename("old", "Greenhouse")
    house.devices.set_options("old", {"interval_ms": {"climate": 5000}})
    house.replace("old", "new")
    house.wait(5)
    before = house.broker.retained.copy()
    house.restart()
    house.comes("new")
    house.measures("new")
    house.wait(5)

    assert house.who() == {"new": ("old", "greenhouse")}
    assert house.info("greenhouse")["name"] == "Greenhouse"
    device = house.devices.get("new")
    assert device is not None
    assert device.options == {"interval_ms": {"climate": 5000}}
    discovery = SITE.discovery_topic("old")
    assert house.broker.retained[discovery] == before[discovery]
    assert house.devices.find("old") is house.devices.find("greenhouse") is device
    assert house.devices.find("new") is device


@pytest.mark.parametrize("is_restarted", [False, True])
def test_the_old_board_comes_back_as_a_stranger(house: House, *, is_restarted: bool) -> None:
    house.replace("old", "new")
    house.wait(5)
    if is_restarted:
        house.restart()
        house.comes("new")
    house.comes("old")
    house.wait(5)

    assert house.who() == {"new": ("old", "old"), "old": ("old_2", "old_2")}
    assert house.announced() == {"old", "old_2"}
    assert house.info("old")["device"] == "new"
    assert house.info("old_2")["device"] == "old"
    assert components(house.said("old"))["sensor_air"] == "edge.attic.old.air"
    assert components(house.said("old_2"))["sensor_air"] == "edge.attic.old_2.air"

    house.restart()
    house.wait(5)
    assert house.who() == {"new": ("old", "old"), "old": ("old_2", "old_2")}


def test_an_old_board_that_still_speaks_is_a_stranger_at_its_next_word(house: House) -> None:
    house.comes("old")
    house.replace("old", "new")
    house.devices.heard("old")
    house.wait(5)

    assert house.who() == {"new": ("old", "old"), "old": ("old_2", "old_2")}
    assert house.announced() == {"old", "old_2"}


def test_a_board_that_was_removed_and_speaks_on_is_announced_again(house: House) -> None:
    house.devices.remove("new")
    house.wait(5)
    assert house.announced() == {"old"}
    house.measures("new")
    house.wait(5)

    assert house.announced() == {"old", "new"}


def test_it_can_be_taken_back(house: House) -> None:
    before = house.said("old")
    house.replace("old", "new")
    house.wait(5)
    house.comes("old")
    house.wait(5)
    house.broker.cleared.clear()

    house.replace("new", "old")
    house.wait(5)

    assert house.who() == {"old": ("old", "old")}
    assert house.announced() == {"old"}
    assert components(house.said("old")) == components(before)
    assert "identity" not in house.info("old")
    assert SITE.discovery_topic("old") not in house.broker.cleared
    house.comes("new")
    assert house.who()["new"] == ("new", "new")


def test_a_chain_of_boards_is_the_first_one(house: House) -> None:
    house.replace("old", "new")
    house.comes("third")
    house.replace("new", "third")
    house.restart()
    house.wait(5)

    assert house.who() == {"third": ("old", "old")}
    assert house.announced() == {"old"}
    for replaced in ("old", "new"):
        assert house.send(waiting(replaced)) == ["old/history"]


def waiting(key: str) -> Batch:
    """What is in the outbox of a board that measured before it was replaced."""
    return Batch(key, (Sample(key, 1, 1, 900.0, {"air": 20.0}),), BatchKind.LIVE)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_waits_of_the_old_board_comes_out_in_its_place(
    house: House, *, is_restarted: bool
) -> None:
    house.devices.rename("old", "Greenhouse")
    house.replace("old", "new")
    if is_restarted:
        house.restart()
    preview = replace(waiting("old"), kind=BatchKind.PREVIEW)
    state = house.broker.retained[SITE.topic("greenhouse/state")]

    assert house.send(waiting("old")) == ["greenhouse/history"], "the state is of the new board"
    assert house.send(preview) == []
    assert house.send(waiting("new")) == ["greenhouse/state"]
    assert json.loads(state)["id"].startswith("new/")


def test_what_only_the_old_board_had_is_spared_for_a_day(house: House) -> None:
    house.comes("bare", sensors=(AIR, LIGHT), actuators=(LAMP,))
    house.wait(5)
    house.replace("old", "bare")
    house.wait(5)

    first = components(house.said("old"))
    assert first["sensor_light"] == "edge.attic.old.light"
    assert {"sensor_soil", "switch_pump"}.isdisjoint(first), "what is left out is kept"
    assert house.broker.below("old") == {"info", "availability", "state", "lamp/state"}

    house.comes("bare", sensors=(AIR, SOIL), actuators=(LAMP,))  # with the old one's settings
    house.wait(5)
    assert components(house.said("old"))["sensor_soil"] == "edge.attic.old.soil"

    house.restart()
    house.comes("bare", sensors=(AIR, SOIL), actuators=(LAMP,))
    house.wait(SPARED_S - 60)
    assert "sensor_light" not in components(house.said("old"))
    house.wait(120)
    house.wait(5)

    last = components(house.said("old"))
    assert (last["sensor_light"], last["switch_pump"]) == ("", ""), "it is to be removed"
    assert last["sensor_soil"] == "edge.attic.old.soil"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("old", "old", "is that device already"),
        ("nobody", "new", "there is no device 'nobody'"),
        ("old", "nobody", "there is no device 'nobody'"),
        ("old", "lines", "of another kind"),
        ("old", "named", "is in the configuration"),
        ("off", "new", "disabled"),
        ("new", "old", "the old one is named first"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    house: House, old: str, new: str, why: str
) -> None:
    house.comes("lines", driver="json_lines")
    house.comes("named")
    house.comes("off")
    house.configure(named=Declared(), off=Declared(is_enabled=False))
    house.wait(5)
    before = house.who(), house.broker.retained.copy(), house.disk.entries.copy()

    with pytest.raises(RequestError, match=why):
        house.replace(old, new)

    assert (house.who(), house.broker.retained, house.disk.entries) == before


def test_the_configuration_is_of_who_has_the_place(house: House) -> None:
    house.configure(old=Declared("Greenhouse"))
    house.replace("old", "new")
    assert house.who() == {"new": ("old", "greenhouse")}

    house.comes("old")
    assert house.who()["old"] == ("old_2", "old_2")
    there = house.begin_to_watch()
    house.restart()
    assert there.isdisjoint(house.broker.cleared), "all is where it was"
    house.comes("new")
    house.comes("old")
    assert house.info("greenhouse")["device"] == "new"

    house.configure(old=Declared("Shed"), old_2=Declared("Store"), new=Declared("Nobody"))
    assert house.who() == {"new": ("old", "shed"), "old": ("old_2", "store")}

    house.configure(old=Declared(is_enabled=False))
    assert house.devices.disabled == {"new"}
    assert house.broker.below("shed") == house.broker.below("old") == set()
    assert house.broker.below("old_2")


def test_a_section_that_says_nothing_is_told_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.replace("old", "new")
    house.configure(old=Declared("Shed"), new=Declared("Roof"))
    house.configure(old=Declared("Shed"), new=Declared("Cellar"))

    assert [each.getMessage() for each in caplog.records if each.levelname == "WARNING"] == [
        'new: [[device]] id = "new" says nothing: this board is known as old, id = "old"'
    ]


def test_who_made_way_for_the_old_board_does_so_for_the_new_one(house: House) -> None:
    house.comes("other")
    house.devices.rename("other", "Attic")
    house.configure(old=Declared("Attic"))
    house.replace("old", "new")
    before = house.who()
    there = house.begin_to_watch()

    house.restart()

    assert house.who() == before == {"new": ("old", "attic"), "other": ("other", "attic_2")}
    assert there.isdisjoint(house.broker.cleared)


def test_what_waits_of_the_old_board_is_disabled_with_the_new_one(house: House) -> None:
    house.replace("old", "new")

    house.configure(old=Declared(is_enabled=False))
    assert house.devices.disabled == {"new", "old"}
    house.restart()
    assert house.devices.disabled == {"new", "old"}

    house.comes("old")
    assert house.devices.disabled == {"new"}


def test_rules_for_values_follow_to_the_new_board(house: House) -> None:
    followed: list[dict[str, int]] = []
    house.devices.on_succession = lambda: followed.append(
        house.devices.by_key({"old": 1, "old_2": 2, "other": 3})
    )

    house.replace("old", "new")
    house.comes("old")

    assert followed[0] == {"new": 1, "old_2": 2, "other": 3}
    assert followed[-1] == {"new": 1, "old": 2, "other": 3}


def test_a_name_that_is_taken_back_is_what_it_is_known_by(house: House) -> None:
    house.replace("old", "new")
    house.comes("old")
    house.devices.rename("new", "Greenhouse")
    assert house.who()["new"] == ("old", "greenhouse")
    with pytest.raises(RequestError, match="another device"):
        house.devices.rename("old", "Old")

    house.devices.rename("new", "")

    assert house.who() == {"new": ("old", "old"), "old": ("old_2", "old_2")}


def test_a_name_without_latin_letters_leaves_the_level_where_it_was(house: House) -> None:
    house.configure(old=Declared("温室"))
    house.replace("old", "new")

    assert house.who() == {"new": ("old", "old")}
    assert house.info("old")["name"] == "温室"


def test_who_has_a_place_can_be_removed_and_leaves_it(house: House) -> None:
    house.replace("old", "new")
    house.leaves("new")
    house.devices.remove("new")
    house.comes("old")
    house.comes("new")
    house.wait(5)

    assert house.who() == {"old": ("old", "old"), "new": ("new", "new")}
    assert house.announced() == {"old", "new"}


@pytest.mark.parametrize("came", [("new",), ("old",), ("old", "new"), ("new", "old"), ("other",)])
def test_who_is_who_is_learned_late_if_the_disk_is_slow(
    house: House, came: tuple[str, ...]
) -> None:
    house.replace("old", "new")
    house.comes("old")
    house.comes("other")
    house.devices.rename("other", "Attic")
    house.devices.set_options("new", {"interval_ms": {"climate": 5000}})
    house.wait(5)
    before, level = house.who(), SITE.topic("old/info")
    learned = {each.key: each.learned for each in house.devices}
    house.begin_to_watch()

    house.restart(*came)
    assert {each.key: each.learned for each in house.devices} == learned
    house.wait(GRACE_S + 5)

    assert house.who() == before
    known = {SITE.discovery_topic(each) for each in ("old", "other")}
    assert known.isdisjoint(house.broker.cleared), "entities would be dropped"
    assert house.announced() == {"old", "old_2", "other"}
    assert json.loads(house.broker.retained[level])["device"] == "new"
    assert house.broker.below("new") == house.broker.below("other") == set()
    for identity in house.announced():
        assert components(house.said(identity))["sensor_air"] == f"edge.attic.{identity}.air"
    device = house.devices.get("new")
    assert device is not None
    assert device.options == {"interval_ms": {"climate": 5000}}
    house.restart()
    assert house.who() == before


def test_who_comes_back_before_the_disk_is_read_is_a_stranger_all_the_same(house: House) -> None:
    house.replace("old", "new")
    house.wait(5)

    house.restart("old")
    house.wait(GRACE_S + 5)

    assert house.who() == {"new": ("old", "old"), "old": ("old_2", "old_2")}
    assert house.announced() == {"old", "old_2"}
    assert house.info("old")["device"] == "new"
    assert house.broker.below("old") == {"info", "availability"}, "nobody heard the new one yet"
    house.devices.remove("old")
    assert house.send(waiting("old")) == ["old_2/state"], "nobody has its place: it came back"


def test_two_that_are_known_as_each_other_are_told_apart_late(house: House) -> None:
    house.comes("old_2")
    house.replace("old", "old_2")
    house.comes("old")
    house.wait(5)
    assert house.who() | {"new": ""} == {"old_2": ("old", "old"), "old": ("old_2",) * 2, "new": ""}
    before = house.who()

    house.restart("old", "old_2")
    house.wait(5)

    assert house.who() == before
    assert (house.info("old")["device"], house.info("old_2")["device"]) == ("old_2", "old")
    for level in ("old", "old_2"):
        assert house.broker.below(level) == {"info", "availability", "state", "pump/state"}


def test_what_was_wished_before_the_disk_was_read_is_newer(house: House) -> None:
    house.devices.rename("new", "Attic")
    house.disk.end_turn()
    kept = house.disk.registered(house.broker.noted)
    house.disk.entries = {}
    house.restart()
    house.comes("new")
    house.devices.rename("new", "Roof")
    house.devices.restore(kept)

    assert house.who()["new"] == ("new", "roof")


KEYS = ["a", "b", "c", "a_2"]
keys = st.sampled_from(KEYS)
NAMES = ["Attic", "a", "b 2", ""]


class Life(RuleBasedStateMachine):
    """Whoever replaces whom, in whichever run: everybody is known by one thing, and nothing else is
    there; what waits of somebody who was replaced goes where his place is."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.heirs: dict[str, str] = {}
        """Who is in the place of a board that was replaced and did not come back."""

    @initialize()
    def some_are_there(self) -> None:
        for key in KEYS[:3]:
            self.house.comes(key)

    @rule(key=keys)
    def comes(self, key: str) -> None:
        self.house.comes(key)
        self.heirs.pop(key, None)

    @rule(key=keys)
    def leaves(self, key: str) -> None:
        if self.house.devices.get(key) is not None:
            self.house.leaves(key)

    @rule(old=keys, new=keys, is_killed=st.sampled_from(["no", "before", "after"]))
    def is_replaced(self, old: str, new: str, is_killed: str) -> None:
        house = self.house
        present = {each.key: each for each in house.devices}
        house.broker.cleared.clear()
        before = house.who()
        try:
            house.devices.replace(old, new)
        except RequestError:
            assert old == new or not {old, new} <= present.keys() or is_refused(house, old, new)
            assert house.who() == before
            return
        assert {old, new} <= present.keys()
        assert house.who()[new] == before[old]
        assert old not in house.who()
        if is_killed == "no":
            house.disk.end_turn()
        else:
            house.restart(is_killed=is_killed == "before")
        if is_killed == "before":
            assert house.who() == before
        else:
            self.heirs = {
                each: new if heir == old else heir
                for each, heir in self.heirs.items()
                if heir != new
            } | {old: new}
            self.heirs.pop(new, None)
            assert house.who()[new][0] == before[old][0]
        house.wait(5)
        assert SITE.discovery_topic(before[old][0]) not in house.broker.cleared

    @rule(key=keys, name=st.sampled_from(NAMES))
    def is_renamed(self, key: str, name: str) -> None:
        if self.house.devices.get(key) is not None:
            try:
                self.house.devices.rename(key, name)
            except RequestError:
                return
            self.house.disk.end_turn()

    @rule(key=keys)
    def is_removed(self, key: str) -> None:
        if self.house.devices.get(key) is not None:
            self.house.leaves(key)
            self.house.devices.remove(key)
            self.house.disk.end_turn()
            self.heirs = {each: heir for each, heir in self.heirs.items() if heir != key}

    @rule(
        declared=st.dictionaries(
            st.sampled_from(["a", "b"]),
            st.builds(Declared, st.sampled_from(["", "Roof"]), st.booleans()),
            max_size=1,
        )
    )
    def is_configured(self, declared: dict[str, Declared]) -> None:
        self.house.configure(**declared)

    @rule(is_killed=st.booleans())
    def restarts(self, is_killed: bool) -> None:
        self.house.restart(is_killed=is_killed)

    @rule(came=st.permutations(KEYS), count=st.integers(1, 4))
    def restarts_with_a_slow_disk(self, came: list[str], count: int) -> None:
        before = self.house.who()
        self.house.restart(*came[:count])
        for key in came[:count]:
            self.heirs.pop(key, None)
        after = self.house.who()
        assert {key: after[key][0] for key in before} == {
            key: identity for key, (identity, _) in before.items()
        }

    @invariant()
    def everybody_is_known_by_one_thing(self) -> None:
        known = [identity for identity, _ in self.house.who().values()]
        levels = [level for _, level in self.house.who().values()]
        assert len({*known}) == len(known)
        assert len({*levels}) == len(levels)

    @precondition(lambda self: len(self.house.devices) > 0)
    @invariant()
    def nothing_else_is_there(self) -> None:
        house = self.house
        house.wait(5)
        enabled = [each for each in house.devices if each.is_enabled]
        assert house.announced() == {each.identity for each in enabled}
        for device in enabled:
            ids = components(house.said(device.identity))
            assert ids["sensor_air"] == f"edge.attic.{device.identity}.air"
            assert house.info(device.level)["device"] == device.key
        tops = {
            each.removeprefix("edge/attic/").partition("/")[0] for each in house.broker.retained
        }
        assert tops - {"homeassistant"} == {each.level for each in enabled}

    @invariant()
    def what_waits_goes_where_the_place_is(self) -> None:
        for key in KEYS:
            topics = self.house.send(waiting(key))
            heir = self.house.devices.get(self.heirs.get(key, ""))
            if heir is not None and self.house.devices.get(key) is None:
                assert topics == [f"{heir.level}/history"]


def is_refused(house: House, old: str, new: str) -> bool:
    """Tell whether one of them is configured, or it is the wrong way round."""
    devices = {each.key: each for each in house.devices}
    by_key = house.devices.by_key(house.declared)
    is_off = not devices[old].is_enabled
    return new in by_key or is_off or bool(devices[old].is_online and not devices[new].is_online)


Life.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase
