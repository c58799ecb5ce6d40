"""What is wrong with a configuration, in words a person can act upon."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.toml_lines import KeyPath

Schema: TypeAlias = Mapping[str, Any]
"""A node of the settings' JSON Schema: what the keys are and what they may hold."""

_LONGEST_SHOWN = 60
"""Characters of a wrong value that are repeated in its message."""
_MOST_SHOWN = 3
"""Texts of a list that are."""
_USER_IN_URL = re.compile(r"//[^/\s]*@")
_HELD_BACK = ("password", "secret", "token", "bind_key")
"""A value under a key with one of these words in it is never shown."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that must be changed."""

    path: KeyPath
    """Where: keys from the root; empty for the file as a whole."""
    text: str


def path_text(path: KeyPath) -> str:
    """Return for example `serial.port[0].format`; the first port of the file is number 0."""
    dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return dotted.removeprefix(".")


def problems_of(error: ValidationError, schema: Schema) -> Iterator[Problem]:
    """Yield every problem pydantic found, in the order of the sections."""
    for details in error.errors(include_url=False):
        path: KeyPath = details["loc"]
        wording = _WORDING.get(details["type"], _wrong_value)
        yield Problem(path, wording(details, path, schema))


def _unknown_key(details: ErrorDetails, path: KeyPath, schema: Schema) -> str:
    key = str(path[-1])
    known = list(_properties(_node(schema, path[:-1])))
    noun = "section" if len(path) == 1 and isinstance(details["input"], dict | list) else "key"
    if any(word in key.lower() for word in _HELD_BACK):
        return (
            f"unknown key `{key}`: secrets do not belong in this file; put it into a file of "
            "its own and name that in `password_file`, or use `password_credential`"
        )
    if close := difflib.get_close_matches(key, known, n=1):
        return f"unknown {noun} `{key}`: did you mean `{close[0]}`?"
    homes = [name for name in schema["properties"] if key in _properties(_node(schema, (name,)))]
    if homes:
        return f"unknown {noun} `{key}`: it belongs in [{homes[0]}]"
    return f"unknown {noun} `{key}`; there are {', '.join(known)}"


def _missing_key(_details: ErrorDetails, path: KeyPath, schema: Schema) -> str:
    description = _node(schema, path).get("description", "")
    return f"missing. {description}".rstrip()


def _refused_value(details: ErrorDetails, _path: KeyPath, _schema: Schema) -> str:
    """A check of ours said no, and said why."""
    return f"{details['ctx']['error']}{_got(details)}"


def _wrong_value(details: ErrorDetails, path: KeyPath, schema: Schema) -> str:
    node = _node(schema, path)
    hint = _hint(details["input"], node)
    return f"expected {_expected(node)}{_got(details)}{hint and f': {hint}'}"


_WORDING: Mapping[str, Callable[[ErrorDetails, KeyPath, Schema], str]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing_key,
    "value_error": _refused_value,
}
"""By pydantic's type of error; all others are about a value of the wrong kind or size."""


def _node(schema: Schema, path: KeyPath) -> Schema:
    """Return the part of the schema that says what may stand at `path`; empty when none does."""
    node = schema
    for key in path:
        node = _resolved(schema, node)
        node = node.get("items", {}) if isinstance(key, int) else _properties(node).get(key, {})
    return _resolved(schema, node)


def _resolved(schema: Schema, node: Schema) -> Schema:
    """Return `node` without references, and without the alternative of being absent."""
    while "$ref" in node:
        name = str(node["$ref"]).rpartition("/")[2]
        node = {**schema["$defs"][name], **{k: v for k, v in node.items() if k != "$ref"}}
    kinds = [kind for kind in node.get("anyOf", ()) if kind.get("type") != "null"]
    if len(kinds) == 1:
        return {**node, **kinds[0], "anyOf": kinds}
    return node


def _properties(node: Schema) -> Schema:
    """Return the keys of a section; of several alternatives, those of the one that has keys."""
    own: Schema = node.get("properties", {})
    return own or next(
        (kind["properties"] for kind in node.get("anyOf", ()) if "properties" in kind), {}
    )


def _expected(node: Schema) -> str:  # noqa: PLR0911  # one return for each kind of value
    if "enum" in node:
        return "one of " + ", ".join(f'"{choice}"' for choice in node["enum"])
    match node.get("type"):
        case "integer" | "number" as kind:
            noun = "a whole number" if kind == "integer" else "a number"
            return f"{noun} {_number(node.get('minimum'))}..{_number(node.get('maximum'))}"
        case "boolean":
            return "true or false"
        case "string":
            least, most = node.get("minLength", 0), node.get("maxLength", 1024)
            return f"text of {least} to {most} characters" if most > 1 else "one character"
        case "array":
            return f"a list of at most {node['maxItems']} entries"
        case "object":
            return "a section"
    return "a name in quotes, or {key, unit, device_class}"


def _number(bound: object) -> str:
    """Return a bound as a person writes it: 5, not 5.0."""
    return str(int(bound) if isinstance(bound, float) and bound.is_integer() else bound)


def _got(details: ErrorDetails) -> str:
    """Return the value as it stands in the file, cut short; nothing that may be a secret."""
    value = details["input"]
    key = str(details["loc"][-1]).lower()
    if value in (None, [], ()) or any(word in key for word in _HELD_BACK):
        return ""
    return f", got {_shown(value)}"


def _shown(value: object) -> str:
    match value:
        case bool():
            shown = str(value).lower()
        case str():
            text = _USER_IN_URL.sub("//***@", value)
            cut = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
            shown = '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut) + '"'
        case int() | float():
            shown = repr(value)[:_LONGEST_SHOWN]
        case dict():
            shown = "a section"
        case list() | tuple() if len(value) <= _MOST_SHOWN and set(map(type, value)) == {str}:
            shown = f"[{', '.join(map(_shown, value))}]"
        case list() | tuple():
            shown = f"a list of {len(value)} entries"
        case _:
            shown = str(value)[:_LONGEST_SHOWN]
    return shown


def _hint(value: object, node: Schema) -> str:
    kind = node.get("type")
    match value:
        case str() if kind in {"integer", "number", "boolean"}:
            digits = value.strip().lower().removeprefix("-").replace(".", "", 1)
            if digits.isdecimal() or digits in {"true", "false"}:
                return "write it without quotes"
        case str() if "enum" in node:
            if close := difflib.get_close_matches(value.lower(), node["enum"], n=1):
                return f'did you mean "{close[0]}"?'
        case str() if kind == "array":
            return "write it in brackets, [...]"
        case bool() | int() | float() if kind == "string":
            return "write it in quotes"
        case dict() if kind == "array":
            return "write its header in double brackets, [[...]]"
    return ""
