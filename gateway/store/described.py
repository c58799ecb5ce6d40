"""Descriptions of devices as JSON objects, and back; pure."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from gateway.model import Actuator, Description, Sensor

_Described = TypeVar("_Described", Description, Sensor, Actuator)

_SCALARS = (str, int, float, bool, type(None))


def lasting(description: Description) -> Description:
    """Return what of a description is still true after a restart of the board."""
    actuators = tuple(replace(actuator, state=None) for actuator in description.actuators)
    return replace(
        description,
        actuators=actuators,
        boot=0,
        reset_cause="",
        crash="",
        is_on_trial=False,
        rollback="",
    )


def document_of(description: Description) -> dict[str, object]:
    """Return a description as a JSON object; what is None or an empty list is left out."""
    return _sparse(asdict(description))


def description_of(document: Mapping[str, Any]) -> Description:
    """Return the description of a JSON object; keys of a newer version are left out.

    Raises:
        ValueError: it is none.
    """
    lists = {
        "sensors": tuple(_made(Sensor, each) for each in _list(document, "sensors")),
        "actuators": tuple(_made(Actuator, each) for each in _list(document, "actuators")),
    }
    return _made(Description, document, **lists)


def _sparse(document: Mapping[str, Any]) -> dict[str, object]:
    return {
        key: [_sparse(each) if isinstance(each, dict) else each for each in value]
        if isinstance(value, list | tuple)
        else value
        for key, value in document.items()
        if value not in (None, (), [])
    }


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    found = document.get(key, [])
    if not isinstance(found, list):
        raise ValueError(f"{key} is no list")  # noqa: TRY004 - a wrong document, not a wrong call
    return found


def _made(kind: type[_Described], document: object, **ready: object) -> _Described:
    if not isinstance(document, Mapping):
        raise ValueError(f"no {kind.__name__}")  # noqa: TRY004 - as above
    values: dict[str, Any] = dict(ready)
    for field in fields(kind):
        value = document.get(field.name)
        if field.name in ready or value is None:
            continue
        if isinstance(value, list):
            value = tuple(value)
        texts = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(each, _SCALARS) for each in texts):
            raise ValueError(f"{field.name} of a {kind.__name__} is of the wrong kind")
        values[field.name] = value
    try:
        return kind(**values)
    except TypeError as exc:
        raise ValueError(str(exc)) from exc
