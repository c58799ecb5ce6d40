"""What is to become of the values of devices; the configuration, without its door."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Window: TypeAlias = Literal["min", "max", "mean"]

EVERY_OTHER: Final = "*"
"""The source of a rule for all sensors that have none of their own; it changes no name or unit."""


@dataclass(frozen=True, slots=True)
class SensorRule:
    """What becomes of one sensor."""

    source: str
    """Its key as the drivers say it, or EVERY_OTHER."""
    rename: str = ""
    """The key it is published under; empty for its own."""
    unit: str | None = None
    """None for what the device says; so with `device_class`."""
    device_class: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    low: float | None = None
    high: float | None = None
    window: Window | None = None
    """What is published instead of the values."""
    beside: tuple[Window, ...] = ()
    """What is published besides, as sensors of their own; never together with `window`."""
    window_s: float = 0.0
    decimals: int | None = None
    throttle_s: float = 0.0
    deadband: float = 0.0
    refresh_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """What becomes of a device's sensors; no two of them have the same source or key."""

    sensors: tuple[SensorRule, ...]
