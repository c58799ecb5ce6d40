"""Values that travel through the gateway, from a driver to MQTT."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias
from unicodedata import combining, normalize

from gateway.clock import TimeBase

Value: TypeAlias = float | int | str | bool
"""One measured value; floats are finite."""

MAX_SLUG = 64
"""Longest device or sensor key, in characters; keeps every topic far below MQTT's 65,535 bytes."""

RESERVED_DEVICES = frozenset({"status", "health", "request", "response", "rollout"})
"""First levels of the gateway's own topics, below the base topic."""

RESERVED_KEYS = frozenset({"time", "id", "time_quality"})
"""Keys the gateway itself adds to a published sample."""

_NOT_SLUG = re.compile(r"[^a-z0-9_-]+")


def slug(text: str) -> str:
    """Return `text` as a topic level: `[a-z0-9_-]`, 1 to MAX_SLUG characters.

    Letters with marks lose them: `Küche` is `kuche`.
    """
    if not text.isascii():
        text = normalize("NFKD", text.casefold())
        text = "".join(char for char in text if not combining(char))
    return _NOT_SLUG.sub("_", text.strip().lower())[:MAX_SLUG].strip("_") or "unnamed"


def device_slug(text: str) -> str:
    """Return `text` as a device's topic level: its slug, or `<slug>_device` where that is ours."""
    level = slug(text)
    return f"{level}_device" if level in RESERVED_DEVICES else level


def window_key(sensor: str, window: str) -> str:
    """Return the key of what is published of a sensor's windows: `temperature_min`."""
    return f"{sensor}_{window}"


class Sample(NamedTuple):
    """The values one device took at one moment.

    A NamedTuple, not a frozen dataclass: it is made for every line read, and costs a third.
    """

    device: str
    """The device, as `device_slug` names it."""
    boot: int
    """The board's boot epoch; for sources without one, a number of this run of the gateway."""
    seq: int
    """Number of the sample within its boot; consecutive."""
    taken_s: float
    """When it was taken, on the gateway's monotonic clock."""
    values: Mapping[str, Value]
    """Sensor key (a slug) to value; empty where the configuration left nothing of it to publish."""


class GapCause(Enum):
    """Why samples will never arrive."""

    RING_OVERFLOW = "ring_overflow"
    """The board ran out of memory while nobody took its samples."""
    STORE_OVERFLOW = "store_overflow"
    """The gateway's outbox was full."""
    UNREADABLE = "unreadable"
    """The device sent records that do not fit its own description; nobody can read them."""
    REFUSED = "refused"
    """The broker takes no message of that content or size, however often it is sent."""
    POWER_LOSS = "power_loss"
    """The board lost power, or its memory, with samples that nobody had taken."""
    CORRUPT_STORE = "corrupt_store"
    """The gateway's store on disk was damaged, and these could not be read back."""
    EXPIRED = "expired"
    """They waited in the outbox for longer than its owner keeps samples."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that were lost, and are published as lost."""

    device: str
    boot: int
    first_seq: int
    last_seq: int
    """Inclusive."""
    cause: GapCause
    seen_s: float
    """When the loss was noticed, on the gateway's monotonic clock."""
    missing: int | None = None
    """How many of the numbers were samples; None for all of them."""

    @property
    def count(self) -> int:
        """How many samples are missing."""
        return self.last_seq - self.first_seq + 1 if self.missing is None else self.missing


Record: TypeAlias = Sample | Gap
"""What the outbox holds: every number a device used is delivered as one or the other."""


class BatchKind(Enum):
    """Which topics the samples of a batch belong on; gaps have their own."""

    LIVE = "live"
    """The newest sample is the device's state; those before it go to its history."""
    BACKLOG = "backlog"
    """All of them are older than the state that is published: to the history."""
    PREVIEW = "preview"
    """One sample, to the state only: those before it are still to come, and it comes again among
    them, in its place and with its id. It settles nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Records of one device, in order, on their way to the broker; compared by identity."""

    device: str
    records: tuple[Record, ...]
    kind: BatchKind = BatchKind.LIVE
    time_base: TimeBase | None = None
    """How its times become UTC, for samples of an earlier boot of the machine; None for the present
    boot, by its clocks as they stand when it is published."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One measured quantity of a device."""

    key: str
    unit: str = ""
    device_class: str = ""
    """Home Assistant's word for the quantity; empty when there is none."""
    exponent: int | None = None
    """Value = integer on the wire * 10**exponent; None where values come as text."""
    is_diagnostic: bool = False
    """Whether it tells of the device itself rather than of what it measures."""
    source_key: str = ""
    """Its key before the configuration renamed it; empty where that is `key`."""
    kind: str = ""
    """number, flag (true or false), text or event (a text that counts each time it is said); empty
    where only the values tell."""

    quiet_s: float = 0.0
    """So long the configuration may leave out its values, although the device sends them."""

    @property
    def identity(self) -> str:
        """What no change of the configuration changes: for ids that must outlive a new name."""
        return self.source_key or self.key


