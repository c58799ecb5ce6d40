"""A device as one discovery payload."""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.cadence import Habit
from gateway.model import Description
from gateway.mqtt import topics
from gateway.mqtt.homeassistant import templates
from gateway.mqtt.homeassistant.actuators import actuator_components
from gateway.mqtt.homeassistant.naming import Component, Site
from gateway.mqtt.homeassistant.sensors import sensor_components

BOARD: Final = "board"
"""Driver of boards with our firmware: all they measure are numbers."""

PROJECT: Final = "edge-gateway"

UPDATE_KEYS: Final = ("installed_version", "latest_version", "in_progress", "update_percentage")
"""Of the document on a board's `update` topic: an update entity refuses any other."""

Components = dict[str, Component]


def device_components(  # noqa: PLR0913 - what is known of a device
    site: Site,
    level: str,
    description: Description,
    habits: Mapping[str, Habit],
    *,
    identity: str = "",
    has_signal: bool = False,
) -> Components:
    """Return a device's entities by their ids: sensors, actuators, diagnostics.

    Args:
        site: Whose device it is.
        level: The device's name in topics.
        description: What is known of it.
        habits: What was learned, by the keys of its sensors.
        identity: What the device is known by, if that is not its key.
        has_signal: Whether the strength of its radio signal is known.
    """
    device_id = site.device_id(identity or description.device)
    is_board = description.driver == BOARD
    entities = _diagnostics(site.topic(topics.info(level)), site.topic(topics.diagnostics(level)))
    if not has_signal:
        del entities["rssi"]
    if not description.firmware:
        del entities["firmware"]
    return {
        **dict(sensor_components(device_id, description.sensors, habits, is_board=is_board)),
        **dict(actuator_components(device_id, site.topic(level), description.actuators)),
        **{
            f"diagnostic_{key}": {
                **component,
                "entity_category": "diagnostic",
                "unique_id": f"{device_id}.diagnostic.{key}",
            }
            for key, component in entities.items()
        },
        **(
            {"update": _update(site, level, device_id, description.device)}
            if description.slot
            else {}
        ),
    }


def device_payload(  # noqa: PLR0913 - what is known of a device
    site: Site,
    level: str,
    description: Description,
    components: Components,
    removed: Iterable[tuple[str, str]] = (),
    *,
    identity: str = "",
) -> bytes:
    """Return the payload that announces a device.

    Args:
        site: Whose device it is.
        level: The device's name in topics.
        description: What is known of it.
        components: Its entities.
        removed: Id and platform of entities it had before. Home Assistant keeps what is merely
            left out; one with nothing but its platform is removed.
        identity: What the device is known by, if that is not its key.
    """
    stubs = {each: {"platform": platform} for each, platform in removed if each not in components}
    return encode(
        {
            "device": {
                "identifiers": [site.device_id(identity or description.device)],
                "name": description.name or description.device,
                "model": description.model or description.driver,
                **({"sw_version": description.firmware} if description.firmware else {}),
                "via_device": site.own_id,
            },
            "origin": origin(site),
            "availability": [
                gateway_is_there(site),
                {"topic": site.topic(topics.availability(level))},
            ],
            "availability_mode": "all",
            "state_topic": site.topic(topics.state(level)),
            "qos": 1,
            "components": {**components, **stubs},
        }
    )


def origin(site: Site) -> Component:
    """Return who announces it."""
    return {"name": PROJECT, "sw_version": site.version}


def gateway_is_there(site: Site) -> Component:
    """Return the topic without which nothing of this gateway is available."""
    return {"topic": site.topic(topics.STATUS), "value_template": templates.status()}


def _update(site: Site, level: str, device_id: str, device: str) -> Component:
    """Return the entity that shows which firmware a board could have, and asks for it."""
    return {
        "platform": "update",
        "name": "Firmware",
        "device_class": "firmware",
        "entity_category": "config",
        "unique_id": f"{device_id}.config.update",
        "state_topic": site.topic(topics.update(level)),
        "value_template": templates.chosen(UPDATE_KEYS),
        "command_topic": site.topic(topics.request("update")),
        "payload_install": json.dumps({"device": device}),
    }


def _diagnostics(info: str, diagnostics: str) -> Components:
    return {
        "link": {
            "platform": "sensor",
            "name": "Link",
            "state_topic": info,
            "value_template": templates.text_or_unknown("address"),
        },
        "firmware": {
            "platform": "sensor",
            "name": "Firmware",
            "state_topic": info,
            "value_template": templates.text_or_unknown("firmware"),
        },
        "problem": {
            "platform": "binary_sensor",
            "device_class": "problem",
            "state_topic": info,
            "value_template": templates.has_text("problem"),
            "payload_on": "True",
            "payload_off": "False",
        },
        "online_since": {
            "platform": "sensor",
            "name": "Online since",
            "device_class": "timestamp",
            "state_topic": diagnostics,
            "value_template": templates.text_or_unknown("online_since"),
        },
        "rssi": {
            "platform": "sensor",
            "name": "RSSI",
            "device_class": "signal_strength",
            "unit_of_measurement": "dBm",
            "state_class": "measurement",
            "state_topic": diagnostics,
            "value_template": templates.number("rssi"),
        },
        "lost": {
            "platform": "sensor",
            "name": "Lost samples",
            "state_class": "total_increasing",
            "state_topic": diagnostics,
            "value_template": templates.number("lost"),
        },
        "last_gap": {
            "platform": "sensor",
            "name": "Last gap",
            "device_class": "timestamp",
            "state_topic": diagnostics,
            "value_template": templates.inner_or_unknown("last_gap", "time"),
        },
    }


def encode(document: Component) -> bytes:
    """Return a payload as short JSON."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")
