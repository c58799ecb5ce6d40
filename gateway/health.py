"""The gateway measures itself: loop lag, memory, and the health document."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gateway.status import Status

LAG_INTERVAL_S = 0.05
"""Time between two looks at the loop; a stall longer than this is seen for certain."""


async def watch_loop_lag(status: Status) -> NoReturn:
    """Record for ever by how much the event loop is late."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        status.loop_lag_s.record(max(0.0, loop.time() - due_s))


async def call_every(interval_s: float, act: Callable[[], object]) -> NoReturn:
    """Call `act` now and every `interval_s` for ever."""
    while True:
        act()
        await asyncio.sleep(interval_s)


def memory_bytes() -> int:
    """Return the resident memory of this process; 0 where /proc does not tell.

    Source: proc_pid_statm(5), second field, in pages.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
