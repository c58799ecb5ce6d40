"""What a library made of an advert, as values and sensors of ours."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.drivers.advert import Advert
from gateway.drivers.advert_families import Family, Library, Parser
from gateway.drivers.text_device import INT_LIMIT, is_good_text, printable
from gateway.model import RESERVED_KEYS, Sensor, Value, slug

if TYPE_CHECKING:
    from sensor_state_data import DeviceKey, SensorUpdate

MAX_KEYS: Final = 128
"""Quantities one parser may have met; parsers never forget, so one with more is replaced."""

RSSI: Final = Sensor("rssi", "dBm", "signal_strength", is_diagnostic=True)

_DECIMALS = 5
"""More than any of these sensors has; hides what multiplying by 0.01 leaves behind."""

_NO_READING = frozenset({"signal_strength", "packet_id"})
"""Quantities of the radio and of the format: the first rides along as `rssi`."""

_BINARY_KEYS: Mapping[str, str] = {
    "battery": "battery_low",
    "carbon_monoxide": "carbon_monoxide_detected",
    "gas": "gas_detected",
    "moisture": "moisture_detected",
    "power": "power_on",
}
"""Names for booleans whose own names belong to measured quantities, which may come as well."""

_SAME_CLASSES = (
    "apparent_power aqi battery battery_charging carbon_dioxide carbon_monoxide cold conductivity "
    "connectivity current date distance door duration energy frequency garage_door gas heat "
    "humidity illuminance light lock moisture monetary motion moving nitrogen_dioxide "
    "nitrogen_monoxide nitrous_oxide occupancy opening ozone plug pm1 pm10 pm25 power power_factor "
    "precipitation presence pressure problem reactive_power running safety smoke sound "
    "sound_pressure speed sulphur_dioxide tamper temperature timestamp vibration "
    "volatile_organic_compounds voltage volume volume_flow_rate volume_storage water window"
)
_DEVICE_CLASSES: Mapping[str, str] = {
    **{word: word for word in _SAME_CLASSES.split()},
    "dew_point": "temperature",
    "direction": "wind_direction",
    "mass": "weight",
    "mass_non_stabilized": "weight",
}
"""The libraries' words to Home Assistant's, for those that it has."""


class Reading(NamedTuple):
    """One value, and of what."""

    sensor: Sensor
    value: Value


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one advert says."""

    readings: tuple[Reading, ...] = ()
    has_events: bool = False
    name: str = ""
    model: str = ""
    firmware: str = ""
    is_sleepy: bool = False
    """Whether it advertises only when something happens."""
    is_unsealed: bool = False
    """Whether a sealed advert was decrypted."""


