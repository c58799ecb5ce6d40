"""How much of the log is written: a flood of lines must not wear out a card, or hide the others.

Records of one kind (logger, template, what they are about) have a bucket of tokens, and all records
together have another, of which the last tokens are for warnings and errors. What is left out is
counted, and told. Records for debugging pass: who asks for them is there to read them.
"""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.log_fields import Marked, fields_of

_MAX_TEXT: Final = 300
"""Characters of a line that stands for those left out."""


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """How many records may pass."""

    kind_burst: int = 50
    """Of a kind, at once; as many problems of a configuration are told line by line."""
    kind_every_s: float = 60.0
    """Of a kind, after that: one in so long."""
    burst: int = 5000
    """Of all, at once; half of what journald takes from a service in 30 s. When a thousand devices
    appear each has three lines."""
    each_s: float = 2.0
    """Of all, after that: as many a second, which is 50 MB a day."""
    info_floor: int = 1000
    """So many tokens are left to warnings and errors."""
    warning_floor: int = 300
    """And so many to errors."""
    kinds: int = 500
    """Kinds that are told apart. The kind that was seen longest ago makes way for a new one: who
    invents names of devices meets the limit of all."""


class _Bucket:
    __slots__ = ("_burst", "_each_s", "_seen_s", "_tokens")

    def __init__(self, burst: int, each_s: float, now_s: float) -> None:
        self._burst = burst
        self._each_s = each_s
        self._tokens = float(burst)
        self._seen_s = now_s

    def has(self, now_s: float, floor: int = 0) -> bool:
        """Say whether there is a token above `floor`."""
        gained = max(0.0, now_s - self._seen_s) * self._each_s
        self._tokens = min(float(self._burst), self._tokens + gained)
        self._seen_s = now_s
        return self._tokens >= floor + 1

    def take(self) -> None:
        self._tokens -= 1


@dataclass(slots=True)
class _Kind:
    bucket: _Bucket
    left_out: int = 0
    since_s: float = 0.0
    """When the first of them was left out."""
    newest: logging.LogRecord | None = None
    """Says, written out, what the newest of them did; it keeps nothing else alive."""


@dataclass(slots=True)
class _Crowd:
    """Records of any kind that were left out, as there were too many of all."""

    since_s: float = 0.0
    levels: Counter[int] = field(default_factory=Counter)
    worst: logging.LogRecord | None = None


_Key = tuple[str, str, tuple[tuple[str, str], ...]]


class Limit:
    """Says which records are written; not for several threads at a time."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        options: LimitOptions | None = None,
    ) -> None:
        """`now_s` never goes back."""
        self._now_s = now_s
        self._options = options or LimitOptions()
        self._all = _Bucket(self._options.burst, self._options.each_s, now_s())
        self._kinds: OrderedDict[_Key, _Kind] = OrderedDict()
        self._crowd = _Crowd()

    def pass_on(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what is to be written now that `record` came: nothing, it, or more before it."""
        if record.levelno < logging.INFO:
            return [record]
        now_s = self._now_s()
        kind = self._kind(record, now_s)
        if not kind.bucket.has(now_s):
            kind.since_s = kind.since_s if kind.left_out else now_s
            kind.left_out += 1
            kind.newest = _written_out(record)
            return []
        if not self._all.has(now_s, self._floor(record.levelno)):
            self._add_to_crowd(_written_out(record), 1, now_s)
            return []
        self._all.take()
        kind.bucket.take()
        return [*self._told(kind, now_s), record]

    def due(self) -> list[logging.LogRecord]:
        """Return what is to be told by now of what was left out; to be asked now and then."""
        now_s = self._now_s()
        told = []
        for kind in self._kinds.values():
            if not kind.left_out or kind.newest is None or not kind.bucket.has(now_s):
                continue
            if self._all.has(now_s, self._floor(kind.newest.levelno)):
                self._all.take()
                kind.bucket.take()
                told += self._told(kind, now_s)
            else:
                self._give_up(kind, now_s)
        if self._crowd.levels and now_s - self._crowd.since_s >= self._options.kind_every_s:
            told += self._crowd_told(now_s)
        return told

    def end(self) -> list[logging.LogRecord]:
        """Return all that is still to be told."""
        now_s = self._now_s()
        told = [line for kind in self._kinds.values() for line in self._told(kind, now_s)]
        return told + self._crowd_told(now_s)

    def _kind(self, record: logging.LogRecord, now_s: float) -> _Kind:
        key = (record.name, str(record.msg)[:_MAX_TEXT], fields_of(record))
        kind = self._kinds.get(key)
        if kind is not None:
            self._kinds.move_to_end(key)
            return kind
        options = self._options
        if len(self._kinds) >= options.kinds:
            _, oldest = self._kinds.popitem(last=False)
            self._give_up(oldest, now_s)
        kind = _Kind(_Bucket(options.kind_burst, 1 / options.kind_every_s, now_s))
        self._kinds[key] = kind
        return kind

    def _floor(self, level: int) -> int:
        if level >= logging.ERROR:
            return 0
        is_warning = level >= logging.WARNING
        return self._options.warning_floor if is_warning else self._options.info_floor

    def _give_up(self, kind: _Kind, now_s: float) -> None:
        """Tell of a kind's records with those of others."""
        if kind.left_out and kind.newest is not None:
            self._add_to_crowd(kind.newest, kind.left_out, now_s)
        kind.left_out, kind.newest = 0, None

    def _add_to_crowd(self, record: logging.LogRecord, count: int, now_s: float) -> None:
        crowd = self._crowd
        if not crowd.levels:
            crowd.since_s = now_s
        crowd.levels[record.levelno] += count
        if crowd.worst is None or record.levelno >= crowd.worst.levelno:
            crowd.worst = record

    def _told(self, kind: _Kind, now_s: float) -> list[logging.LogRecord]:
        if not kind.left_out or kind.newest is None:
            return []
        count, kind.left_out = kind.left_out, 0
        like, kind.newest = kind.newest, None
        within = f"within {now_s - kind.since_s:.0f} s"
        like.args = (count, within, *(like.args or ()))
        like.msg = "%d more like this were suppressed %s: %s"
        return [like]

    def _crowd_told(self, now_s: float) -> list[logging.LogRecord]:
        crowd, self._crowd = self._crowd, _Crowd()
        if crowd.worst is None:
            return []
        counts = [
            f"{count} {logging.getLevelName(level)}"
            for level, count in sorted(crowd.levels.items(), reverse=True)
        ]
        within = f"within {now_s - crowd.since_s:.0f} s"
        like = crowd.worst
        like.levelno = max(like.levelno, logging.WARNING)
        like.levelname = logging.getLevelName(like.levelno)
        like.args = (", ".join(counts), within, *(like.args or ()))
        like.msg = "too much to log: suppressed %s %s, such as: %s"
        return [like]


def _written_out(record: logging.LogRecord) -> logging.LogRecord:
    """Return a record of the same place that has its text, and refers to nothing any more."""
    text = Marked(record.getMessage()[:_MAX_TEXT], fields_of(record))
    return logging.LogRecord(
        *(record.name, record.levelno, record.pathname, record.lineno, "%s", (text,), None),
        func=record.funcName,
    )
