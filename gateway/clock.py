"""The gateway's two clocks: monotonic seconds for order and age, UTC for people."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from; tests put their own functions in."""

    monotonic_s: Callable[[], float] = time.monotonic
    """Seconds that never step; the same clock asyncio's loop uses."""
    unix_s: Callable[[], float] = time.time
    """Seconds since 1970, UTC; may step when the machine's clock is set."""

    def unix_of(self, monotonic_s: float) -> float:
        """Return the UTC seconds of a moment of this boot, by the wall clock as it stands now."""
        return self.unix_s() - (self.monotonic_s() - monotonic_s)


class TimeFormat:
    """Formats UTC seconds as ISO 8601; remembers the last second, as most repeat."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def text(self, unix_s: float) -> str:
        """Return for example `2026-11-22T07:00:00.123Z`."""
        millis = round(unix_s * 1000)
        second, milli = divmod(millis, 1000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{milli:03d}Z"
