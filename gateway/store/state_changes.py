"""What is done to the state database, and read from it, as values; pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias


class Statement(NamedTuple):
    """One statement and the rows it is done with, one after the other."""

    sql: str
    rows: Iterable[Sequence[object]] = ((),)
    """Asked for again when it is tried again. Text is without lone surrogates, integers are of 64
    bits."""


Change: TypeAlias = Sequence[Statement]
"""What is done wholly or not at all."""

Select: TypeAlias = Callable[..., list[tuple[Any, ...]]]
"""Takes a query and its parameters, returns the rows."""
