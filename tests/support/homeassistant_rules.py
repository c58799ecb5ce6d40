"""Holds discovery payloads against the rules in `tests/vectors/homeassistant.json`."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_FACTS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "homeassistant.json").read_text(encoding="utf-8")
)
RULES: Final[dict[str, Any]] = _FACTS["rules"]
RELEASES: Final[dict[str, Any]] = _FACTS["releases"]

SHARED: Final = frozenset(RULES["shared"]["keys"])
_ID = re.compile(RULES["topic"]["id"])


def problems_of(topic: str, payload: bytes, prefix: str = "homeassistant") -> list[str]:
    """Return all that some release would refuse or warn of."""
    said = json.loads(payload)
    problems = []
    object_id = topic.removeprefix(f"{prefix}/device/").removesuffix("/config")
    if topic != f"{prefix}/device/{object_id}/config" or not _ID.fullmatch(object_id):
        problems.append(f"{topic}: not a discovery topic")
    for release, rules in RELEASES.items():
        problems += [f"{release}: {problem}" for problem in _problems(said, rules)]
    ids = [
        (component["platform"], component["unique_id"])
        for component in said["components"].values()
        if len(component) > 1
    ]
    if len(set(ids)) != len(ids):
        problems.append("two entities of one unique_id")
    return problems


def _problems(said: Mapping[str, Any], rules: Mapping[str, Any]) -> Iterator[str]:
    root = rules["root"]
    yield from _keys("root", said, {*root["required"], *root["optional"]}, root["required"])
    yield from _keys("device", said["device"], set(rules["device"]), ["identifiers", "name"])
    yield from _keys("origin", said["origin"], set(rules["origin"]), ["name"])
    for name, component in said["components"].items():
        if set(component) == set(RULES["removal"]["keys"]):
            if component["platform"] not in rules["platforms"]:
                yield f"{name}: removes an unknown platform"
            continue
        shared = {key: value for key, value in said.items() if key in SHARED}
        for problem in _component(shared | component, set(component), rules):
            yield f"{name}: {problem}"


def _component(entity: Mapping[str, Any], own: set[str], rules: Mapping[str, Any]) -> Iterator[str]:
    platform = entity["platform"]
    if platform not in rules["platforms"]:
        yield f"unknown platform {platform}"
        return
    keys = rules["platforms"][platform]
    known = {*keys["required"], *keys["optional"], "platform"}
    yield from _keys(platform, {key: entity[key] for key in own}, known, [])
    yield from (f"needs {key}" for key in keys["required"] if key not in entity)
    yield from _common(platform, entity, rules)
    yield from _topics(entity)
    yield from _class_and_unit(platform, entity, rules)
    yield from _OF_PLATFORM.get(platform, _nothing)(entity, rules)


def _common(platform: str, entity: Mapping[str, Any], rules: Mapping[str, Any]) -> Iterator[str]:
    if "unique_id" not in entity:
        yield "has no unique_id"
    if "name" not in entity and "device_class" not in entity:
        yield "has no name"
    for each in entity["availability"]:
        yield from _keys("availability", each, set(rules["availability"]), ["topic"])
    category = entity.get("entity_category")
    refusing = RULES["entity_category"]["not config"]
    if category not in (None, "diagnostic") and (category != "config" or platform in refusing):
        yield f"entity_category {category}"


def _keys(
    where: str, given: Mapping[str, Any], known: set[str], required: list[str]
) -> Iterator[str]:
    yield from (f"{where} knows no {key}" for key in given if key not in known)
    yield from (f"{where} needs {key}" for key in required if not given.get(key))


def _topics(entity: Mapping[str, Any]) -> Iterator[str]:
    for key, value in entity.items():
        if key.endswith("topic") and (not value or re.search(r"[+#\x00-\x1f\x7f-\x9f]", value)):
            yield f"{key}: {value!r} is no topic"


def _class_and_unit(
    platform: str, entity: Mapping[str, Any], rules: Mapping[str, Any]
) -> Iterator[str]:
    device_class = entity.get("device_class")
    if device_class is None:
        return
    if device_class not in rules["device_classes"].get(platform, ()):
        yield f"{platform} knows no device class {device_class}"
    unit = entity.get("unit_of_measurement")
    units = rules["units"].get(platform, {}).get(device_class)
    if units is not None and rules["other_spellings"].get(unit, unit) not in units:
        yield f"{device_class} in {unit}"


def _sensor(entity: Mapping[str, Any], rules: Mapping[str, Any]) -> Iterator[str]:
    device_class, state_class = entity.get("device_class"), entity.get("state_class")
    if state_class is not None:
        if state_class not in rules["state_classes"]:
            yield f"state class {state_class}"
        allowed = rules["state_classes_of"].get(device_class)
        if allowed is not None and state_class not in allowed:
            yield f"{device_class} as {state_class}"
        units = rules["units_of_state_class"].get(state_class)
        if units is not None and entity.get("unit_of_measurement") not in units:
            yield f"{state_class} needs one of {units}"
    for key in ("expire_after", "suggested_display_precision"):
        if not isinstance(entity.get(key, 0), int) or entity.get(key, 0) < 0:
            yield f"{key}: {entity[key]}"


def _number(entity: Mapping[str, Any], _rules: Mapping[str, Any]) -> Iterator[str]:
    if entity["min"] >= entity["max"]:
        yield "min not below max"
    if entity.get("step", 1) < RULES["number"]["least_step"]:
        yield "step too small"


def _select(entity: Mapping[str, Any], _rules: Mapping[str, Any]) -> Iterator[str]:
    if not entity["options"] or not all(isinstance(each, str) for each in entity["options"]):
        yield "options are texts"


def _text(entity: Mapping[str, Any], _rules: Mapping[str, Any]) -> Iterator[str]:
    longest = RULES["text"]["longest"]
    if not 0 <= entity.get("min", 0) < entity.get("max", longest) <= longest:
        yield "no length of a text"


def _update(entity: Mapping[str, Any], _rules: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(entity.get("payload_install", ""), str):
        yield "payload_install is a text"
    if "command_topic" in entity and "payload_install" not in entity:
        yield "a button that says nothing"


def _light(entity: Mapping[str, Any], _rules: Mapping[str, Any]) -> Iterator[str]:
    if entity["on_command_type"] not in RULES["on_command_type"]["values"]:
        yield "on_command_type"
    if not isinstance(entity["brightness_scale"], int) or entity["brightness_scale"] < 1:
        yield "brightness_scale"


def _nothing(_entity: Mapping[str, Any], _rules: Mapping[str, Any]) -> Iterator[str]:
    yield from ()


_OF_PLATFORM = {
    "sensor": _sensor,
    "number": _number,
    "select": _select,
    "text": _text,
    "light": _light,
    "update": _update,
}
