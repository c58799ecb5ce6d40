"""JSON payloads checked field by field; every way to be wrong ends in one exception.

A key whose value is null counts as missing.
"""

import json
import math
from collections.abc import Mapping
from typing import NoReturn, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What JSON can say; floats are finite, texts can be encoded."""

MAX_DEPTH = 16
"""Deepest nesting of lists and objects taken; what a board says of itself needs 3."""

_HEX = frozenset("0123456789abcdef")

_MAX_DIGITS = 20
"""Longest integer taken, in characters; 2**64 has 20 digits."""


class FieldError(ValueError):
    """A payload does not say what it must; never leaves `gateway.protocol`."""


def load_object(payload: bytes) -> dict[str, Json]:
    """Return the JSON object that `payload` is.

    Raises:
        FieldError: it is none, repeats a key, or holds a number or text that JSON cannot carry on.
    """
    try:
        loaded = _DECODER.decode(payload.decode())
        if b"\\u" in payload:
            json.dumps(loaded, ensure_ascii=False).encode()  # refuses lone surrogates
    except FieldError:
        raise
    except RecursionError:
        raise FieldError("nested too deeply") from None
    except ValueError:
        raise FieldError("not JSON") from None
    if not isinstance(loaded, dict):
        raise FieldError("not an object")
    _check_depth(loaded, MAX_DEPTH)
    return loaded


def dump_object(fields: Mapping[str, Json]) -> bytes:
    """Return compact JSON in UTF-8."""
    written = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return written.encode(errors="replace")


def dump_known(fields: Mapping[str, Json]) -> bytes:
    """Return compact JSON in UTF-8 without the keys whose value is None."""
    return dump_object({key: value for key, value in fields.items() if value is not None})


def integer(
    fields: Mapping[str, Json], key: str, low: int, high: int, default: int | None = None
) -> int:
    """Return an integer in `low..high`; without a default the key must be there."""
    value = fields.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int):
        raise FieldError(f"{key}: not an integer")
    if not low <= value <= high:
        raise FieldError(f"{key}: not in {low}..{high}")
    return value


def number(value: Json, key: str) -> float | int:
    """Return a number that fits a double."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError(f"{key}: not a number")
    return value


def text(fields: Mapping[str, Json], key: str, longest: int, default: str | None = None) -> str:
    """Return a text of at most `longest` characters; without a default it must not be empty."""
    value = fields.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise FieldError(f"{key}: not a text")
    if len(value) > longest or (default is None and not value):
        raise FieldError(f"{key}: not 1 to {longest} characters")
    return value


def hexadecimal(fields: Mapping[str, Json], key: str, digits: int) -> str:
    """Return so many hex digits, in lower case; empty when the key is missing."""
    value = text(fields, key, digits, "")
    if value and (len(value) != digits or not _HEX.issuperset(value)):
        raise FieldError(f"{key}: not {digits} hex digits")
    return value


def texts(fields: Mapping[str, Json], key: str, most: int, longest: int) -> tuple[str, ...]:
    """Return a list of at most `most` texts; empty when the key is missing."""
    values = fields.get(key) or []
    if not isinstance(values, list) or len(values) > most:
        raise FieldError(f"{key}: not a list of at most {most}")
    return tuple(text({key: value}, key, longest) for value in values)


def flag(fields: Mapping[str, Json], key: str) -> bool:
    """Return a truth, which a board may also say as 0 or 1; False when the key is missing."""
    value = fields.get(key)
    if value not in (True, False, None):  # 0 == False and 1 == True, and nothing else is
        raise FieldError(f"{key}: not true or false")
    return bool(value)


def _check_depth(value: Json, depth: int) -> None:
    if isinstance(value, list | dict):
        if not depth:
            raise FieldError("nested too deeply")
        for part in value.values() if isinstance(value, dict) else value:
            _check_depth(part, depth - 1)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise FieldError("a key is repeated")
    return fields


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise FieldError("a number is too large")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise FieldError("a number is too large")
    return value


def _constant(word: str) -> NoReturn:
    raise FieldError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)
