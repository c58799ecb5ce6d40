"""How many log lines one port may publish, in frames and in text together."""

from typing import Final

LOG_BURST: Final = 100
LOGS_A_SECOND: Final = 20.0
"""Log lines taken from one port: so many at once, then so many a second; more are only counted."""


class LogBudget:
    """A bucket of tokens, full at first; a line takes one."""

    def __init__(self) -> None:
        self._tokens = float(LOG_BURST)
        self._filled_s = 0.0

    def take(self, now_s: float) -> bool:
        """Return whether there is a token, and take it."""
        refill = (now_s - self._filled_s) * LOGS_A_SECOND
        self._tokens = min(float(LOG_BURST), self._tokens + refill)
        self._filled_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
