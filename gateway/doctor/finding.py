"""What was found; pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Severity(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """Worth a look, or it could not be seen."""
    ERROR = "error"
    """Something does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    where: str
    """Such as `clock`, or `port /dev/ttyUSB0`."""
    severity: Severity
    what: str
    """In words, without a full stop."""
    expected: str = ""
    """What would have been right, where `what` does not say it."""
    got: str = ""
    """What was there instead."""
    mend: str = ""
    """The command, or the lines of the configuration, that mend it; empty if nothing must be."""


Tell: TypeAlias = Callable[[Finding], None]
"""Takes findings as they come: what a room has told before its time is over counts."""


def ok(where: str, what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(where, Severity.OK, what)


def warning(where: str, what: str, mend: str, *, expected: str = "", got: str = "") -> Finding:
    """Return what is worth a look."""
    return Finding(where, Severity.WARNING, what, expected, got, mend)


def error(where: str, what: str, mend: str, *, expected: str = "", got: str = "") -> Finding:
    """Return what does not work."""
    return Finding(where, Severity.ERROR, what, expected, got, mend)


def worst(findings: Iterable[Finding]) -> Severity:
    """Return the gravest severity there is."""
    order = list(Severity)
    return max((each.severity for each in findings), key=order.index, default=Severity.OK)
