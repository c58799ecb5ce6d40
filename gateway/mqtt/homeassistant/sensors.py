"""A device's sensors as entities of Home Assistant."""

from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from typing import Final

from gateway.cadence import Habit
from gateway.model import Sensor
from gateway.mqtt.homeassistant import classes, templates
from gateway.mqtt.homeassistant.naming import Component, entity_name

EVENT_TYPES: Final = (
    "press",
    "double_press",
    "triple_press",
    "long_press",
    "long_double_press",
    "long_triple_press",
    "hold_press",
    "rotate_left",
    "rotate_right",
    "rotate_left_pressed",
    "rotate_right_pressed",
)
"""What buttons and dimmers say."""
OTHER_EVENT: Final = "other"

_DIAGNOSTIC_KEYS = frozenset({"free_heap", "uptime", "chip_temperature"})
"""Boards cannot say that a sensor tells of themselves; these sensors of our firmware do."""


def sensor_components(
    device_id: str, sensors: Iterable[Sensor], habits: Mapping[str, Habit], *, is_board: bool
) -> Iterator[tuple[str, Component]]:
    """Yield the entities of sensors, each with an id that is unique in its device.

    Args:
        device_id: Identifier of the device.
        sensors: In the order in which they are to appear.
        habits: By the sensors' keys. A sensor whose kind nobody knows yet is left out.
        is_board: Whether it is a board with our firmware: all its values are numbers, and its
            rain gauges count up.
    """
    taken: set[str] = set()
    for sensor in sensors:
        known = habits.get(sensor.key, Habit())
        kind = sensor.kind or ("number" if is_board else known.kind)
        if not kind:
            continue
        identity = sensor.identity if sensor.identity not in taken else sensor.key
        if identity in taken:
            continue
        taken.add(identity)
        component = _component(sensor, kind, known, is_board=is_board)
        component["unique_id"] = f"{device_id}.{identity}"
        yield f"{component['platform']}_{identity}", component


def _component(sensor: Sensor, kind: str, known: Habit, *, is_board: bool) -> Component:
    if kind == "event":
        return _event(sensor)
    if kind == "flag":
        return _flag(sensor)
    if kind == "number":
        return _number(sensor, known, is_board=is_board)
    return _text(sensor)


def _number(sensor: Sensor, known: Habit, *, is_board: bool) -> Component:
    unit = classes.unit_for(sensor.unit, sensor.device_class)
    device_class = classes.class_for(sensor.device_class, unit)
    component: Component = {"platform": "sensor", **_named(sensor, device_class)}
    if unit:
        component["unit_of_measurement"] = unit
    component["state_class"] = classes.state_class_for(
        sensor.key, device_class, unit, is_gauge_counted=is_board
    )
    if sensor.exponent is not None:
        component["suggested_display_precision"] = max(0, -sensor.exponent)
    component["value_template"] = templates.number(sensor.key)
    if known.silence_s is not None:
        component["expire_after"] = known.silence_s + ceil(sensor.quiet_s)
    return component


def _flag(sensor: Sensor) -> Component:
    device_class = sensor.device_class if sensor.device_class in classes.FLAGS else ""
    return {
        "platform": "binary_sensor",
        **_named(sensor, device_class),
        "value_template": templates.number(sensor.key),
        "payload_on": "True",
        "payload_off": "False",
    }


def _text(sensor: Sensor) -> Component:
    device_class = sensor.device_class if sensor.device_class in classes.MOMENTS else ""
    return {
        "platform": "sensor",
        **_named(sensor, device_class),
        "value_template": templates.text(sensor.key),
    }


def _event(sensor: Sensor) -> Component:
    return {
        "platform": "event",
        **_named(sensor, ""),
        **({"device_class": "button"} if sensor.key.startswith("button") else {}),
        "event_types": [*EVENT_TYPES, OTHER_EVENT],
        "qos": 1,  # what stands at the root of a payload no entity inherits
        "value_template": templates.event(sensor.key, EVENT_TYPES, OTHER_EVENT),
    }


def _named(sensor: Sensor, device_class: str) -> Component:
    named: Component = {}
    if device_class:
        named["device_class"] = device_class
    if device_class != sensor.key:  # else Home Assistant says it in its user's language
        named["name"] = entity_name(sensor.key)
    if sensor.is_diagnostic or sensor.key in _DIAGNOSTIC_KEYS:
        named["entity_category"] = "diagnostic"
    return named
