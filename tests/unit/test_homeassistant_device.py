"""What Home Assistant is told of devices: each payload is one that its releases take."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cadence import Cadences, Habit
from gateway.model import Actuator, Description, Sensor, slug
from gateway.mqtt.homeassistant.classes import UNITS
from gateway.mqtt.homeassistant.device import device_components, device_payload
from gateway.mqtt.homeassistant.naming import Site, entity_name
from gateway.mqtt.homeassistant.own_device import gateway_payload
from gateway.requests.admin import read_admin
from gateway.requests.update import UpdateRequest
from tests.support.adverts import AdvertVector, feed, new_driver, samples_of, seen_of, vectors
from tests.support.homeassistant_rules import problems_of

SITE = Site("attic", "edge/attic", "homeassistant", "1.2.3")
NUMBER = {"it": Habit("number", 300)}


def announced(
    description: Description,
    habits: Mapping[str, Habit] | None = None,
    *,
    level: str = "",
    removed: tuple[tuple[str, str], ...] = (),
) -> dict[str, Any]:
    """Return a device's payload, after it was held against the rules."""
    level = level or description.device
    components = device_components(SITE, level, description, habits or {})
    payload = device_payload(SITE, level, description, components, removed)
    assert problems_of(SITE.discovery_topic(description.device), payload) == []
    return dict(json.loads(payload))


def board(*sensors: Sensor, actuators: tuple[Actuator, ...] = (), name: str = "") -> Description:
    return Description("greenhouse", name, "board", sensors=sensors, actuators=actuators)


def text_source(*sensors: Sensor) -> Description:
    return Description("mast", "Mast", "json_lines", sensors=sensors)


def test_a_boards_sensor_has_class_unit_precision_and_rhythm() -> None:
    sensor = Sensor("temperature", "°C", "temperature", -2)
    said = announced(board(sensor), {"temperature": Habit("number", 120)})

    assert said["components"]["sensor_temperature"] == {
        "platform": "sensor",
        "device_class": "temperature",
        "unit_of_measurement": "°C",
        "state_class": "measurement",
        "suggested_display_precision": 2,
        "value_template": "{{ (value_json|default({})).get('temperature','') }}",
        "expire_after": 120,
        "unique_id": "edge.attic.greenhouse.temperature",
    }


def test_the_device_says_who_it_is_and_what_it_hangs_on() -> None:
    description = Description(
        "greenhouse", "Green house", "board", model="esp32", firmware="0.1.0", sensors=()
    )
    said = announced(description, level="glass_house")

    assert said["device"] == {
        "identifiers": ["edge.attic.greenhouse"],
        "name": "Green house",
        "model": "esp32",
        "sw_version": "0.1.0",
        "via_device": "edge.attic",
    }
    assert said["origin"] == {"name": "edge-gateway", "sw_version": "1.2.3"}
    assert said["state_topic"] == "edge/attic/glass_house/state"
    assert said["availability_mode"] == "all"
    assert [each["topic"] for each in said["availability"]] == [
        "edge/attic/status",
        "edge/attic/glass_house/availability",
    ]


def test_the_topic_has_the_key_and_no_name() -> None:
    assert SITE.discovery_topic("greenhouse") == (
        "homeassistant/device/edge_attic_greenhouse/config"
    )


def test_a_new_name_changes_no_unique_id() -> None:
    before = announced(
        board(
            Sensor("temp", "°C", "temperature", -2), actuators=(Actuator("fan", "Fan", "switch"),)
        )
    )
    after = announced(
        board(
            Sensor("air", "°C", "temperature", -2, source_key="temp"),
            actuators=(Actuator("fan", "Ventilator", "switch"),),
            name="Glass house",
        ),
        level="glass_house",
    )

    assert {key: each["unique_id"] for key, each in before["components"].items()} == {
        key: each["unique_id"] for key, each in after["components"].items()
    }
    assert after["components"]["sensor_temp"]["name"] == "Air"


def test_no_two_devices_and_sensors_make_one_unique_id() -> None:
    one = Description("kitchen", "", "board", sensors=(Sensor("fridge_temperature"),))
    two = Description("kitchen_fridge", "", "board", sensors=(Sensor("temperature"),))

    ids = [
        component["unique_id"]
        for description in (one, two)
        for component in announced(description)["components"].values()
    ]
    assert len(set(ids)) == len(ids)


def test_two_sensors_of_one_source_key_are_told_apart() -> None:
    said = announced(board(Sensor("a", source_key="t"), Sensor("b", source_key="t")))

    assert {"sensor_t", "sensor_b"} <= set(said["components"])


def test_the_unit_of_the_configuration_decides_about_the_class() -> None:
    said = announced(text_source(Sensor("it", "V", "temperature")), NUMBER)["components"]

    assert "device_class" not in said["sensor_it"]
    assert said["sensor_it"]["unit_of_measurement"] == "V"


