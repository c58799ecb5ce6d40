"""The gateway measures itself: loop lag, memory, and the health document."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gateway.mqtt import payloads
from gateway.progress import Progress, Stage
from gateway.status import Status
from gateway.store.outbox import Outbox
from gateway.timekeeper import TimeKeeper

LAG_INTERVAL_S = 0.05
"""Time between two looks at the loop; a stall longer than this is seen for certain."""


async def watch_loop_lag(status: Status) -> NoReturn:
    """Record for ever by how much the event loop is late."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        status.loop_lag_s.record(max(0.0, loop.time() - due_s))


async def call_every(
    interval_s: float, act: Callable[[], object], stage: Stage | None = None
) -> NoReturn:
    """Call `act` now and every `interval_s` for ever, and have `stage` know it."""
    stage = stage or Progress().stage("")
    while True:
        act()
        await stage.rest(interval_s, asyncio.sleep)


def memory_bytes() -> int:
    """Return the resident memory of this process; 0 where /proc does not tell.

    Source: proc_pid_statm(5), second field, in pages.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class HealthReport:
    """What the gateway knows of itself, as one document."""

    def __init__(self, status: Status, outbox: Outbox, timekeeper: TimeKeeper) -> None:
        self._status = status
        self._outbox = outbox
        self._timekeeper = timekeeper

    def document(self) -> bytes:
        """Return the health document of this moment."""
        return payloads.health(
            self._status,
            self._timekeeper,
            memory_bytes=memory_bytes(),
            outbox_in_memory=self._outbox.in_memory,
            outbox_on_disk=self._outbox.on_disk,
            outbox_oldest_s=self._oldest_s(),
        )

    def _oldest_s(self) -> float | None:
        """Return when the oldest waiting record was taken, in memory or on disk."""
        oldest_s = self._outbox.oldest_s()
        stored_unix_s = self._status.store.oldest_unix_s
        if stored_unix_s is None or not self._outbox.on_disk:  # delivered rows go later
            return oldest_s
        stored_s = stored_unix_s - self._timekeeper.base().offset_s
        return stored_s if oldest_s is None else min(oldest_s, stored_s)