@dataclass(slots=True)
class Decoder:
    """The library's parser of one sensor; it may raise anything at adverts that are garbage."""

    family: Family
    library: Library
    key: bytes | None = None
    _parser: Parser | None = None
    _sensors: dict["DeviceKey", Sensor] = field(default_factory=dict)
    _flags: dict["DeviceKey", Sensor] = field(default_factory=dict)
    _told: dict["DeviceKey", object] = field(default_factory=dict)
    """The parser's newest value of each quantity, to tell which are new: it repeats them all."""
    _told_flags: dict["DeviceKey", object] = field(default_factory=dict)

    def decode(self, advert: Advert, name: str) -> Decoded:
        """Return what is new in this advert; `name` is the sensor's, if it ever told one."""
        parser = self._parser
        if parser is None or len(self._told) + len(self._told_flags) > MAX_KEYS:
            parser = self._renew()
        takes_key = self.family.takes_key
        if takes_key:
            parser.decryption_failed = True  # type: ignore[attr-defined]  # those with keys have it
        update = parser.update(
            self.library.new_advert(
                name=name or (advert.address if self.family.names_by_address else ""),
                address=advert.address,
                rssi=advert.rssi,
                manufacturer_data=dict(advert.manufacturer_data),
                service_data=dict(advert.service_data),
                service_uuids=list(advert.service_uuids),
                source="",
                device=None,
                advertisement=None,
                connectable=False,
                time=advert.heard_s,
                tx_power=None,
                raw=advert.raw or None,
            )
        )
        readings = tuple(self._readings(update))
        name, model, firmware = _identity(update)
        return Decoded(
            readings,
            has_events=bool(update.events),
            name=name,
            model=model,
            firmware=firmware,
            is_sleepy=_is_sleepy(parser),
            is_unsealed=takes_key and (bool(readings) or not parser.decryption_failed),  # type: ignore[attr-defined]
        )

    def count_anew(self) -> None:
        """Let the parser forget the newest counter, where it keeps one: the sensor began anew."""
        parser = self._parser
        if parser is not None and hasattr(parser, "reset_encryption_counter"):
            parser.reset_encryption_counter()

    def _renew(self) -> Parser:
        for known in (self._sensors, self._flags, self._told, self._told_flags):
            known.clear()
        library = self.library
        if self.family.takes_key:
            self._parser = library.new_parser_with_key(self.key)
        else:
            self._parser = library.new_parser()
        return self._parser

    def _readings(self, update: "SensorUpdate") -> Iterator[Reading]:
        told = self._told
        for key, entity in update.entity_values.items():
            if told.get(key) is entity:
                continue
            told[key] = entity
            sensor = self._sensors.get(key)
            if sensor is None:
                described = update.entity_descriptions[key]
                unit = described.native_unit_of_measurement
                sensor = self._sensors[key] = self._sensor(key, described.device_class, unit)
            value = _usable(entity.native_value, has_unit=bool(sensor.unit))
            if value is not None and sensor.key not in _NO_READING:
                yield Reading(sensor, value)
        yield from self._flag_readings(update)
        for key, event in update.events.items():
            sensor = replace(self._sensor(key, None, None), kind="event")
            value = _usable(event.event_type, has_unit=False)
            if value is not None:
                yield Reading(sensor, value)
            for name, content in (event.event_properties or {}).items():
                value = _usable(content, has_unit=False)
                if value is not None:
                    yield Reading(Sensor(_key(f"{sensor.key}_{name}")), value)

    def _flag_readings(self, update: "SensorUpdate") -> Iterator[Reading]:
        told = self._told_flags
        for key, flag in update.binary_entity_values.items():
            if told.get(key) is flag:
                continue
            told[key] = flag
            sensor = self._flags.get(key)
            if sensor is None:
                device_class = update.binary_entity_descriptions[key].device_class
                sensor = self._sensor(key, device_class, None, _BINARY_KEYS)
                sensor = self._flags[key] = replace(sensor, kind="flag")
            if flag.native_value is not None:
                yield Reading(sensor, bool(flag.native_value))

    def _sensor(
        self,
        key: "DeviceKey",
        device_class: object,
        unit: object,
        renamed: Mapping[str, str] | None = None,
    ) -> Sensor:
        parts = key.key if isinstance(key.key, tuple) else (key.key,)
        word = "_".join(_word(part) for part in parts if part is not None)
        if self.family.numbers_repeated:
            word = word.removesuffix("_1")
            stem, _, number = word.rpartition("_")
            if renamed and number.isdecimal() and stem in renamed:
                word = f"{renamed[stem]}_{number}"
        if renamed:
            word = renamed.get(word, word)
        if key.device_id not in (None, "primary"):
            word = f"{key.device_id}_{word}"
        device_class_word = _word(device_class) if device_class is not None else ""
        return Sensor(
            _key(word),
            _word(unit) if unit is not None else "",
            _DEVICE_CLASSES.get(device_class_word, ""),
            is_diagnostic=device_class_word == "battery",
        )


def _identity(update: "SensorUpdate") -> tuple[str, str, str]:
    """Return name, model and firmware of the first device that has a name; often there is one."""
    for info in update.devices.values():
        if info.name or info.model:
            maker, model = info.manufacturer or "", str(info.model or "")
            if not model.startswith(maker):
                model = f"{maker} {model}".strip()
            return (
                printable(str(info.name or "")),
                printable(model),
                printable(str(info.sw_version or "")),
            )
    return "", "", ""


def _is_sleepy(parser: Parser) -> bool:
    """Tell what BTHome and Xiaomi call `sleepy_device`, and Govee `sleepy`, of known models."""
    if hasattr(parser, "sleepy_device"):
        return bool(parser.sleepy_device)
    return bool(getattr(parser, "device_type", None) and getattr(parser, "sleepy", False))


def _key(word: str) -> str:
    key = slug(word)
    return f"{key}_value" if key in RESERVED_KEYS or key == RSSI.key else key


def _word(word: object) -> str:
    return str(word.value if isinstance(word, Enum) else word)


def _usable(value: object, *, has_unit: bool) -> Value | None:
    """Return a value as we publish it; None for none, and for `error` instead of a number."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -INT_LIMIT <= value < INT_LIMIT else None
    if isinstance(value, float | Decimal):
        number = float(value)
        return round(number, _DECIMALS) if math.isfinite(number) else None
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, str) and not has_unit and value and is_good_text(value):
        return value
    return None
