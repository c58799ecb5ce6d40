"""The table of commands: what was asked for, whom it was handed to, how it ended; no I/O."""

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gateway.store.state_changes import Change, Select, Statement

_log = logging.getLogger(__name__)

VERSION_2 = (
    """CREATE TABLE commands (
    n INTEGER PRIMARY KEY, letter TEXT NOT NULL, life TEXT, packet TEXT, answer TEXT, told INTEGER
)""",
)
"""A letter and an answer are JSON: any tool can read them."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Entry(NamedTuple):
    """One command."""

    number: int
    """Later ones have greater numbers."""
    letter: Mapping[str, Any]
    """What was asked for, by whom and when."""
    life: str | None
    """The life of the board's memory for which it was handed over; None while it was not."""
    packet: str
    """By which a repetition by the broker is known; empty when it is not."""
    answer: Mapping[str, Any] | None = None
    """How it ended; None while it has not."""
    is_told: bool = False
    """Whether whoever waits for the answer has it."""


def load(select: Select) -> list[Entry]:
    """Return what is kept, in its order; an entry that cannot be read is left out."""
    entries = []
    query = "SELECT n, letter, life, packet, answer, told FROM commands ORDER BY n"
    for number, letter_text, life, packet, answer_text, told in select(query):
        try:
            letter = json.loads(letter_text)
            answer = None if answer_text is None else json.loads(answer_text)
        except (ValueError, TypeError, RecursionError):
            letter = answer = None
        if isinstance(letter, dict) and isinstance(answer, dict | None):
            entries.append(Entry(number, letter, life, packet or "", answer, bool(told)))
        else:
            _log.error("what was kept of command %d cannot be read: it is left out", number)
    return entries


def put(entries: Iterable[Entry]) -> Change:
    """Return the change that keeps entries."""
    rows = [
        (
            each.number,
            _encode(each.letter),
            each.life,
            each.packet or None,
            None if each.answer is None else _encode(each.answer),
            each.is_told,
        )
        for each in entries
    ]
    return [Statement("INSERT OR REPLACE INTO commands VALUES (?, ?, ?, ?, ?, ?)", rows)]


def hand(number: int, life: str) -> Change:
    """Return the change that notes to which life of its board a command is about to go."""
    return [Statement("UPDATE commands SET life = ? WHERE n = ?", [(life, number)])]


def end(number: int, answer: Mapping[str, Any], *, is_told: bool) -> Change:
    """Return the change that notes how a command ended."""
    row = (_encode(answer), is_told, number)
    return [Statement("UPDATE commands SET answer = ?, told = ? WHERE n = ?", [row])]


def tell(numbers: Iterable[int]) -> Change:
    """Return the change that notes which answers have reached the broker."""
    rows = [(number,) for number in numbers]
    return [Statement("UPDATE commands SET told = 1 WHERE n = ?", rows)]


def drop(numbers: Iterable[int]) -> Change:
    """Return the change that forgets commands."""
    return [Statement("DELETE FROM commands WHERE n = ?", [(number,) for number in numbers])]


def forget_packets() -> Change:
    """Return the change after which no repetition by the broker is known."""
    return [Statement("UPDATE commands SET packet = NULL WHERE packet IS NOT NULL")]
