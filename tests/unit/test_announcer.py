"""Discovery topics follow the devices: new, changed, renamed, removed, before and after a start."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.clock import Clock
from gateway.devices.announcer import SETTLE_S, Announcer
from gateway.devices.births import BIRTH_DELAY_S, STATES_DELAY_S
from gateway.devices.device import Declared
from gateway.devices.registry import Devices
from gateway.model import Actuator, Description, Sensor, Value
from gateway.mqtt.homeassistant.naming import Site
from gateway.mqtt.incoming import Handler, Incoming
from gateway.mqtt.names import Names
from gateway.status import Status
from gateway.store.registry import Registered
from gateway.timekeeper import TimeKeeper
from tests.support.homeassistant_rules import problems_of

SITE = Site("attic", "edge/attic", "homeassistant", "1.2.3")
CONFIG = "homeassistant/device/edge_attic_greenhouse/config"
OWN = "homeassistant/device/edge_attic/config"
BOARD = Description(
    "greenhouse",
    "Green house",
    "board",
    address="port-1",
    sensors=(Sensor("air", "°C", "temperature", -2), Sensor("soil", "%", "moisture", 0)),
    actuators=(Actuator("pump", "Pump", "switch", state=False),),
)
MAST = Description("mast", "Mast", "json_lines", sensors=(Sensor("wind", "m/s", "wind_speed"),))


class Broker:
    """What is retained, and what was published again, in order."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.claimed: set[str] = set()
        self.writes: Counter[str] = Counter()
        self.again: list[str] = []
        self.handler: Handler | None = None
        self.filters: list[str] = []

    def retain_at(self, topic: str, payload: bytes | None) -> None:
        if payload is None:
            self.retained.pop(topic, None)
            self.claimed.discard(topic)
        elif self.retained.get(topic) != payload:
            self.retained[topic] = payload
            self.writes[topic] += 1

    def retain(self, subtopic: str, payload: bytes | None) -> None:
        self.retain_at(SITE.topic(subtopic), payload)

    def claim_at(self, topic: str) -> None:
        self.claimed.add(topic)

    def claim(self, subtopic: str) -> None:
        self.claim_at(SITE.topic(subtopic))

    def move_state(self, subtopic: str, _to_subtopic: str) -> None:
        self.retain(subtopic, None)

    def load_retained(self, topics_noted: Iterable[str]) -> None:
        """Clear what nobody claims; for simplicity, what is noted is on the broker."""
        for topic in topics_noted:
            if topic not in self.claimed:
                self.retained.pop(topic, None)

    def noted_topics(self) -> list[str]:
        return sorted(self.retained)

    def renew(self, topics_to_renew: Iterable[str]) -> None:
        self.again += [topic for topic in topics_to_renew if topic in self.retained]

    def renew_states(self, subtopics: Iterable[str]) -> None:
        self.again += [SITE.topic(subtopic) for subtopic in subtopics]

    def subscribe(self, filters: Sequence[str], handler: Handler) -> None:
        self.filters, self.handler = list(filters), handler

    def say(self, payload: bytes, *, is_retained: bool = False) -> list[str]:
        """Publish on Home Assistant's status; return that the message was confirmed."""
        assert self.handler is not None
        confirmed: list[str] = []
        done: Callable[[], None] = lambda: confirmed.append("done")  # noqa: E731 - a callback
        self.handler(
            Incoming(self.filters[0], payload, is_retained, is_again=False, packet_id=1, done=done)
        )
        return confirmed


