"""The log: lines on stderr for a terminal or a pipe, entries with fields for journald."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final

from gateway import journald
from gateway.cli.log_limit import Limit
from gateway.log_fields import fields_of

_log = logging.getLogger(__name__)

_PLAIN = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_JOURNAL = "%(levelname)s %(name)s: %(message)s"
_PRIORITIES = (
    *((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)),
    (0, 7),
)
"""Least level to syslog priority; sd-daemon(3)."""

_IDENTIFIER: Final = "edge-gateway"
"""What journalctl shows before a line, and finds by -t."""

SOCKET_VARIABLE: Final = "EDGE_GATEWAY_JOURNAL"
"""Names another socket than journald's; for tests, and for who runs a journald elsewhere."""

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0))}
"""What a device says may get into a line; it must neither end the line nor colour the terminal."""


class OneLine(logging.Formatter):
    """Keeps a message on its line, whatever a device put into it; tracebacks stay as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the base class's name
        """Return the line of a record."""
        record.message = record.message.translate(_ESCAPES)
        return super().formatMessage(record)


class _PriorityLines(OneLine):
    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n")
        return "\n".join(f"<{_priority(record.levelno)}>{line}" for line in lines)


class JournalHandler(logging.Handler):
    """Sends each record to journald, with what it is about."""

    def __init__(self, journal: journald.Journal) -> None:
        super().__init__()
        self._journal = journal
        self.setFormatter(OneLine("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, and before it the errors that wait."""
        try:
            payload = journald.entry(self._fields(record), self._journal.message_bytes)
            self._journal.send(payload, is_precious=record.levelno >= logging.ERROR)
        except Exception:  # noqa: BLE001 - as every handler: what cannot be written is told on stderr
            self.handleError(record)

    def look(self) -> None:
        """Send the errors that wait, and tell what is lost; a line a second at most."""
        journal = self._journal
        if journal.send_waiting() and journal.lost:
            lost, journal.lost = journal.lost, 0
            text = f"journald did not take {lost} lines of the log, which are lost"
            if not journal.send(journald.entry((("MESSAGE", text), *_common(logging.WARNING)))):
                journal.lost = lost

    def close(self) -> None:
        """Send what is left, and then no more."""
        self.look()
        self._journal.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        yield "MESSAGE", self.format(record)
        yield from _common(record.levelno)
        yield "LOGGER", record.name
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", record.funcName or ""
        yield from fields_of(record)


class LimitedHandler(logging.Handler):
    """Has another handler write as much as the limit allows."""

    def __init__(
        self, inner: logging.Handler, limit: Limit, look: Callable[[], None] = lambda: None
    ) -> None:
        """`look` is what the other one wants to have done now and then."""
        super().__init__()
        self._inner = inner
        self._limit = limit
        self._look = look

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        try:
            for each in self._limit.pass_on(record):
                self._inner.handle(each)
        except Exception:  # noqa: BLE001 - as every handler: what cannot be written is told on stderr
            self.handleError(record)

    def look(self) -> None:
        """Tell what was left out, if it is time; to be called once a second, from any thread."""
        self.acquire()
        try:
            for each in self._limit.due():
                self._inner.handle(each)
            self._look()
        finally:
            self.release()

    def close(self) -> None:
        """Tell what was left out, and write no more."""
        for each in self._limit.end():
            self._inner.handle(each)
        self._inner.close()
        super().close()


def configure(level: str) -> None:
    """Write records of `level` (debug, info, warning, error) and above to stderr."""
    _use(_lines(os.environ), level)


def serve(
    level: str,
    environment: Mapping[str, str] = os.environ,
    now_s: Callable[[], float] = time.monotonic,
) -> Callable[[], None]:
    """Write records of `level` and above as a service does: to journald if it is there, limited.

    What ends the process for a fault of its own is a line of the log, too. Return what is to be
    called once a second for as long as it runs.
    """
    sys.excepthook = _tell_end
    limit = Limit(now_s)
    if goes_to_journal(environment):
        journal = journald.Journal(environment.get(SOCKET_VARIABLE) or journald.SOCKET)
        if journal.is_there:
            handler = JournalHandler(journal)
            limited = LimitedHandler(handler, limit, handler.look)
            _use(limited, level)
            return limited.look
        journal.close()
    limited = LimitedHandler(_lines(environment), limit)
    _use(limited, level)
    return limited.look


def goes_to_journal(environment: Mapping[str, str]) -> bool:
    """Whether stderr is the stream of journald that systemd named; it adds the time itself.

    Source: systemd.exec(5), $JOURNAL_STREAM.
    """
    named = environment.get("JOURNAL_STREAM", "")
    try:
        stderr = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return named == f"{stderr.st_dev}:{stderr.st_ino}"


def _tell_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what nobody caught: on stderr alone it would have no priority in the journal."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log.critical("ended by a fault of its own", exc_info=(kind, error, trace))


def _lines(environment: Mapping[str, str]) -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(
        _PriorityLines(_JOURNAL)
        if goes_to_journal(environment)
        else OneLine(_PLAIN, datefmt="%Y-%m-%dT%H:%M:%S")
    )
    return handler


def _use(handler: logging.Handler, level: str) -> None:
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _common(level: int) -> tuple[tuple[str, str], ...]:
    return ("PRIORITY", str(_priority(level))), ("SYSLOG_IDENTIFIER", _IDENTIFIER)


def _priority(level: int) -> int:
    return next(number for least, number in _PRIORITIES if level >= least)
