"""The last lines of the log, kept in memory for who asks what happened."""

import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

MAX_LINES: Final = 200
MAX_CHARACTERS: Final = 1000
"""A longer line loses its middle: a traceback tells most at its end."""

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_MASK: Final = "***"
_SHORTEST_SECRET: Final = 4
"""What is shorter would mask parts of words."""


class RecentLog(logging.Handler):
    """Keeps the newest lines of INFO and above: below that, payloads may be in them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S"))
        self._lines: deque[str] = deque(maxlen=MAX_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, as text: what it refers to may change."""
        try:
            self._lines.append(_cut(self.format(record)))
        except Exception:  # noqa: BLE001 - as every handler: what cannot be written is told on stderr
            self.handleError(record)

    def lines(self, secrets: Iterable[str] = ()) -> list[str]:
        """Return the lines, oldest first, with `secrets` masked."""
        masked = sorted((each for each in secrets if len(each) >= _SHORTEST_SECRET), key=len)
        lines = list(self._lines)
        for secret in reversed(masked):
            lines = [line.replace(secret, _MASK) for line in lines]
        return lines


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]}"