def test_what_the_configuration_keeps_quiet_expires_so_much_later() -> None:
    sensor = Sensor("temperature", "°C", "temperature", -2, quiet_s=3600.5)
    said = announced(board(sensor), {"temperature": Habit("number", 120)})["components"]

    assert said["sensor_temperature"]["expire_after"] == 120 + 3601


def test_the_rain_of_a_board_counts_up() -> None:
    rain = Sensor("rain", "mm", "precipitation")
    of_board = announced(board(rain))["components"]["sensor_rain"]
    of_another = announced(text_source(rain), {"rain": Habit("number")})["components"]

    assert of_board["state_class"] == "total_increasing"
    assert of_another["sensor_rain"]["state_class"] == "measurement"


def test_a_sensor_of_unknown_kind_waits_for_its_first_value() -> None:
    description = text_source(Sensor("it"))

    assert "sensor_it" not in announced(description)["components"]
    assert "sensor_it" in announced(description, NUMBER)["components"]


def test_a_text_has_neither_unit_nor_statistics() -> None:
    sensor = Sensor("mode", "°C", "temperature")
    said = announced(text_source(sensor), {"mode": Habit("text")})["components"]["sensor_mode"]

    assert set(said) == {"platform", "name", "unique_id", "value_template"}


def test_a_moment_keeps_its_class() -> None:
    sensor = Sensor("last_seen", "", "timestamp")
    said = announced(text_source(sensor), {"last_seen": Habit("text")})["components"]

    assert said["sensor_last_seen"]["device_class"] == "timestamp"


def test_a_truth_is_a_binary_sensor() -> None:
    said = announced(text_source(Sensor("door", "", "door")), {"door": Habit("flag")})

    assert said["components"]["binary_sensor_door"]["device_class"] == "door"


def test_a_diagnostic_sensor_is_one_in_home_assistant() -> None:
    rssi = Sensor("rssi", "dBm", "signal_strength", is_diagnostic=True)
    said = announced(text_source(rssi), {"rssi": Habit("number")})["components"]["sensor_rssi"]

    assert said["entity_category"] == "diagnostic"
    assert said["name"] == "RSSI"


def test_no_press_of_a_button_may_be_missed() -> None:
    """Home Assistant subscribes as each entity says; what stands at the root none inherits."""
    button = Sensor("button", kind="event")

    assert announced(board(button))["components"]["event_button"]["qos"] == 1


@pytest.mark.parametrize("device_class", [*sorted(UNITS), "monetary", "date", "enum", "nonsense"])
@pytest.mark.parametrize("kind", ["number", "flag", "text", "event"])
def test_any_class_with_any_unit_is_taken(device_class: str, kind: str) -> None:
    units = sorted(set().union(*UNITS.values(), {"", "furlongs", "EUR"}))
    sensors = [Sensor(f"it{n}", unit, device_class, kind=kind) for n, unit in enumerate(units)]

    announced(text_source(*sensors), {"it0": Habit("number", 300)})


@pytest.mark.parametrize("vector", vectors(), ids=lambda each: f"{each.family} {each.name}")
def test_every_sensor_of_every_family_is_taken(vector: AdvertVector) -> None:
    keys = {} if vector.key is None else {vector.advert.address: vector.key}
    events = feed(new_driver(keys=keys), vector.advert)
    cadences = Cadences(lambda _device: None)
    for sample in samples_of(events):
        cadences.hear(sample.device, sample.values, 1.0)

    for seen in seen_of(events):
        description = seen.description
        said = announced(description, cadences.habits(description.device))["components"]
        told = {component["unique_id"].rpartition(".")[2] for component in said.values()}
        heard = {key for sample in samples_of(events) for key in sample.values}
        assert heard <= told


def test_a_removed_entity_leaves_a_stub_until_it_is_back() -> None:
    removed = (("sensor_soil", "sensor"), ("switch_pump", "switch"))
    without = announced(board(Sensor("air")), removed=removed)["components"]
    back = announced(board(Sensor("air"), Sensor("soil")), removed=removed)["components"]

    assert without["sensor_soil"] == {"platform": "sensor"}
    assert without["switch_pump"] == {"platform": "switch"}
    assert back["sensor_soil"]["unique_id"] == "edge.attic.greenhouse.soil"


SWITCH = Actuator("pump", "Pump", "switch", device_class="outlet")
NUMBER_OF_DEGREES = Actuator(
    "heating", "heating", "number", 5, 30, unit="°C", step=0.5, device_class="temperature"
)
LIGHT = Actuator("lamp", "Lamp", "number", 0, 100, unit="%", is_light=True)
SELECT = Actuator("mode", "Mode", "select", options=("eco", "boost"))
TEXT = Actuator("display", "Display", "text", 0, 32)
BUTTON = Actuator("bell", "Bell", "button")


