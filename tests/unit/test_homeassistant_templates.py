"""What Home Assistant's entities make of our messages; it has nothing to log about them."""

import json
from collections.abc import Mapping

import pytest

from gateway.cadence import Habit
from gateway.clock import Clock
from gateway.model import Actuator, Description, Sensor
from gateway.mqtt import payloads
from gateway.mqtt.homeassistant.device import device_components, device_payload
from gateway.mqtt.homeassistant.naming import Site
from gateway.mqtt.homeassistant.own_device import gateway_payload
from gateway.status import Status
from gateway.timekeeper import TimeKeeper
from gateway.updates import documents
from gateway.updates.rollout import Plan, Rollout
from tests.support.homeassistant_entity import Entity

SITE = Site("attic", "edge/attic", "homeassistant", "1.2.3")
HABITS = {
    "temperature": Habit("number"),
    "mode": Habit("text"),
    "seen": Habit("text"),
    "door": Habit("flag"),
    "items": Habit("number"),
}
DEVICE = Description(
    "mast",
    "Mast",
    "json_lines",
    sensors=(
        Sensor("temperature", "°C", "temperature"),
        Sensor("mode"),
        Sensor("seen", "", "timestamp"),
        Sensor("door", "", "door"),
        Sensor("items"),
        Sensor("button", kind="event"),
    ),
    actuators=(
        Actuator("pump", "Pump", "switch"),
        Actuator("lamp", "Lamp", "number", 0, 100, is_light=True),
    ),
)
PAYLOAD = device_payload(SITE, "mast", DEVICE, device_components(SITE, "mast", DEVICE, HABITS))


def state(values: Mapping[str, object], number: int = 1) -> str:
    """Return a message on `mast/state`."""
    return json.dumps({**values, "time": "2026-11-22T07:00:00.123Z", "id": f"mast/7/{number}"})


@pytest.mark.parametrize(
    ("component", "key", "value", "shown"),
    [
        ("sensor_temperature", "temperature", 21.53, "21.53"),
        ("sensor_temperature", "temperature", 0, "0"),
        ("sensor_mode", "mode", "eco", "eco"),
        ("sensor_mode", "mode", "", ""),
        ("sensor_mode", "mode", 5, "5"),
        ("sensor_mode", "mode", "x" * 300, "x" * 255),
        ("sensor_seen", "seen", "2026-11-22T07:00:00+00:00", "2026-11-22T07:00:00+00:00"),
        ("binary_sensor_door", "door", True, "on"),
        ("binary_sensor_door", "door", False, "off"),
        ("sensor_items", "items", 3, "3"),
    ],
)
def test_a_value_is_shown(component: str, key: str, value: object, shown: str) -> None:
    entity = Entity(PAYLOAD, component)

    assert entity.hear(state({key: value})) == shown
    assert entity.remarks == []


@pytest.mark.parametrize(
    ("component", "key", "value"),
    [
        ("sensor_temperature", "temperature", 21.53),
        ("sensor_mode", "mode", "eco"),
        ("sensor_seen", "seen", "2026-11-22T07:00:00+00:00"),
        ("binary_sensor_door", "door", True),
        ("sensor_items", "items", 3),
    ],
)
@pytest.mark.parametrize("message", [state({"other": 1}), ""], ids=["other values", "cleared"])
def test_a_message_without_the_key_changes_nothing(
    component: str, key: str, value: object, message: str
) -> None:
    entity = Entity(PAYLOAD, component)
    entity.hear(message)
    before = entity.state
    shown = entity.hear(state({key: value}))

    assert before == "unknown"
    assert entity.hear(message) == shown != before
    assert entity.remarks == []


def test_an_event_counts_once_however_often_its_message_comes() -> None:
    entity = Entity(PAYLOAD, "event_button")
    for message in (
        state({"button": "press"}, 1),
        state({"button": "press"}, 1),
        state({"temperature": 20}, 2),
        "",
        state({"button": "press"}, 3),
        state({"button": "wink"}, 4),
    ):
        entity.hear(message)

    assert entity.events == ["press", "press", "other"]
    assert entity.attributes == {"said": "wink", "id": "mast/7/4"}
    assert entity.remarks == []


@pytest.mark.parametrize(
    ("said", "shown"),
    [("true", "on"), ("false", "off")],
)
def test_a_switch_shows_what_the_board_reports(said: str, shown: str) -> None:
    assert Entity(PAYLOAD, "switch_pump").hear(said) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [("0", "off"), ("0.0", "off"), ("0.5", "on"), ("42", "on"), ("100", "on"), ("", "unknown")],
)
def test_a_lamp_is_on_if_its_brightness_is_not_zero(said: str, shown: str) -> None:
    entity = Entity(PAYLOAD, "light_lamp")

    assert entity.hear(said) == shown
    assert entity.remarks == []


