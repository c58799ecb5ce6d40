"""Sections `[[device]]` and `[[device.sensor]]`."""

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from gateway.config.fields import SECTION, Seconds, Switch, Text, Whole
from gateway.model import MAX_SLUG, RESERVED_KEYS, device_slug, slug, window_key

EVERY_OTHER = "*"
"""The key that stands for all sensors without a section of their own."""

MAX_SENSORS = 64
"""As many as a device that speaks in lines may have."""

Window: TypeAlias = Literal["min", "max", "mean"]
WINDOWS: tuple[Window, ...] = get_args(Window)

_MOST = 1_000_000_000_000
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


def _window_choice(value: object) -> Window | tuple[Window, ...] | None:
    """Take one of them in quotes, or a list of some."""
    if value is None:
        return None
    words = value if isinstance(value, list | tuple) else (value,)
    chosen = tuple(word for word in WINDOWS for each in words if each == word)
    if not words or len(chosen) != len(words):
        raise ValueError(
            'expected "min", "max" or "mean": the sensor is published as that; or a list of them, '
            'each once, such as ["min", "max"]: a further sensor for each'
        )
    if len(set(chosen)) != len(chosen):
        raise ValueError("each once")
    return chosen if isinstance(value, list | tuple) else chosen[0]


_WindowChoice = Annotated[
    Window | tuple[Window, ...] | None,
    PlainValidator(_window_choice),
    # pydantic's own serializer of the union warns, although nothing is wrong.
    PlainSerializer(lambda choice: choice, return_type=object),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(WINDOWS)},
                {
                    "type": "array",
                    "items": {"type": "string", "enum": list(WINDOWS)},
                    "minItems": 1,
                    "maxItems": len(WINDOWS),
                    "uniqueItems": True,
                },
            ]
        }
    ),
]


