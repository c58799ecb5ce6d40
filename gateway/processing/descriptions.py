"""What a sensor is said to be, after its values were processed."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from gateway.model import Sensor
from gateway.processing.rules import SensorRule, Window
from gateway.processing.steps import Track

_NOT_NUMBERS: Final = frozenset({"flag", "text", "event"})


def described(sensor: Sensor, track: Track) -> Iterator[Sensor]:
    """Yield the sensor as it is published, and those that its windows add."""
    rule = track.rule
    plain = replace(
        sensor,
        key=track.key,
        unit=sensor.unit if rule.unit is None else rule.unit,
        device_class=sensor.device_class if rule.device_class is None else rule.device_class,
        source_key=sensor.key if track.key != sensor.key else "",
    )
    if sensor.kind in _NOT_NUMBERS:
        yield plain
        return
    yield replace(
        plain, exponent=_exponent(sensor.exponent, rule, rule.window), quiet_s=_quiet_s(rule)
    )
    for window, key in zip(rule.beside, track.beside_keys, strict=True):
        yield replace(
            plain,
            key=key,
            # Two underscores: the device itself may have a sensor `temperature_min`.
            source_key=f"{sensor.key}__{window}",
            exponent=_exponent(sensor.exponent, rule, window),
            quiet_s=rule.window_s,
        )


def _exponent(exponent: int | None, rule: SensorRule, window: Window | None) -> int | None:
    """Return which digit is the last that means something; None if nobody knows."""
    if rule.decimals is not None:
        return -rule.decimals
    if exponent is None:
        return None
    finer = 1 if window == "mean" else 0
    return exponent + math.floor(math.log10(abs(rule.scale))) - finer


def _quiet_s(rule: SensorRule) -> float:
    """Return for how long the steps of a sensor may let nothing pass, besides what is implausible.

    Each may wait for the next value of the one before it.
    """
    window_s = rule.window_s if rule.window is not None else 0.0
    return window_s + rule.throttle_s + (rule.refresh_s if rule.deadband > 0 else 0.0)