class House:
    """A registry and its announcer on a clock of their own."""

    def __init__(
        self,
        broker: Broker | None = None,
        kept: Registered | None = None,
        *,
        is_enabled: bool = True,
        most: int = 100,
        declared: dict[str, Declared] | None = None,
    ) -> None:
        self.now_s = 1000.0
        self.broker = broker or Broker()
        self.status = Status()
        timekeeper = TimeKeeper(Clock(monotonic_s=lambda: self.now_s, unix_s=lambda: self.now_s))
        self.devices = Devices(
            self.broker, Names(), self.status, timekeeper, declared=declared or {}
        )
        self.announcer = Announcer(
            self.broker,
            self.devices,
            self.status,
            timekeeper,
            SITE,
            is_enabled=is_enabled,
            most=most,
            rng=random.Random(1),
        )
        self.devices.add_listener(self.announcer)
        self.announcer.start()
        if kept is not None:
            self.devices.restore(kept)

    def kept(self) -> Registered:
        """What the next run finds."""
        entries = {}
        for sql, rows in self.devices.everything():
            if sql.startswith("INSERT") and "device" in sql:
                entries.update({str(row[0]): json.loads(str(row[1])) for row in rows})
        return Registered(entries, frozenset(self.broker.noted_topics()))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.5)):
            self.now_s += 0.5
            self.announcer.tick()

    def see(self, description: Description, link: str = "port-1") -> None:
        self.devices.seen(link, description)

    def hear(
        self, device: str, values: dict[str, Value], times: int = 1, every_s: float = 0
    ) -> None:
        for _ in range(times):
            self.announcer.heard(device, values, self.now_s)
            self.devices.heard(device)
            self.wait(every_s)

    def said(self, topic: str = CONFIG) -> dict[str, Any]:
        """Return an announcement, after it was held against Home Assistant's rules."""
        payload = self.broker.retained[topic]
        assert problems_of(topic, payload) == []
        return dict(json.loads(payload))


@pytest.fixture
def house() -> House:
    return House()


def test_a_device_is_announced_once_it_is_known(house: House) -> None:
    house.see(BOARD)
    before = CONFIG in house.broker.retained
    house.wait(SETTLE_S + 0.5)

    assert not before
    assert {"sensor_air", "sensor_soil", "switch_pump"} <= set(house.said()["components"])
    assert house.said(OWN)["device"]["identifiers"] == ["edge.attic"]


def test_many_changes_make_one_announcement(house: House) -> None:
    for number in range(5):
        house.see(replace(BOARD, sensors=BOARD.sensors[:1] * (number > 2), firmware=f"{number}"))
    house.wait(SETTLE_S + 0.5)

    assert house.broker.writes[CONFIG] == 1
    assert house.said()["device"]["sw_version"] == "4"


def test_what_a_text_source_measures_shows_in_its_values(house: House) -> None:
    topic = SITE.discovery_topic("mast")
    house.see(MAST)
    house.wait(3)
    before = set(house.said(topic)["components"])
    house.hear("mast", {"wind": 3.5})
    house.wait(3)

    assert "sensor_wind" not in before
    assert "sensor_wind" in house.said(topic)["components"]


def test_a_rhythm_that_is_learned_makes_the_sensor_expire(house: House) -> None:
    house.see(BOARD)
    house.hear("greenhouse", {"air": 21.5}, times=6, every_s=30)

    components = house.said()["components"]
    assert components["sensor_air"]["expire_after"] == 120
    assert "expire_after" not in components["sensor_soil"]
    assert house.broker.writes[CONFIG] == 2


@pytest.mark.parametrize(
    ("every_s", "comes_again"), [(30, ["edge/attic/greenhouse/state"]), (1, [])]
)
def test_after_a_change_the_state_comes_again_where_the_next_is_far(
    house: House, every_s: float, comes_again: list[str]
) -> None:
    house.see(BOARD)
    house.hear("greenhouse", {"air": 21.5}, times=8, every_s=every_s)
    house.wait(10)
    house.broker.again.clear()
    house.see(replace(BOARD, firmware="2.0"))
    house.wait(SETTLE_S + 0.5)
    soon = list(house.broker.again)
    house.wait(STATES_DELAY_S + 0.5)

    assert soon == []
    assert house.broker.again == comes_again


def test_of_devices_nobody_knows_nothing_is_learned(house: House) -> None:
    house.hear("greenhouse", {"air": 21.5}, times=6, every_s=30)
    house.see(BOARD)
    house.wait(3)

    assert "expire_after" not in house.said()["components"]["sensor_air"]