class SensorSettings(BaseModel):
    """`[[device.sensor]]`: what becomes of the values of one sensor, in the order of the keys."""

    model_config = SECTION

    key: Text = Field(
        description=(
            "The sensor as the device calls it; * for all that have no section of their own."
        )
    )
    rename: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SLUG,
        description="Key under which it is published. Default: as the device calls it.",
    )
    unit: str | None = Field(
        default=None,
        max_length=32,
        description="Unit that is published. Default: what the device says.",
    )
    device_class: str | None = Field(
        default=None,
        max_length=64,
        description="Home Assistant's device class. Default: what the device says.",
    )
    scale: _Number = Field(
        default=1.0,
        ge=-_MOST,
        le=_MOST,
        description="What a number is multiplied by, first of all.",
    )
    offset: _Number = Field(
        default=0.0, ge=-1e12, le=_MOST, description="What is then added to it."
    )
    low: _Number | None = Field(
        default=None,
        ge=-_MOST,
        le=_MOST,
        description=(
            "Least number that can be right, after scale and offset; what is below is left out, "
            "and an event tells it. Default: no limit."
        ),
    )
    high: _Number | None = Field(
        default=None,
        ge=-_MOST,
        le=_MOST,
        description="Greatest number that can be right. Default: no limit.",
    )
    window_s: Seconds | None = Field(
        default=None, ge=1, le=86_400, description="Seconds of which window makes one number."
    )
    window: _WindowChoice = Field(
        default=None,
        validate_default=True,
        description=(
            '"min", "max" or "mean": published is that of each window_s. A list of them: the '
            "sensor stays as it is, with one more for each, such as temperature_min."
        ),
    )
    decimals: Whole | None = Field(
        default=None,
        ge=0,
        le=9,
        description="Digits behind the point that are published. Default: as many as there are.",
    )
    throttle_s: Seconds = Field(
        default=0.0,
        ge=0,
        le=86_400,
        description="Seconds from one number to the next that is published, at least.",
    )
    deadband: _Number = Field(
        default=0.0,
        ge=0,
        le=_MOST,
        description=(
            "Least difference from the last number that was published; what differs less is left "
            "out."
        ),
    )
    refresh_s: Seconds = Field(
        default=3600.0,
        ge=1,
        le=604_800,
        description="Seconds after which a number is published in spite of deadband.",
    )

    @field_validator("rename")
    @classmethod
    def _is_a_free_key(cls, rename: str | None) -> str | None:
        if rename is None:
            return rename
        if rename != slug(rename):
            raise ValueError(f'only a-z, 0-9, _ and - may be in it; "{slug(rename)}" would do')
        if rename in RESERVED_KEYS:
            raise ValueError(f"{', '.join(sorted(RESERVED_KEYS))} stand in every sample already")
        return rename

    @field_validator("rename", "unit", "device_class", "scale", "offset", "low", "high")
    @classmethod
    def _is_for_one_sensor(cls, value: object, others: ValidationInfo) -> object:
        default = cls.model_fields[others.field_name or ""].default
        if value != default and others.data.get("key") == EVERY_OTHER:
            raise ValueError(
                f'"{EVERY_OTHER}" is for many sensors, and they differ in this: give each a '
                "section of its own"
            )
        return value

    @field_validator("scale")
    @classmethod
    def _keeps_something(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("it would make every number 0")
        return scale

    @field_validator("high")
    @classmethod
    def _is_above_low(cls, high: float | None, others: ValidationInfo) -> float | None:
        low = others.data.get("low")
        if high is not None and low is not None and high <= low:
            raise ValueError(f"must be greater than low, which is {low:g}")
        return high

    @field_validator("window")
    @classmethod
    def _has_a_length(
        cls, window: Window | tuple[Window, ...] | None, others: ValidationInfo
    ) -> Window | tuple[Window, ...] | None:
        window_s = others.data.get("window_s")
        if window is not None and "window_s" in others.data and window_s is None:
            raise ValueError("needs its length in seconds: window_s")
        if window is None and window_s is not None:
            raise ValueError('window_s needs to know what to publish: window = "mean"')
        if isinstance(window, tuple) and others.data.get("key") == EVERY_OTHER:
            raise ValueError(f'"{EVERY_OTHER}" takes one in quotes, no list: it adds no sensors')
        return window

    @property
    def source(self) -> str:
        """The key as the drivers say it."""
        return EVERY_OTHER if self.key == EVERY_OTHER else slug(self.key)

    @property
    def beside(self) -> tuple[Window, ...]:
        """Windows that are sensors of their own."""
        return self.window if isinstance(self.window, tuple) else ()

    @property
    def published(self) -> tuple[str, ...]:
        """The keys it fills in a sample."""
        key = self.rename or self.source
        return (key, *(window_key(key, window) for window in self.beside))


class DeviceSettings(BaseModel):
    """`[[device]]`: what is different for one device."""

    model_config = SECTION

    id: str = Field(
        min_length=1,
        max_length=MAX_SLUG,
        description=(
            "The device, as the first part of the ids of its samples says it; of a board that has "
            "replaced another, the id of that one. It never changes."
        ),
    )
    name: Text | None = Field(
        default=None,
        description=(
            "Name for people; as lower case letters, digits, _ and - it is the device's level in "
            "topics. Default: what the device says, and its id in topics."
        ),
    )
    enabled: Switch = Field(
        default=True,
        description=(
            "Whether anything of it is published; if not, its samples are taken and dropped."
        ),
    )
    sensor: tuple[SensorSettings, ...] = Field(
        default=(),
        max_length=MAX_SENSORS,
        description="What becomes of the values of its sensors.",
    )

    @field_validator("id")
    @classmethod
    def _is_a_key(cls, key: str) -> str:
        if key != slug(key):
            raise ValueError(
                f'only a-z, 0-9, _ and - are in the key of a device; "{slug(key)}" would do'
            )
        if key != device_slug(key):
            raise ValueError(f'no device is called so; "{device_slug(key)}" would do')
        return key

    @field_validator("sensor")
    @classmethod
    def _fills_each_key_once(
        cls, sensors: tuple[SensorSettings, ...]
    ) -> tuple[SensorSettings, ...]:
        if twice := _twice(sensor.source for sensor in sensors):
            raise ValueError(f"{twice} is there twice")
        published = [key for sensor in sensors for key in sensor.published]
        if twice := _twice(published):
            raise ValueError(f"two sensors would be published as {twice}: rename one of them")
        if long := [key for key in published if len(key) > MAX_SLUG]:
            raise ValueError(
                f"{long[0]} is longer than {MAX_SLUG} characters: rename the sensor to something "
                "shorter"
            )
        return sensors

    @property
    def level(self) -> str:
        """What its topics begin with."""
        return self.id if self.name is None else device_slug(self.name)


def check_devices(devices: tuple[DeviceSettings, ...]) -> tuple[DeviceSettings, ...]:
    """Return devices whose ids and topics are all different.

    Raises:
        ValueError: they are not.
    """
    if twice := _twice(device.id for device in devices):
        raise ValueError(f"{twice} is there twice")
    owners = {device.id: device.id for device in devices}
    for device in devices:
        owner = owners.setdefault(device.level, device.id)
        if owner != device.id:
            raise ValueError(
                f'{owner} and {device.id} would both have the topics of "{device.level}": give '
                "one of them another name"
            )
    return devices


def _twice(words: Iterable[str]) -> str:
    """Return those that occur more than once, as a list for people."""
    seen: set[str] = set()
    again: set[str] = set()
    for word in words:
        (again if word in seen else seen).add(word)
    return ", ".join(sorted(again))
