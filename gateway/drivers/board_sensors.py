"""What a board says it has, in the words of MQTT: slugs, unique and not reserved."""

from collections import Counter
from collections.abc import Sequence

from gateway.drivers.text_device import printable
from gateway.model import MAX_SLUG, RESERVED_KEYS, Actuator, Sensor, slug
from gateway.protocol.messages import ActuatorReport, Stream


def sensor_keys(streams: Sequence[Stream]) -> dict[int, list[str]]:
    """Return the keys of each stream's channels, by the stream's number; no two are alike.

    A key is the channel's own if only one channel of the board has it, else the stream's name
    goes in front; what is still not unique, or is reserved, is numbered.
    """
    own = {s.number: [slug(channel.key) for channel in s.channels] for s in streams}
    shared = Counter(key for keys in own.values() for key in keys)
    taken = set(RESERVED_KEYS)
    named: dict[int, list[str]] = {}
    for stream in streams:
        named[stream.number] = []
        for key in own[stream.number]:
            wanted = key
            if shared[key] > 1 or key in RESERVED_KEYS:
                wanted = slug(f"{slug(stream.name)}_{key}")
            wanted = _numbered(wanted, taken)
            taken.add(wanted)
            named[stream.number].append(wanted)
    return named


def sensors_of(streams: Sequence[Stream], keys: dict[int, list[str]]) -> tuple[Sensor, ...]:
    """Return the sensors of a board, in the order of its streams."""
    return tuple(
        Sensor(key, printable(channel.unit), slug_or_empty(channel.device_class), channel.exponent)
        for stream in streams
        for key, channel in zip(keys[stream.number], stream.channels, strict=True)
    )


def actuator_of(report: ActuatorReport) -> Actuator:
    """Return an actuator as the rest of the gateway knows it."""
    return Actuator(
        key=slug(report.key),
        name=printable(report.name),
        kind=report.kind,
        minimum=report.minimum,
        maximum=report.maximum,
        options=tuple(printable(option) for option in report.options),
        state=report.state,
        unit=printable(report.unit),
        step=report.step,
        device_class=slug_or_empty(report.device_class),
        is_light=report.is_light,
    )


def actuators_of(reports: Sequence[ActuatorReport]) -> tuple[Actuator, ...]:
    """Return a board's actuators; of two with the same slug the first counts."""
    by_key: dict[str, Actuator] = {}
    for report in reports:
        actuator = actuator_of(report)
        by_key.setdefault(actuator.key, actuator)
    return tuple(by_key.values())


def actuator_names(reports: Sequence[ActuatorReport]) -> dict[str, str]:
    """Return by which name the board knows each actuator of `actuators_of`."""
    names: dict[str, str] = {}
    for report in reports:
        names.setdefault(slug(report.key), report.key)
    return names


def slug_or_empty(text: str) -> str:
    """Return a slug, or nothing where nothing was said."""
    return slug(text) if text else ""


def _numbered(key: str, taken: set[str]) -> str:
    number, unique = 1, key
    while unique in taken:
        number += 1
        suffix = f"_{number}"
        unique = key[: MAX_SLUG - len(suffix)] + suffix
    return unique
