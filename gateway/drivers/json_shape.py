"""What the keys of a JSON line mean, and which of its values can be published; pure functions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from gateway.drivers.text_device import INT_LIMIT, MAX_SENSORS, is_good_text
from gateway.model import RESERVED_KEYS, Event, Fault, Value, slug

Key: TypeAlias = str | tuple[str, str]
"""A key of a line; (outer, inner) where an object was flattened."""

Pairs: TypeAlias = tuple[tuple[Key, Any], ...]
"""Keys and decoded values in the order of the line; an object among the values is a tuple again."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What one tuple of keys means; found once, used for every line with the same keys."""

    names: tuple[str, ...]
    """Sensor keys, in the order of the line."""
    places: tuple[int, ...]
    """Where their values stand in the line."""
    is_bare: bool
    """Every value of the line is a sensor's."""
    id_at: int | None
    seq_at: int | None
    epoch_at: int | None
    fault: Fault | None
    """What is wrong with every such line, although its other values are taken."""


def shape_of(keys: tuple[Key, ...]) -> Shape | Fault:
    """Work out what `keys` mean; a Fault where lines that have them are refused.

    `seq` and `id` are identity; so is `ep`, where there is a `seq`.
    """
    names: list[str] = []
    places: list[int] = []
    at: dict[Key, int] = {}
    fault = None
    for place, key in enumerate(keys):
        if key in ("seq", "id") or (key == "ep" and "seq" in keys):
            if key in at:
                return Fault("duplicate_key", str(key))
            at[key] = place
            continue
        name = slug(key if isinstance(key, str) else "_".join(key))
        if name in RESERVED_KEYS:
            fault = Fault("reserved_key", name)
            continue
        names.append(name)
        places.append(place)
    if len(names) > MAX_SENSORS:
        return Fault("too_many_keys", f"{len(names)} in a line")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        return Fault("duplicate_key", twice)
    return Shape(
        names=tuple(names),
        places=tuple(places),
        is_bare=len(places) == len(keys),
        id_at=at.get("id"),
        seq_at=at.get("seq"),
        epoch_at=at.get("ep"),
        fault=fault,
    )


def flattened(pairs: Pairs) -> Pairs:
    """Put the members of each object in its place; what is nested deeper stays as it is."""
    return tuple(_flattened(pairs))


def _flattened(pairs: Pairs) -> Iterator[tuple[Key, Any]]:
    for key, value in pairs:
        if type(value) is tuple and isinstance(key, str):
            for inner_key, inner in value:
                yield (key, inner_key), inner
        else:
            yield key, value


def is_sound(value: object) -> bool:
    """Whether a decoded value can be published as it is."""
    if type(value) is float:
        return value - value == 0.0  # finite; a third of the time of isfinite()
    if type(value) is int:
        return -INT_LIMIT <= value < INT_LIMIT
    if type(value) is str:
        return is_good_text(value)
    return type(value) is bool


def usable(shape: Shape, values: tuple[Any, ...], out: list[Event]) -> dict[str, Value]:
    """Return the values that can be published; append a Fault for each other one but null."""
    named: dict[str, Value] = {}
    if shape.fault:
        out.append(shape.fault)
    for name, place in zip(shape.names, shape.places, strict=True):
        value = values[place]
        if is_sound(value):
            named[name] = value
        elif value is not None:
            out.append(Fault(_UNSOUND[type(value)], name))
    return named


_UNSOUND: dict[type, str] = {
    float: "not_finite",
    int: "out_of_range",
    str: "bad_text",
    list: "list_value",
    tuple: "nested_too_deep",
}
"""Fault of a value that is not sound, by its type."""