def test_a_restarted_gateway_announces_the_same(house: House) -> None:
    house.see(BOARD)
    house.see(MAST, "port-2")
    house.hear("mast", {"wind": 3.5}, times=6, every_s=30)
    house.hear("greenhouse", {"air": 21.5, "soil": 40}, times=6, every_s=30)
    house.broker.writes.clear()
    again = House(house.broker, house.kept())
    again.wait(10)
    again.see(BOARD)
    again.see(MAST, "port-2")
    again.hear("mast", {"wind": 3.5}, times=6, every_s=30)

    assert not {topic for topic in house.broker.writes if topic.endswith("/config")}
    assert house.said()["components"]["sensor_air"]["expire_after"] == 120


def test_what_an_earlier_run_announced_is_never_cleared_in_between(house: House) -> None:
    house.see(BOARD)
    house.wait(3)
    again = House(house.broker, house.kept())

    assert CONFIG in again.broker.retained


def test_a_new_name_changes_topics_and_no_identity(house: House) -> None:
    house.see(BOARD)
    house.wait(3)
    before = house.said()
    house.devices.rename("greenhouse", "Glass House")
    house.wait(3)
    after = house.said()

    assert after["device"]["name"] == "Glass House"
    assert after["state_topic"] == "edge/attic/glass_house/state"
    assert after["device"]["identifiers"] == before["device"]["identifiers"]
    assert [each["unique_id"] for each in after["components"].values()] == [
        each["unique_id"] for each in before["components"].values()
    ]
    assert [topic for topic in house.broker.retained if topic.endswith("/config")] == [OWN, CONFIG]


def test_a_removed_device_is_taken_back(house: House) -> None:
    house.see(BOARD)
    house.wait(10)
    house.devices.remove("greenhouse")
    house.wait(10)

    assert list(house.broker.retained) == [OWN]


def test_a_device_that_is_removed_before_it_was_announced_never_is(house: House) -> None:
    house.see(BOARD)
    house.devices.remove("greenhouse")
    house.wait(5)

    assert CONFIG not in house.broker.retained


def test_a_disabled_device_is_not_announced() -> None:
    house = House(declared={"greenhouse": Declared(is_enabled=False)})
    house.see(BOARD)
    house.wait(5)
    house.devices.reconfigure({})
    house.see(BOARD)
    house.wait(5)
    enabled = CONFIG in house.broker.retained
    house.devices.reconfigure({"greenhouse": Declared(is_enabled=False)})
    house.wait(5)

    assert enabled
    assert CONFIG not in house.broker.retained


def test_a_sensor_that_is_gone_is_removed_also_after_a_restart(house: House) -> None:
    house.see(BOARD)
    house.wait(3)
    house.see(replace(BOARD, sensors=BOARD.sensors[:1], actuators=()))
    house.wait(3)
    stubs = {"sensor_soil": {"platform": "sensor"}, "switch_pump": {"platform": "switch"}}
    before = house.said()["components"]
    again = House(house.broker, house.kept())
    again.wait(3)
    after = again.said()["components"]
    again.see(BOARD)
    again.wait(3)

    assert stubs.items() <= before.items()
    assert stubs.items() <= after.items()
    assert again.said()["components"]["sensor_soil"]["unique_id"] == "edge.attic.greenhouse.soil"


def test_more_devices_than_are_useful_are_not_announced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House(most=2)
    for number in range(4):
        house.see(replace(BOARD, device=f"board{number}"), f"port-{number}")
        house.wait(3)
    house.devices.remove("board0")
    house.see(replace(BOARD, device="board3", firmware="2.0"), "port-3")
    house.wait(3)

    announced = [topic for topic in house.broker.retained if topic.endswith("/config")]
    assert announced == [OWN, *(SITE.discovery_topic(f"board{n}") for n in (1, 3))]
    assert caplog.text.count("not announced") == 1