@pytest.mark.parametrize(
    ("actuator", "component", "said"),
    [
        (SWITCH, "switch_pump", {"payload_on": "true", "device_class": "outlet"}),
        (
            NUMBER_OF_DEGREES,
            "number_heating",
            {"min": 5, "max": 30, "step": 0.5, "unit_of_measurement": "°C", "name": "Heating"},
        ),
        (LIGHT, "light_lamp", {"brightness_scale": 100, "on_command_type": "brightness"}),
        (SELECT, "select_mode", {"options": ["eco", "boost"], "name": "Mode"}),
        (TEXT, "text_display", {"min": 0, "max": 32}),
    ],
    ids=["switch", "number", "light", "select", "text"],
)
def test_each_actuator_is_an_entity(
    actuator: Actuator, component: str, said: dict[str, Any]
) -> None:
    entity = announced(board(actuators=(actuator,)))["components"][component]

    assert said.items() <= entity.items()
    assert entity["command_topic"] == f"edge/attic/greenhouse/{actuator.key}/set"
    assert entity["state_topic"] == f"edge/attic/greenhouse/{actuator.key}/state"
    assert entity["unique_id"] == f"edge.attic.greenhouse.set.{actuator.key}"
    assert entity["qos"] == 1
    assert "retain" not in entity


@pytest.mark.parametrize(
    ("minimum", "maximum", "said"), [(4, 4, {"max": 4}), (0, 0, {}), (5, 4, {}), (4, 300, {})]
)
def test_a_text_of_one_length_only_is_taken_by_home_assistant(
    minimum: int, maximum: int, said: dict[str, int]
) -> None:
    pin = Actuator("pin", "PIN", "text", minimum, maximum)

    entity = announced(board(actuators=(pin,)))["components"]["text_pin"]

    assert {key: value for key, value in entity.items() if key in ("min", "max")} == said


def test_a_number_without_room_is_taken_by_home_assistant() -> None:
    announced(board(actuators=(Actuator("dose", "Dose", "number", 1, 1),)))


def test_a_step_is_never_finer_than_home_assistant_takes() -> None:
    fine = Actuator("dose", "Dose", "number", 0, 1, step=0.0001)

    assert announced(board(actuators=(fine,)))["components"]["number_dose"]["step"] == 0.001


def test_a_button_has_no_state() -> None:
    entity = announced(board(actuators=(BUTTON,)))["components"]["button_bell"]

    assert entity["command_topic"] == "edge/attic/greenhouse/bell/set"
    assert "state_topic" not in entity


def test_an_actuator_and_a_sensor_may_share_a_key() -> None:
    said = announced(board(Sensor("fan"), actuators=(Actuator("fan", "Fan", "number", 0, 100),)))

    assert {"sensor_fan", "number_fan"} <= set(said["components"])


_NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.none()
_TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


@given(
    actuators=st.lists(
        st.builds(
            Actuator,
            key=_TEXTS.map(slug),
            name=_TEXTS,
            kind=st.sampled_from(["switch", "number", "button", "select", "text", "siren"]),
            minimum=_NUMBERS,
            maximum=_NUMBERS,
            options=st.lists(_TEXTS, max_size=3).map(tuple),
            unit=_TEXTS,
            step=st.floats(1e-9, 1e9) | st.none(),
            device_class=st.sampled_from(["", "outlet", "temperature", "restart", "door"]),
            is_light=st.booleans(),
        ),
        max_size=4,
        unique_by=lambda actuator: actuator.key,
    )
)
def test_whatever_a_board_says_of_its_actuators_is_taken(actuators: list[Actuator]) -> None:
    announced(board(actuators=tuple(actuators)))


def test_the_gateway_is_a_device_of_its_own() -> None:
    payload = gateway_payload(SITE, 60.0)
    said = json.loads(payload)

    assert problems_of(SITE.discovery_topic(), payload) == []
    assert said["device"]["identifiers"] == ["edge.attic"]
    assert said["components"]["gateway_memory"]["expire_after"] == 180
    assert said["components"]["gateway_connected"]["availability"] == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("temperature", "Temperature"),
        ("soil_temperature", "Soil temperature"),
        ("co2", "CO2"),
        ("pm25_max", "PM2.5 max"),
        ("air-ph", "Air pH"),
        ("28ff641e8b160371", "28ff641e8b160371"),
        ("_", "_"),
    ],
)
def test_a_key_is_written_as_people_do(key: str, name: str) -> None:
    assert entity_name(key) == name


def test_a_board_with_slots_can_be_updated_from_home_assistant() -> None:
    said = announced(replace(board(), slot="b"), level="green_house")["components"]["update"]

    assert (said["platform"], said["device_class"]) == ("update", "firmware")
    assert said["state_topic"] == "edge/attic/green_house/update"
    assert said["command_topic"] == "edge/attic/request/update"
    asked = read_admin("update", said["payload_install"].encode())
    assert isinstance(asked, UpdateRequest)
    assert asked.device == "greenhouse"


def test_a_board_without_slots_has_no_update_entity() -> None:
    assert "update" not in announced(board())["components"]
