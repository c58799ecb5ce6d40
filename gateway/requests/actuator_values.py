"""What a person, Home Assistant or a program may say to an actuator, for each kind of them."""

import math
from collections.abc import Callable, Mapping, Sequence

from gateway.errors import RequestError
from gateway.model import Actuator, Value
from gateway.requests.reading import printable, shown

MAX_TEXT = 200
"""Longest text for an actuator, in characters: the line to a board has 256."""

_ON = frozenset({"on", "true", "1"})
_OFF = frozenset({"off", "false", "0"})
_MANY = 8
"""So many names are listed in an error."""


def read_set(wanted: Mapping[str, Value], actuators: Sequence[Actuator] | None) -> dict[str, Value]:
    """Return what a board is to set, by actuator.

    `actuators` are those of the board; None while nobody knows them: then the board judges.

    Raises:
        RequestError: there is no such actuator, or it takes no such value.
    """
    known = None if actuators is None else {actuator.key: actuator for actuator in actuators}
    return {key: _read(key, value, known) for key, value in wanted.items()}


def _read(key: str, value: Value, known: Mapping[str, Actuator] | None) -> Value:
    if known is None:
        return _unknown(value)
    actuator = known.get(key)
    if actuator is None:
        there = ", ".join(map(printable, list(known)[:_MANY])) or "none"
        raise RequestError(f"no actuator {shown(key)}; there are: {there}")
    try:
        return _KINDS.get(actuator.kind, _any)(value, actuator)
    except RequestError as exc:
        raise RequestError(f"{printable(key)}: {exc}, got {shown(value)}") from None


def _unknown(value: Value) -> Value:
    """Take the words of Home Assistant, which no board knows; a number or a text stays itself."""
    word = value.strip().lower() if isinstance(value, str) else ""
    return word in _ON if word in (_ON | _OFF) - {"0", "1"} else value


def _any(value: Value, _actuator: Actuator) -> Value:
    return value


def _switch(value: Value, _actuator: Actuator) -> bool:
    word = str(value).strip().lower()
    if word in _ON:
        return True
    if word in _OFF:
        return False
    raise RequestError("expected ON or OFF")


def _number(value: Value, actuator: Actuator) -> Value:
    if not actuator.is_light:
        return _in_range(value, actuator)
    word = str(value).strip().lower()
    if word in {"on", "off", "true", "false"}:
        return word in _ON
    try:
        return _in_range(value, actuator)
    except RequestError as exc:
        raise RequestError(f"{exc}, ON or OFF") from None


def _in_range(value: Value, actuator: Actuator) -> float | int:
    number = None if isinstance(value, bool) else _as_number(value)
    low, high = actuator.minimum, actuator.maximum
    if number is None or (low is not None and number < low) or (high is not None and number > high):
        bounds = f" from {low:g}" if low is not None else ""
        bounds += f" to {high:g}" if high is not None else ""
        raise RequestError(f"expected a number{bounds}")
    return number


def _button(value: Value, _actuator: Actuator) -> str:
    if value is True or (isinstance(value, str) and value.strip().upper() in {"", "PRESS", "TRUE"}):
        return "PRESS"
    raise RequestError("expected PRESS")


def _select(value: Value, actuator: Actuator) -> str:
    if isinstance(value, str) and (value in actuator.options or not actuator.options):
        return value
    options = ", ".join(map(shown, actuator.options[:_MANY]))
    raise RequestError(f"expected one of {options}")


def _text(value: Value, actuator: Actuator) -> str:
    longest = MAX_TEXT if actuator.maximum is None else min(MAX_TEXT, int(actuator.maximum))
    least = 0 if actuator.minimum is None else int(actuator.minimum)
    if isinstance(value, str) and least <= len(value) <= longest:
        return value
    raise RequestError(f"expected a text of {least} to {longest} characters")


def _as_number(value: Value) -> float | int | None:
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return None
    else:
        number = value
    if not math.isfinite(number):
        return None
    return int(number) if isinstance(number, float) and number.is_integer() else number


_KINDS: Mapping[str, Callable[[Value, Actuator], Value]] = {
    "switch": _switch,
    "number": _number,
    "button": _button,
    "select": _select,
    "text": _text,
}
"""By the kind of the actuator; what others take the board decides."""