def test_a_birth_has_everything_announced_again_and_then_the_states(house: House) -> None:
    house.see(BOARD)
    house.wait(10)
    house.broker.again.clear()
    confirmed = house.broker.say(b"online")
    house.wait(BIRTH_DELAY_S[0] - 0.5)
    early = list(house.broker.again)
    while not house.broker.again:
        house.wait(0.5)
    announced = list(house.broker.again)
    house.wait(STATES_DELAY_S + 1)

    assert confirmed == ["done"]
    assert house.broker.filters == ["homeassistant/status"]
    assert early == []
    assert announced == [OWN, CONFIG]
    states = house.broker.again[2:]
    assert states[-1] == "edge/attic/greenhouse/state"  # the newest last
    assert "edge/attic/greenhouse/availability" in states
    assert "edge/attic/greenhouse/pump/state" in states


@pytest.mark.parametrize(
    ("payload", "is_retained"), [(b"online", True), (b"offline", False), (b"\xff", False)]
)
def test_what_is_no_birth_is_confirmed_and_forgotten(
    house: House, payload: bytes, is_retained: bool
) -> None:
    house.see(BOARD)
    house.wait(3)
    confirmed = house.broker.say(payload, is_retained=is_retained)
    house.wait(60)

    assert confirmed == ["done"]
    assert house.broker.again == []


def test_the_delay_after_a_birth_differs_from_gateway_to_gateway(house: House) -> None:
    moments = set()
    for _ in range(8):
        house.broker.say(b"online")
        began_s = house.now_s
        while OWN not in house.broker.again:
            house.wait(0.5)
        moments.add(house.now_s - began_s)
        house.broker.again.clear()

    assert len(moments) > 3
    assert BIRTH_DELAY_S[0] <= min(moments)
    assert max(moments) <= BIRTH_DELAY_S[1] + 0.5


def test_another_prefix_moves_all_announcements(house: House) -> None:
    house.see(BOARD)
    house.wait(3)
    house.announcer.reconfigure("ha", is_enabled=True)
    house.wait(3)

    assert [topic for topic in house.broker.retained if topic.endswith("/config")] == [
        "ha/device/edge_attic/config",
        "ha/device/edge_attic_greenhouse/config",
    ]


def test_who_wants_no_home_assistant_gets_nothing_and_may_change_the_mind() -> None:
    house = House(is_enabled=False)
    house.see(BOARD)
    house.wait(3)
    nothing = [topic for topic in house.broker.retained if topic.endswith("/config")]
    house.announcer.reconfigure("homeassistant", is_enabled=True)
    house.wait(3)
    all_of_it = [topic for topic in house.broker.retained if topic.endswith("/config")]
    house.announcer.reconfigure("homeassistant", is_enabled=False)
    house.wait(3)

    assert nothing == []
    assert all_of_it == [OWN, CONFIG]
    assert not [topic for topic in house.broker.retained if topic.endswith("/config")]


def test_the_signal_of_a_board_on_bluetooth_is_shown_once_it_is_known(house: House) -> None:
    house.see(BOARD)
    house.wait(3)
    before = set(house.said()["components"])
    house.status.link("port-1").rssi = -71
    house.announcer.has_signal("greenhouse")
    house.wait(3)
    house.status.link("port-1").rssi = None
    house.see(replace(BOARD, firmware="2.0"))
    house.wait(3)

    assert "diagnostic_rssi" not in before
    assert "diagnostic_rssi" in house.said()["components"]


def test_what_was_kept_and_is_nonsense_is_left_alone(house: House) -> None:
    house.see(BOARD)
    house.wait(3)
    kept = house.kept()
    nonsense = {"habits": {"air": [5, "x"], "soil": 1}, "entities": []}
    entry = {**kept.devices["greenhouse"], "learned": nonsense}
    again = House(house.broker, Registered({"greenhouse": entry}, kept.topics))
    again.wait(3)

    assert "sensor_air" in again.said()["components"]
