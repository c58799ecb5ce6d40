"""JSON of strangers -> pydantic models; every way to be wrong ends in one exception."""

import difflib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import RequestError

REQUEST = ConfigDict(extra="forbid", frozen=True, strict=True, str_max_length=1024)
"""Every request: an unknown key is an error, and "5" is no number."""

MAX_DEPTH = 8
"""Deepest nesting of lists and objects taken."""

_MAX_DIGITS = 20
"""Longest integer taken, in characters; 2**64 has 20 digits."""
_MAX_PROBLEMS = 3
"""So many are told at once."""
_LONGEST_SHOWN = 60
"""Characters of a wrong value that are repeated in its message."""

_SUBJECT = re.compile(r"^\w+ should ")
"""How pydantic begins most of its messages."""

_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "an object",
}
"""What is expected, by pydantic's type of error; all others are told in its own words."""

Model = TypeVar("Model", bound=BaseModel)


def read_object(payload: bytes, max_bytes: int) -> dict[str, Any]:
    """Return the JSON object that `payload` is.

    Raises:
        RequestError: it is none, is too long or too deep, repeats a key, or holds a number or text
            that JSON cannot carry on.
    """
    if len(payload) > max_bytes:
        raise RequestError(f"expected at most {max_bytes} bytes, got {len(payload)}")
    try:
        loaded = _DECODER.decode(payload.decode())
        json.dumps(loaded, ensure_ascii=False).encode()  # refuses lone surrogates
    except RequestError:
        raise
    except RecursionError:
        raise RequestError("nested too deeply") from None
    except UnicodeError:
        raise RequestError("expected JSON in UTF-8") from None
    except ValueError as exc:
        raise RequestError(f"expected a JSON object, got {shown_bytes(payload)} ({exc})") from None
    if not isinstance(loaded, dict):
        raise RequestError(f"expected a JSON object, got {shown(loaded)}")
    if _is_deeper(loaded, MAX_DEPTH):
        raise RequestError("nested too deeply")
    return loaded


def read_request(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """Return `fields` as what `model` says.

    Raises:
        RequestError: they are not; it says where, what was expected and what was there.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        problems: dict[
            tuple[Any, ...], str
        ] = {}  # of a union pydantic tells what each of its kinds would want: one will do
        for details in exc.errors(include_url=False):
            place = _place(details, fields)
            problems.setdefault(place, _problem(details, place, model))
        texts = list(problems.values())
        more = len(texts) - _MAX_PROBLEMS
        rest = f"; and {more} more" if more > 0 else ""
        raise RequestError("; ".join(texts[:_MAX_PROBLEMS]) + rest) from None


def shown(value: object) -> str:
    """Return a wrong value as it stands in JSON, cut short and printable."""
    match value:
        case dict():
            return "an object" if value else "an empty object"
        case list() | tuple():
            return f"a list of {len(value)}"
        case str():
            return f'"{printable(value)}"'
        case None | bool() | int() | float():
            return json.dumps(value)[:_LONGEST_SHOWN]
        case _:
            return type(value).__name__


def shown_bytes(payload: bytes) -> str:
    """Return the start of a payload as text."""
    return f'"{printable(payload.decode(errors="replace"))}"' if payload else "nothing"


def printable(text: str) -> str:
    """Return a stranger's text cut short, with what cannot be printed as `?`."""
    cut = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    return "".join(c if c.isprintable() else "?" for c in cut)


def _place(details: ErrorDetails, fields: Any) -> tuple[Any, ...]:  # noqa: ANN401  # JSON
    """Return the steps that lead somewhere in `fields`, or to a key that should be there.

    pydantic appends what it tried, such as the kinds of a union.
    """
    place: list[Any] = []
    steps: tuple[Any, ...] = details["loc"]
    for step in steps:
        if not (isinstance(fields, dict) or (isinstance(fields, list) and isinstance(step, int))):
            break
        if isinstance(fields, dict) and step not in fields:
            if details["type"] == "missing":
                place.append(step)
            break
        place.append(step)
        fields = fields[step]
    return tuple(place)


def _problem(details: ErrorDetails, place: tuple[Any, ...], model: type[BaseModel]) -> str:
    where = ".".join(printable(str(step)) for step in place)
    prefix = f"{where}: " if where else ""
    match details["type"]:
        case "extra_forbidden":
            key, known = str(place[-1]), list(model.model_fields)
            near = difflib.get_close_matches(key[:_LONGEST_SHOWN], known, n=1)
            hint = f': did you mean "{near[0]}"?' if near else f"; known: {', '.join(known)}"
            return f"unknown key {shown(key)}{hint}"
        case "missing":
            return f"{prefix}missing"
        case "value_error":
            return f"{prefix}{details['ctx']['error']}"
        case _:
            wanted = _KINDS.get(details["type"]) or f"to {_SUBJECT.sub('', details['msg'])}"
            return f"{prefix}expected {wanted}, got {shown(details['input'])}"


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return not levels or any(_is_deeper(part, levels - 1) for part in parts)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RequestError(f"the key {shown(twice)} is there twice")
    return fields


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise RequestError("a number is too large")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise RequestError("a number is too large")
    return value


def _constant(word: str) -> NoReturn:
    raise RequestError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)
