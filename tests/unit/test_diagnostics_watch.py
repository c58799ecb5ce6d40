"""What is told of devices' connections and losses, and how seldom."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.clock import Clock
from gateway.devices.diagnostics import LOOK_S, DiagnosticsWatch
from gateway.devices.registry import Devices
from gateway.model import Description, Gap, GapCause, Gone
from gateway.mqtt.diagnostics import PAUSE_S, RSSI_STEP_DBM
from gateway.mqtt.names import Names
from gateway.status import Status
from gateway.timekeeper import TimeKeeper

BOARD = Description("greenhouse", "Green house", "board", address="port-1")
TOPIC = "greenhouse/diagnostics"


class Shelf:
    """What is retained, and how often it was."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.writes = 0

    def retain(self, subtopic: str, payload: bytes | None) -> None:
        self.writes += subtopic == TOPIC
        if payload is None:
            self.retained.pop(subtopic, None)
        else:
            self.retained[subtopic] = payload

    def claim(self, subtopic: str) -> None: ...

    def move_state(self, subtopic: str, to_subtopic: str) -> None: ...

    def load_retained(self, topics_noted: Iterable[str]) -> None: ...

    def noted_topics(self) -> list[str]:
        return sorted(self.retained)


class House:
    """A registry and the watch on a clock of their own."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slewed_s = 0.0
        self.shelf = Shelf()
        self.status = Status()
        clock = Clock(monotonic_s=lambda: self.now_s, unix_s=lambda: self.now_s + self.slewed_s)
        timekeeper = TimeKeeper(clock)
        self.devices = Devices(self.shelf, Names(), self.status, timekeeper)
        self.away: list[str] = []
        self.signals: list[str] = []
        self.watch = DiagnosticsWatch(
            self.devices,
            self.status,
            timekeeper,
            on_away=self.away.append,
            on_signal=self.signals.append,
        )
        self.devices.add_listener(self.watch)
        self.devices.seen("port-1", BOARD)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / LOOK_S)):
            self.now_s += LOOK_S
            self.watch.look()

    def told(self) -> dict[str, Any]:
        return dict(json.loads(self.shelf.retained[TOPIC]))


@pytest.fixture
def house() -> House:
    return House()


def test_they_say_since_when_a_device_is_there_and_what_it_lost(house: House) -> None:
    house.wait(LOOK_S)
    before = house.told()
    entry = house.status.device("greenhouse")
    entry.lost += 5
    entry.last_gap = Gap("greenhouse", 7, 10, 14, GapCause.RING_OVERFLOW, house.now_s)
    house.wait(PAUSE_S)

    assert before == {"online_since": "1970-01-01T00:16:45.000Z", "lost": 0}
    assert house.told() == {
        **before,
        "lost": 5,
        "last_gap": {"time": "1970-01-01T00:16:45.000Z", "cause": "ring_overflow", "count": 5},
    }


def test_they_change_at_most_once_a_minute(house: House) -> None:
    for _ in range(120):
        house.status.device("greenhouse").lost += 1
        house.wait(LOOK_S)

    assert house.shelf.writes == 10


def test_what_is_the_same_is_not_told_again(house: House) -> None:
    entry = house.status.device("greenhouse")
    entry.last_gap = Gap("greenhouse", 7, 10, 14, GapCause.RING_OVERFLOW, house.now_s)
    for number in range(100):
        house.status.link("port-1").rssi = -60 - number % RSSI_STEP_DBM
        house.slewed_s += 0.01
        house.wait(LOOK_S)

    assert house.shelf.writes == 1
    assert house.signals == ["greenhouse"]


def test_a_signal_that_changes_by_6_db_is_told(house: House) -> None:
    house.status.link("port-1").rssi = -60
    house.wait(LOOK_S)
    house.status.link("port-1").rssi = -66
    house.wait(PAUSE_S)

    assert house.told()["rssi"] == -66


def test_a_device_that_left_is_there_since_nothing(house: House) -> None:
    house.wait(LOOK_S)
    house.devices.left("port-1", Gone("greenhouse", "silent"))
    house.wait(PAUSE_S)
    while_away = house.told()["online_since"]
    house.devices.seen("port-1", BOARD)
    house.wait(PAUSE_S)

    assert while_away is None
    assert house.away == ["greenhouse"]
    assert house.told()["online_since"] > "1970-01-01T00:17"


def test_of_a_removed_device_nothing_is_left(house: House) -> None:
    house.wait(LOOK_S)
    house.devices.remove("greenhouse")
    house.wait(2 * PAUSE_S)

    assert not [topic for topic in house.shelf.retained if topic.startswith("greenhouse/")]
