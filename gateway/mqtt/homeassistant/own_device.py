"""The gateway itself as a discovery payload: what it measures of itself."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.mqtt import topics
from gateway.mqtt.homeassistant import templates
from gateway.mqtt.homeassistant.device import PROJECT, encode, gateway_is_there, origin
from gateway.mqtt.homeassistant.naming import Component, Site

MISSED_HEALTH: Final = 3
"""Health documents that may be missing until what they say is known no more."""


class _Number(NamedTuple):
    """A number in the health document."""

    key: str
    name: str
    template: str
    device_class: str = ""
    unit: str = ""
    decimals: int = 0


_NUMBERS = (
    _Number("loop_lag", "Loop lag", templates.inner("loop_lag_s", "p99"), "duration", "s", 4),
    _Number("latency", "Latency", templates.inner("latency_s", "p99"), "duration", "s", 4),
    _Number("memory", "Memory", templates.megabytes("memory_bytes"), "data_size", "MB"),
    _Number("outbox", "Samples waiting", templates.inner("outbox", "records")),
    _Number("devices_online", "Devices online", templates.inner("devices", "online")),
    _Number("boards_connected", "Boards on Bluetooth", templates.inner("radio", "connected")),
)

_PROBLEMS = "(value_json|default({})).get('problems',[])"
"""What `request/health_check` would say: a list of texts."""


def gateway_payload(site: Site, health_interval_s: float) -> bytes:
    """Return the payload that announces the gateway itself, with what it measures of itself."""
    return encode(
        {
            "device": {
                "identifiers": [site.own_id],
                "name": f"Edge gateway {site.gateway}",
                "model": PROJECT,
                "sw_version": site.version,
            },
            "origin": origin(site),
            "availability": [gateway_is_there(site)],
            "availability_mode": "all",
            "state_topic": site.topic(topics.HEALTH),
            "qos": 1,
            "components": dict(_gateway_components(site, health_interval_s)),
        }
    )


def _gateway_components(site: Site, health_interval_s: float) -> Iterable[tuple[str, Component]]:
    for key, component in _entities(site, round(health_interval_s * MISSED_HEALTH)).items():
        component["entity_category"] = "diagnostic"
        component["unique_id"] = f"{site.own_id}..{key}"  # no device's key is empty
        yield f"gateway_{key}", component


def _entities(site: Site, expire_after_s: int) -> dict[str, Component]:
    status = site.topic(topics.STATUS)
    entities: dict[str, Component] = {
        "connected": {
            "platform": "binary_sensor",
            "device_class": "connectivity",
            "state_topic": status,
            "value_template": templates.status(),
            "payload_on": "online",
            "payload_off": "offline",
            "availability": [],  # else it could never say that it is not
        },
        "problem": {
            "platform": "binary_sensor",
            "device_class": "problem",
            "value_template": f"{{{{ {_PROBLEMS}|length > 0 }}}}",
            "payload_on": "True",
            "payload_off": "False",
            "json_attributes_topic": site.topic(topics.HEALTH),
            "json_attributes_template": f"{{{{ {{'problems': {_PROBLEMS}}}|tojson }}}}",
        },
        "radio": {
            "platform": "sensor",
            "name": "Radio",
            "value_template": templates.inner_or_unknown("radio", "state"),
        },
        "started": {
            "platform": "sensor",
            "name": "Started",
            "device_class": "timestamp",
            "state_topic": status,
            "value_template": templates.text_or_unknown("since"),
        },
    }
    for number in _NUMBERS:
        entities[number.key] = {
            "platform": "sensor",
            "name": number.name,
            **({"device_class": number.device_class} if number.device_class else {}),
            **({"unit_of_measurement": number.unit} if number.unit else {}),
            "state_class": "measurement",
            "suggested_display_precision": number.decimals,
            "value_template": number.template,
            "expire_after": expire_after_s,
        }
    return entities
