"""A device's actuators as entities of Home Assistant.

`<device>/<actuator>/set` takes plain text, and `<device>/<actuator>/state` says it: true and false,
21.5, eco. A lamp's brightness goes the same way: 0 is off, and switching on means sending the
brightness it had, so that one message is one command.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.model import Actuator
from gateway.mqtt.homeassistant import classes, templates
from gateway.mqtt.homeassistant.naming import Component, entity_name

LEAST_STEP: Final = 0.001
WIDEST: Final = 1_000_000_000
"""Ends of a number that does not say its own: Home Assistant's would be 1 and 100."""
FULL_PERCENT: Final = 100

_LAMP_ON = "100"
_LAMP_OFF = "0"


def actuator_components(
    device_id: str, device_topic: str, actuators: Iterable[Actuator]
) -> Iterator[tuple[str, Component]]:
    """Yield the entities of actuators, each with an id that is unique in its device.

    `device_topic` is where the device's own topics are: `<base>/<device>`.
    """
    for actuator in actuators:
        topic = f"{device_topic}/{actuator.key}"
        made = _component(actuator, topic)
        if made is None:
            continue
        component: Component = {
            **made,
            "name": _name(actuator),
            "unique_id": f"{device_id}.set.{actuator.key}",
            "command_topic": f"{topic}/set",
            "qos": 1,
        }
        yield f"{made['platform']}_{actuator.key}", component


def _component(actuator: Actuator, topic: str) -> Component | None:
    state: Component = {"state_topic": f"{topic}/state"}
    match actuator.kind:
        case "switch":
            return {
                "platform": "switch",
                **state,
                "payload_on": "true",
                "payload_off": "false",
                **_class(actuator.device_class, classes.SWITCHES),
            }
        case "number":
            return _light(topic, state, actuator) if actuator.is_light else _number(state, actuator)
        case "select" if actuator.options:
            return {"platform": "select", **state, "options": list(actuator.options)}
        case "text":
            return {"platform": "text", **state, **_lengths(actuator)}
        case "button":
            return {"platform": "button", **_class(actuator.device_class, classes.BUTTONS)}
    return None


def _number(state: Component, actuator: Actuator) -> Component:
    low, high = actuator.minimum, actuator.maximum
    if low is None or high is None or low >= high:  # older releases refuse equal ends
        low, high = -WIDEST, WIDEST
    number: Component = {"platform": "number", **state, "min": _plain(low), "max": _plain(high)}
    if high == WIDEST:
        number["mode"] = "box"
    if actuator.step is not None:
        number["step"] = _plain(max(actuator.step, LEAST_STEP))
    unit = classes.unit_for(actuator.unit, actuator.device_class)
    if unit:
        number["unit_of_measurement"] = unit
    if device_class := classes.class_for(actuator.device_class, unit):
        number["device_class"] = device_class
    return number


def _light(topic: str, state: Component, actuator: Actuator) -> Component:
    scale = FULL_PERCENT if actuator.maximum is None else max(1, round(actuator.maximum))
    return {
        "platform": "light",
        **state,
        "state_value_template": templates.light_state(_LAMP_ON, _LAMP_OFF),
        "payload_on": _LAMP_ON,
        "payload_off": _LAMP_OFF,
        "on_command_type": "brightness",
        "brightness_command_topic": f"{topic}/set",
        "brightness_state_topic": f"{topic}/state",
        "brightness_scale": scale,
    }


def _lengths(actuator: Actuator) -> Component:
    lengths: Component = {}
    if actuator.minimum is not None and actuator.maximum is not None:
        low, high = round(actuator.minimum), round(actuator.maximum)
        if 0 <= low < high <= templates.MAX_STATE:
            lengths = {"min": low, "max": high}
        elif 0 < low == high <= templates.MAX_STATE:
            lengths = {"max": high}  # Home Assistant refuses equal ends; the gateway looks, too
    return lengths


def _name(actuator: Actuator) -> str:
    """Return what the board calls it, or its key as people write it."""
    return entity_name(actuator.key) if actuator.name in ("", actuator.key) else actuator.name


def _class(device_class: str, known: frozenset[str]) -> Component:
    return {"device_class": device_class} if device_class in known else {}


def _plain(number: float) -> float:
    """Return 30 rather than 30.0."""
    return int(number) if number == int(number) else number
