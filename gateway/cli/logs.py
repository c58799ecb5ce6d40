"""Log lines on stderr, as a terminal or as journald wants them."""

import logging
import os
import sys
from collections.abc import Mapping

_PLAIN = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_JOURNAL = "%(levelname)s %(name)s: %(message)s"
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
"""Least level to syslog priority; sd-daemon(3)."""

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0))}
"""What a device says may get into a line; it must neither end the line nor colour the terminal."""


class OneLine(logging.Formatter):
    """Keeps a message on its line, whatever a device put into it; tracebacks stay as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the base class's name
        """Return the line of a record."""
        record.message = record.message.translate(_ESCAPES)
        return super().formatMessage(record)


class _JournalFormatter(OneLine):
    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        lines = super().format(record).split("\n")
        return "\n".join(f"<{priority}>{line}" for line in lines)


def configure(level: str) -> None:
    """Write records of `level` (debug, info, warning, error) and above to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JournalFormatter(_JOURNAL)
        if goes_to_journal(os.environ)
        else OneLine(_PLAIN, datefmt="%Y-%m-%dT%H:%M:%S")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


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
