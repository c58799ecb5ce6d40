"""What Home Assistant's entities make of messages: its templates, and what it logs about them.

Undefined values leave a remark wherever Home Assistant would log a warning or an error.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

from jinja2 import Undefined
from jinja2.exceptions import UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.support.homeassistant_rules import RULES, SHARED


class _State:
    """What a template calls `this`."""

    def __init__(self, state: str, attributes: dict[str, Any]) -> None:
        self.entity_id = "sensor.this"
        self.state = state
        self.attributes = attributes


class Entity:
    """An entity that is told messages; `state` is what Home Assistant would show."""

    def __init__(self, payload: bytes, component: str) -> None:
        """`payload` announces it."""
        said = json.loads(payload)
        shared = {key: value for key, value in said.items() if key in SHARED}
        self.config: dict[str, Any] = shared | said["components"][component]
        self.platform: str = self.config["platform"]
        self.state = "unknown"
        self.attributes: dict[str, Any] = {}
        self.events: list[str] = []
        self.remarks: list[str] = []
        """What Home Assistant would have logged as a warning or an error."""
        self._environment = _environment(self)

    @property
    def is_numeric(self) -> bool:
        """Whether Home Assistant takes numbers only (sensor: _numeric_state_expected)."""
        if self.config.get("device_class") in RULES["non_numeric_classes"]["values"]:
            return False
        keys = ("state_class", "unit_of_measurement", "suggested_display_precision", "device_class")
        return any(self.config.get(key) is not None for key in keys)

    def render(self, template_key: str, payload: str) -> str:
        """Return what a template of the entity makes of a message."""
        if template_key not in self.config:
            return payload
        variables: dict[str, Any] = {"value": payload, "this": _State(self.state, self.attributes)}
        with suppress(ValueError):
            variables["value_json"] = json.loads(payload)
        return self._environment.from_string(self.config[template_key]).render(variables).strip()

    def hear(self, payload: str) -> str:
        """Take a message on the state's topic; return what it shows now."""
        match self.platform:
            case "sensor":
                self._hear_sensor(self.render("value_template", payload))
            case "event":
                self._hear_event(self.render("value_template", payload))
            case "light":
                self._hear_flag(self.render("state_value_template", payload))
            case "switch":
                self._hear_flag(self.render("value_template", payload))
            case "update":
                self._hear_update(self.render("value_template", payload))
            case "binary_sensor":
                self._hear_flag(self.render("value_template", payload))
            case _:
                self.state = payload
        return self.state

    def _hear_sensor(self, rendered: str) -> None:
        if rendered == "None":
            self.state = "unknown"
        elif self.is_numeric:
            if rendered:
                float(rendered)
                self.state = rendered
        elif self.config.get("device_class") in ("date", "timestamp"):
            if not re.match(r"\d{4}-\d\d-\d\d", rendered):
                self.remarks.append(f"invalid state {rendered!r}")
            self.state = rendered
        else:
            if len(rendered) > RULES["text"]["longest"]:
                self.remarks.append("state too long")
            self.state = rendered

    def _hear_flag(self, rendered: str) -> None:
        words = {self.config["payload_on"]: "on", self.config["payload_off"]: "off"}
        if rendered and rendered not in {*words, "None"}:
            self.remarks.append(f"no payload of ours: {rendered!r}")
        elif rendered:
            self.state = words.get(rendered, "unknown")

    def _hear_update(self, rendered: str) -> None:
        if rendered in ("", "{}"):
            return
        said, rules = json.loads(rendered), RULES["update"]
        for key, value in said.items():
            is_right = (
                (key in rules["strings"] and isinstance(value, str))
                or (key in rules["booleans"] and isinstance(value, bool))
                or (key in rules["percentages"] and (value is None or 0 <= value <= 100))
            )
            if not is_right:
                self.remarks.append(f"schema violation: {key}: {value!r}")
                return
        if "update_percentage" in said:
            said.setdefault("in_progress", said["update_percentage"] is not None)
        self.attributes |= said
        installed = self.attributes.get("installed_version")
        latest = self.attributes.get("latest_version")
        if installed and latest:
            self.state = "off" if installed == latest else "on"

    def _hear_event(self, rendered: str) -> None:
        if rendered in ("", "None", "{}"):
            return
        said = json.loads(rendered)
        event_type = said.pop("event_type")
        if event_type not in self.config["event_types"]:
            self.remarks.append(f"unknown event {event_type}")
        self.attributes = said
        self.events.append(event_type)


def _environment(entity: Entity) -> ImmutableSandboxedEnvironment:
    class Remarked(Undefined):
        """Leaves a remark where Home Assistant's LoggingUndefined logs one."""

        def __str__(self) -> str:
            entity.remarks.append(f"printed: {self._undefined_message}")
            return ""

        def __bool__(self) -> bool:
            entity.remarks.append(f"asked whether true: {self._undefined_message}")
            return False

        def __iter__(self) -> Iterator[Any]:
            entity.remarks.append(f"looked through: {self._undefined_message}")
            return iter(())

        def _fail_with_undefined_error(self, *_: object, **__: object) -> NoReturn:
            entity.remarks.append(f"looked into: {self._undefined_message}")
            raise UndefinedError(self._undefined_message)

        __getitem__ = __getattr__ = __add__ = __radd__ = _fail_with_undefined_error

    def forgiving_float(value: Any, default: float) -> float:  # noqa: ANN401 - as it comes
        try:
            return float(value)
        except ValueError:
            return default

    environment = ImmutableSandboxedEnvironment(undefined=Remarked, autoescape=False)
    environment.globals["has_value"] = lambda _id: entity.state not in ("unknown", "unavailable")
    environment.filters["float"] = forgiving_float
    environment.filters["tojson"] = json.dumps
    return environment