@pytest.mark.parametrize(
    ("problem", "shown"),
    [("", "off"), ("wrong_key", "on")],
)
def test_info_says_link_firmware_and_problem(problem: str, shown: str) -> None:
    description = Description(
        "mast", "Mast", "bthome", firmware="1.0", address="A4:C1:38:8D:18:B2", problem=problem
    )
    components = device_components(SITE, "mast", description, {})
    payload = device_payload(SITE, "mast", description, components)
    info = payloads.info(description).decode()
    seen = {key: Entity(payload, f"diagnostic_{key}") for key in ("link", "firmware", "problem")}

    assert {key: entity.hear(info) for key, entity in seen.items()} == {
        "link": "A4:C1:38:8D:18:B2",
        "firmware": "1.0",
        "problem": shown,
    }
    assert all(entity.remarks == [] for entity in seen.values())


def _health(status: Status) -> str:
    clock = Clock(monotonic_s=lambda: 100.0)
    return payloads.health(
        status,
        TimeKeeper(clock),
        memory_bytes=50_000_000,
        outbox_in_memory=3,
        outbox_on_disk=4,
        outbox_oldest_s=None,
    ).decode()


def test_the_gateways_health_is_shown() -> None:
    status = well()
    status.device("mast").online = True
    status.loop_lag_s.record(0.002)
    payload = gateway_payload(SITE, 60.0)
    names = ("memory", "outbox", "devices_online", "boards_connected", "loop_lag", "problem")
    entities = {name: Entity(payload, f"gateway_{name}") for name in (*names, "radio", "latency")}
    for entity in entities.values():
        entity.hear("")
        entity.hear(_health(status))

    assert entities["memory"].state == "50.0"
    assert entities["outbox"].state == "7"
    assert entities["devices_online"].state == "1"
    assert entities["boards_connected"].state == "0"
    assert float(entities["loop_lag"].state) == pytest.approx(0.002, rel=0.3)
    assert entities["problem"].state == "off"
    assert entities["radio"].state == "off"
    assert all(entity.remarks == [] for entity in entities.values())


def well() -> Status:
    """Return the status of a gateway that wants nothing."""
    status = Status()
    status.broker.connected = True
    return status


def test_what_the_health_check_says_is_a_problem_of_the_gateway() -> None:
    rival, disk, file, port = well(), well(), well(), well()
    port.link("ttyUSB0").state = "lost"
    file.configuration.state, file.configuration.error = "last_good", "it is empty"
    rival.broker.trouble = "another gateway of this name"
    disk.store.state, disk.store.error = "failing", "disk full"

    for status in (rival, disk, file, port):
        assert Entity(gateway_payload(SITE, 60.0), "gateway_problem").hear(_health(status)) == "on"


def test_the_gateways_status_is_shown() -> None:
    payload = gateway_payload(SITE, 60.0)
    since = "2026-11-22T07:00:00.123Z"
    online = payloads.status("online", "5f3a9c10", "1.2.3", since).decode()
    offline = payloads.status("offline", "5f3a9c10", "1.2.3", since).decode()
    connected, started = (
        Entity(payload, "gateway_connected"),
        Entity(payload, "gateway_started"),
    )

    assert (connected.hear(online), connected.hear(offline)) == ("on", "off")
    assert started.hear(online) == since
    assert started.remarks == connected.remarks == []


def test_an_update_shows_versions_and_progress_and_nothing_else_of_its_document() -> None:
    site = Site("attic", "edge/attic", "homeassistant", "1.2.3")
    description = Description("greenhouse", "Greenhouse", "board", slot="a")
    components = device_components(site, "greenhouse", description, {})
    payload = device_payload(site, "greenhouse", description, components)
    entity = Entity(payload, "update")
    rollout = Rollout.of(3, Plan("firmware", "0.2.0", "0f3c"), ["greenhouse"], 0.0)
    target = rollout.targets["greenhouse"]

    assert entity.hear(documents.board("0.1.0", "0.2.0", None, None).decode()) == "on"
    assert entity.attributes["in_progress"] is False
    rollout.begun("greenhouse")
    target.percent = 42
    target.reason = "for a reason"
    entity.hear(documents.board("0.1.0", "0.2.0", rollout, target).decode())
    assert entity.attributes == {
        "installed_version": "0.1.0",
        "latest_version": "0.2.0",
        "in_progress": True,
        "update_percentage": 42,
    }
    rollout.on_trial("greenhouse", 0.0)
    entity.hear(documents.board("0.2.0", "0.2.0", rollout, target).decode())
    assert (entity.state, entity.attributes["in_progress"]) == ("off", True)
    assert entity.attributes["update_percentage"] is None
    rollout.confirmed("greenhouse")
    assert entity.hear(documents.board("0.2.0", "", rollout, target).decode()) == "off"
    assert entity.attributes["in_progress"] is False
    assert entity.hear("") == "off"
    assert entity.remarks == []
