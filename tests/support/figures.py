"""What tests measured, as a table at the end of the run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pytest

_PROPERTY = "figure"


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    value: str
    bound: str
    """What the test holds it against; empty where it is only told."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Takes the figures of one test; they travel with its report, from another process too."""

    item: pytest.Item

    def __call__(self, name: str, value: str, bound: str = "") -> None:
        """Note a figure."""
        self.item.user_properties.append((_PROPERTY, (name, value, bound)))


def collected(reports: Iterable[object]) -> list[Figure]:
    """Return the figures of the tests that ended, in the order of their names."""
    found: list[tuple[str, int, Figure]] = []
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for number, (name, value) in enumerate(report.user_properties):
                if name == _PROPERTY and isinstance(value, tuple | list):
                    found.append((report.nodeid, number, Figure._make(map(str, value))))
    return [figure for *_, figure in sorted(found)]


def table(figures: Sequence[Figure]) -> list[str]:
    """Return the lines of a table with a heading."""
    rows = [Figure("figure", "measured", "bound"), *figures]
    name_width, value_width, bound_width = (
        max(map(len, column)) for column in zip(*rows, strict=True)
    )
    heading, *lines = (
        f"{row.name:<{name_width}}  {row.value:>{value_width}}  {row.bound:>{bound_width}}".rstrip()
        for row in rows
    )
    return [heading, "-" * (name_width + value_width + bound_width + 4), *lines]
