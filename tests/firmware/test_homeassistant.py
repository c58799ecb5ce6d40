"""What boards with our firmware have, in Home Assistant: each sensor and each actuator is taken."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.drivers.board_sensors import actuators_of, sensor_keys, sensors_of
from gateway.model import Description
from gateway.mqtt.homeassistant.device import device_components, device_payload
from gateway.mqtt.homeassistant.naming import Site
from gateway.protocol.json_messages import decode_actuator, decode_stream
from tests.firmware.conftest import make_host
from tests.firmware.hosts import FIRMWARE, Host
from tests.support.homeassistant_rules import problems_of

SITE = Site("attic", "edge/attic", "homeassistant", "1.2.3")

SENSORS: dict[str, dict[str, Any]] = {
    "adc": {"pin": 34},
    "bme280": {},
    "chip_temperature": {},
    "dht22": {"pin": 15},
    "ds18x20": {"pin": 4, "probes": {"28ff641e8b160371": "flow"}},
    "heap": {},
    "pulse": {"pin": 5, "unit": "kWh", "device_class": "energy", "exponent": -3},
    "sht3x": {},
    "simulated": {"channels": [{"key": "wind", "unit": "°", "device_class": "wind_direction"}]},
}

ACTUATORS: dict[str, dict[str, Any]] = {
    "output": {"pin": 2},
    "relay": {"pin": 3},
    "pwm": {"pin": 4},
    "pulse_output": {"pin": 5},
    "selector": {"options": [["off", None], ["low", 6]]},
    "simulated": {"type": "number", "range": [5, 30], "step": 0.5, "unit": "°C"},
    "uart_text": {"id": 1},
}

CLASSES = {
    "adc": ("voltage", "V", "measurement"),
    "bme280": ("temperature", "°C", "measurement"),
    "chip_temperature": ("temperature", "°C", "measurement"),
    "dht22": ("temperature", "°C", "measurement"),
    "ds18x20": ("temperature", "°C", "measurement"),
    "heap": ("data_size", "B", "measurement"),
    "pulse": ("energy", "kWh", "total_increasing"),
    "sht3x": ("temperature", "°C", "measurement"),
    "simulated": ("wind_direction", "°", "measurement_angle"),
}


@pytest.fixture
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """One interpreter is enough: what the firmware says is the same on all."""
    return make_host("cpython", request, tmp_path)


def components_of(description: Description) -> dict[str, Any]:
    made = device_components(SITE, description.device, description, {})
    payload = device_payload(SITE, description.device, description, made)
    assert problems_of(SITE.discovery_topic(description.device), payload) == []
    return dict(json.loads(payload)["components"])


def test_every_kind_is_tried() -> None:
    assert set(SENSORS) == {path.stem for path in (FIRMWARE / "sensors").glob("*.py")}
    assert set(ACTUATORS) == {path.stem for path in (FIRMWARE / "actuators").glob("*.py")}


def test_every_sensor_of_the_firmware_is_taken(board: Host) -> None:
    script = "".join(
        f"made = sensor({kind!r}, {config!r})\n"
        f"say({{'i': 0, 'n': {kind!r}, 'f': made.fmt, 'c': made.channels}})\n"
        for kind, config in SENSORS.items()
    )
    for said in board.run(script).said:
        stream = decode_stream(json.dumps(said).encode())
        keys = sensor_keys([stream])
        description = Description("b", "B", "board", sensors=sensors_of([stream], keys))
        components = components_of(description)

        assert {f"sensor_{key}" for key in keys[0]} <= set(components), said
        first = components[f"sensor_{keys[0][0]}"]
        wanted = CLASSES[stream.name]
        assert (
            first["device_class"],
            first["unit_of_measurement"],
            first["state_class"],
        ) == wanted, said


def test_every_actuator_of_the_firmware_is_taken(board: Host) -> None:
    script = "".join(
        f"config = {config | {'name': kind}!r}\n"
        f"made = __import__('actuators.{kind}', None, None, ('Actuator',)).Actuator(config)\n"
        "say(made.describe())\n"
        for kind, config in ACTUATORS.items()
    )
    ended = board.run(script, BOARD_UART1="/dev/ptmx")
    reports = [decode_actuator(json.dumps(said).encode()) for said in ended.said]
    description = Description("b", "B", "board", actuators=actuators_of(reports))

    components = components_of(description)

    platforms = {
        name.partition("_")[2]: component["platform"] for name, component in components.items()
    }
    assert {kind: platforms[kind] for kind in ACTUATORS} == {
        "output": "switch",
        "relay": "switch",
        "pwm": "number",
        "pulse_output": "button",
        "selector": "select",
        "simulated": "number",
        "uart_text": "text",
    }


def test_a_lamp_of_the_firmware_is_a_light(board: Host) -> None:
    script = (
        "config = {'name': 'lamp', 'pin': 4, 'light': True}\n"
        "say(__import__('actuators.pwm', None, None, ('Actuator',)).Actuator(config).describe())\n"
    )
    report = decode_actuator(json.dumps(board.said(script)).encode())
    lamp = components_of(Description("b", "B", "board", actuators=actuators_of([report])))

    assert lamp["light_lamp"]["brightness_command_topic"] == "edge/attic/b/lamp/set"
