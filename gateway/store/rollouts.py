"""The table of rollouts: which update goes to which boards, and how each of them stands; no I/O."""

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gateway.store.state_changes import Change, Select, Statement

_log = logging.getLogger(__name__)

VERSION_3 = ("CREATE TABLE rollouts (n INTEGER PRIMARY KEY, entry TEXT NOT NULL, bundle BLOB)",)
"""An entry is JSON. The bundle is there until the rollout is over, as the file it would be."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Entry(NamedTuple):
    """One rollout."""

    number: int
    """Later ones have greater numbers."""
    entry: Mapping[str, Any]
    bundle: bytes
    """Empty when it is not needed any more."""


def load(select: Select) -> list[Entry]:
    """Return what is kept, in its order; an entry that cannot be read is left out."""
    entries = []
    for number, text, bundle in select("SELECT n, entry, bundle FROM rollouts ORDER BY n"):
        try:
            entry = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            entry = None
        if isinstance(entry, dict) and isinstance(bundle, bytes | None):
            entries.append(Entry(number, entry, bundle or b""))
        else:
            _log.error("what was kept of rollout %d cannot be read: it is left out", number)
    return entries


def put(entries: Iterable[Entry]) -> Change:
    """Return the change that keeps rollouts with what they bring."""
    rows = [(each.number, _encode(each.entry), each.bundle or None) for each in entries]
    return [Statement("INSERT OR REPLACE INTO rollouts VALUES (?, ?, ?)", rows)]


def note(number: int, entry: Mapping[str, Any], *, is_over: bool) -> Change:
    """Return the change that notes how a rollout stands; one that is over brings nothing more."""
    row = (_encode(entry), is_over, number)
    bundle = "CASE ? WHEN 1 THEN NULL ELSE bundle END"
    sql = f"UPDATE rollouts SET entry = ?, bundle = {bundle} WHERE n = ?"  # noqa: S608 - ours
    return [Statement(sql, [row])]


def drop(numbers: Iterable[int]) -> Change:
    """Return the change that forgets rollouts."""
    return [Statement("DELETE FROM rollouts WHERE n = ?", [(number,) for number in numbers])]
