"""Which sensors and actuators simulated boards can have, and how they are wired."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.errors import ConfigError
from gateway.simulate.boards import Flash, Json

_I2C: Mapping[str, Json] = {"i2c": 0, "sda": 21, "scl": 22}

SENSORS: Mapping[str, Mapping[str, Json]] = {
    "bme280": {"name": "climate", "bus": _I2C, "address": 0x76},
    "sht3x": {"name": "air", "bus": _I2C, "address": 0x44},
    "ds18x20": {"name": "probes", "pin": 4},
    "dht22": {"name": "room", "pin": 15},
    "adc": {"name": "battery", "pin": 34, "divider": [100_000, 47_000]},
    "pulse": {
        "name": "rain",
        "pin": 5,
        "key": "rain",
        "unit": "mm",
        "device_class": "precipitation",
        "per_pulse": 0.2794,
        "exponent": -4,
    },
    "chip_temperature": {"name": "chip"},
    "heap": {"name": "heap"},
    "simulated": {
        "name": "soil",
        "key": "moisture",
        "unit": "%",
        "device_class": "moisture",
        "exponent": -1,
        "waveform": "sine",
        "low": 20,
        "high": 60,
        "period_s": 30,
        "noise": 0.5,
    },
}
"""Kind of sensor to its part of config.json; the firmware's fakes stand in for the chips."""

ACTUATORS: Mapping[str, Mapping[str, Json]] = {
    "switch": {"name": "pump"},
    "light": {"name": "lamp"},
    "number": {"name": "target", "range": [5, 30], "step": 0.5, "unit": "°C"},
    "select": {"name": "mode", "options": ["off", "low", "high"]},
    "button": {"name": "bell"},
    "text": {"name": "display"},
}
"""Kind of actuator to its part of config.json, beside the firmware's `simulated`."""

_FAKES: Mapping[str, Json] = {
    "pulses": {"5": 2},
    "adc": {"34": {"sine": [1_150_000, 1_300_000], "period_s": 120}},
}
_SLOWEST_MS: Mapping[str, int] = {"ds18x20": 1000, "dht22": 2000}
"""Least time between readings that these chips bear."""


def words_of(text: str) -> list[str]:
    """Return what stands in a list such as `bme280,adc`."""
    return [word for word in text.split(",") if word]


def actuators_of(kinds: Sequence[str]) -> list[Mapping[str, Json]]:
    """Return the parts of config.json of actuators of these kinds.

    Raises:
        ConfigError: there is no such kind of actuator.
    """
    unknown = [kind for kind in kinds if kind not in ACTUATORS]
    if unknown:
        raise ConfigError(f"unknown actuator {unknown[0]!r}; there are {', '.join(ACTUATORS)}")
    return [{"kind": "simulated", "type": kind, **ACTUATORS[kind]} for kind in kinds]


def flash(
    name: str,
    kinds: Sequence[str],
    interval_ms: int,
    *,
    seed: int = 1,
    actuators: Sequence[Mapping[str, Json]] = (),
) -> Flash:
    """Return what is in the flash of a board with these sensors.

    Raises:
        ConfigError: there is no such kind of sensor.
    """
    unknown = [kind for kind in kinds if kind not in SENSORS]
    if unknown:
        raise ConfigError(f"unknown sensor {unknown[0]!r}; there are {', '.join(SENSORS)}")
    sensors: list[Json] = []
    for kind in kinds:
        slowest_ms = max(interval_ms, _SLOWEST_MS.get(kind, 0))
        sensor: dict[str, Json] = {"kind": kind, **SENSORS[kind], "interval_ms": slowest_ms}
        if kind == "simulated":
            sensor["seed"] = seed
        sensors.append(sensor)
    config: dict[str, Json] = {
        "name": name,
        "links": ["stdio"],
        "sensors": sensors,
        "actuators": list(actuators),
    }
    return Flash(config, _FAKES)


def on_air(content: Flash) -> Flash:
    """Return the same for a board that is on the radio, and has no port."""
    return replace(content, config={**content.config, "links": ["ble"]})
