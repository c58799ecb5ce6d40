"""The tables of the registry: devices, and the topics that have a retained message; no I/O."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.store.state_changes import Change, Select, Statement

_log = logging.getLogger(__name__)

VERSION_1 = (
    "CREATE TABLE devices (key TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE retained (topic TEXT PRIMARY KEY) WITHOUT ROWID",
)
"""An entry is JSON: any tool can read it, and keys may be added without a migration."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


Entry: TypeAlias = Callable[[], Mapping[str, object]]
"""Makes what is to be kept of a device; called in another thread, of what does not change."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What is on the disk when the gateway starts."""

    devices: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Key of each device, and what was kept of it."""
    topics: frozenset[str] = frozenset()
    """Whole topics that may have a retained message of ours, on whichever connection."""


def load(select: Select) -> Registered:
    """Return what is kept; an entry that is no JSON object is left out."""
    devices: dict[str, Mapping[str, object]] = {}
    for key, text in select("SELECT key, entry FROM devices"):
        try:
            entry = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            entry = None
        if isinstance(key, str) and isinstance(entry, dict):
            devices[key] = entry
        else:
            _log.error("what was kept of the device %.80r cannot be read: it is left out", key)
    topics = frozenset(
        topic for (topic,) in select("SELECT topic FROM retained") if isinstance(topic, str)
    )
    return Registered(devices, topics)


def put_devices(entries: Mapping[str, Entry]) -> Change:
    """Return the change that keeps devices, each in the place of what was kept of it.

    The entries are made and encoded when it is written, in the store's thread.
    """
    return [Statement("INSERT OR REPLACE INTO devices VALUES (?, ?)", _Rows(entries))]


def drop_devices(keys: Iterable[str]) -> Change:
    """Return the change that forgets devices."""
    return [Statement("DELETE FROM devices WHERE key = ?", [(key,) for key in keys])]


def note_topics(topics: Iterable[str]) -> Change:
    """Return the change that notes topics which will have a retained message."""
    rows = [(topic,) for topic in topics]
    return [Statement("INSERT OR IGNORE INTO retained VALUES (?)", rows)]


def drop_topics(topics: Iterable[str]) -> Change:
    """Return the change that forgets topics the broker holds nothing of any more."""
    return [Statement("DELETE FROM retained WHERE topic = ?", [(topic,) for topic in topics])]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows that are made anew each time they are asked for: 0.1 ms a device, not the loop's."""

    entries: Mapping[str, Entry]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for key, entry in self.entries.items():
            yield key, _encode(entry())