@dataclass(frozen=True, slots=True)
class Actuator:
    """Something a device can be told to do."""

    key: str
    name: str
    kind: str
    """switch, number, button, select or text."""
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[str, ...] = ()
    state: Value | None = None
    """As last reported by the device; None when it never said."""
    unit: str = ""
    """Of a number."""
    step: float | None = None
    """Between two numbers it can tell apart; None when it never said."""
    device_class: str = ""
    """Home Assistant's word for what it moves; empty when there is none."""
    is_light: bool = False
    """Whether a number is the brightness of a lamp in percent, 0 being off."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a device says of itself."""

    device: str
    name: str
    driver: str
    """Which of our drivers reads it: board, json_lines, csv_lines, or a family of adverts."""
    model: str = ""
    firmware: str = ""
    runtime: str = ""
    """Interpreter of the board, such as `MicroPython 1.25.0`."""
    address: str = ""
    """Where it is connected: a port or a radio address."""
    sensors: tuple[Sensor, ...] = ()
    actuators: tuple[Actuator, ...] = ()
    boot: int = 0
    reset_cause: str = ""
    crash: str = ""
    """Traceback of the crash that ended the board's last run, if there was one."""
    problem: str = ""
    """Why there are no values of it: needs_key or wrong_key; empty when nothing is wrong."""
    manifest_hash: str = ""
    """The first 16 hex digits of what names its firmware, file by file."""
    config_hash: str = ""
    """The first 8 hex digits of the SHA-256 of its settings in force."""
    slot: str = ""
    """Which of its two copies of the firmware it runs; empty if it cannot be updated."""
    is_on_trial: bool = False
    """Whether an update is in force that it may still take back."""
    rollback: str = ""
    """Why the last update was taken back, until the gateway has heard of it."""
    bytecode: int = 0
    """Version of the .mpy files it runs; 0 if it did not say."""
    key_id: str = ""
    """What names its key; empty if it has none."""


@dataclass(frozen=True, slots=True)
class Implausible:
    """A value that cannot be right, left out of its sample."""

    sample: Sample
    """As it is published."""
    sensor: str
    """The key under which the value would have been."""
    value: float
    """In the unit that is published."""
    low: float | None
    high: float | None
    """Within which it should have been; None for no limit."""
    count: int
    """Values of this sensor that were left out since the last one that was told."""


class LogLevel(Enum):
    """Severity of a line a device logged; the numbers are the wire's."""

    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4


@dataclass(frozen=True, slots=True)
class Readings:
    """Records of one device in order, with what to call once all of them are safe."""

    device: str
    records: Sequence[Record]
    """At least one. A driver may still append until it returns from `feed`, nobody afterwards."""
    on_safe: Callable[[], None] | None = None
    """None when the source takes no acknowledgement."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A device is connected and described; sent again when its description changes."""

    description: Description


@dataclass(frozen=True, slots=True)
class ActuatorChanged:
    """A device reported the state of one actuator."""

    device: str
    actuator: Actuator


@dataclass(frozen=True, slots=True)
class DeviceLog:
    """A line a device logged; `device` is empty when nobody knows yet which one it is."""

    device: str
    level: LogLevel
    text: str


@dataclass(frozen=True, slots=True)
class Gone:
    """A device left on purpose or fell silent."""

    device: str
    reason: str
    back_in_s: float | None = None
    """When a sleeping device said it will be back; None when unknown."""


@dataclass(frozen=True, slots=True)
class TakesCommands:
    """A board was welcomed, for the first time or again, and can be told what to do."""

    device: str
    life: str
    """The life of its memory, in which it does no command twice; empty if it has no name for it."""


@dataclass(frozen=True, slots=True)
class UpdateStated:
    """A board said what became of an update that it has all of."""

    device: str
    state: str
    """trial, confirmed or rolled_back."""
    manifest_hash: str
    """Of the update: its first 16 hex digits."""
    reason: str
    """Why it was taken back."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Input a driver could not use; counted by kind, logged once for each (link, kind)."""

    kind: str
    detail: str


Event: TypeAlias = (
    Readings | Seen | ActuatorChanged | DeviceLog | Gone | TakesCommands | UpdateStated | Fault
)
"""What a driver makes of bytes."""
