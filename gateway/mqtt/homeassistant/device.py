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

Components = dict[str, Component]


def device_components(
    site: Site, level: str, description: Description, learned: Mapping[str, Habit]
) -> Components:
    """Return a device's entities by their ids: sensors, actuators, diagnostics.

    `level` is the device's name in topics, `learned` what is known by its sensors' keys.
    """
    device_id = site.device_id(description.device)
    is_board = description.driver == BOARD
    return {
        **dict(sensor_components(device_id, description.sensors, learned, are_numbers=is_board)),
        **dict(actuator_components(device_id, site.topic(level), description.actuators)),
        **dict(_diagnostics(site, level, device_id, description)),
    }


def device_payload(
    site: Site,
    level: str,
    description: Description,
    components: Components,
    removed: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Return the payload that announces a device.

    Args:
        site: Whose device it is.
        level: The device's name in topics.
        description: What is known of it.
        components: Its entities.
        removed: Id and platform of entities it had before. Home Assistant keeps what is merely
            left out; one with nothing but its platform is removed.
    """
    stubs = {each: {"platform": platform} for each, platform in removed if each not in components}
    return encode(
        {
            "device": {
                "identifiers": [site.device_id(description.device)],
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


def _diagnostics(
    site: Site, level: str, device_id: str, description: Description
) -> Iterable[tuple[str, Component]]:
    info = site.topic(topics.info(level))
    diagnostics = site.topic(topics.diagnostics(level))
    entities: dict[str, Component] = {
        "link": {
            "platform": "sensor",
            "name": "Link",
            "state_topic": info,
            "value_template": templates.text_or_unknown("address"),
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
    if description.firmware:
        entities["firmware"] = {
            "platform": "sensor",
            "name": "Firmware",
            "state_topic": info,
            "value_template": templates.text_or_unknown("firmware"),
        }
    for key, component in entities.items():
        component["entity_category"] = "diagnostic"
        component["unique_id"] = f"{device_id}.diagnostic.{key}"
        yield f"diagnostic_{key}", component


def encode(document: Component) -> bytes:
    """Return a payload as short JSON."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")
