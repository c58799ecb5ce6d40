"""What a test may leave behind: no descriptor, no child process, no task."""

import asyncio
import contextlib
import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support import nursery

SETTLE_S = 1.0
"""A descriptor or process that goes away within this was on its way out, not leaked."""

LOOP_TURNS = 20
"""A cancelled task ends within a few turns of the loop; one that needs more was left running."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What this process has open at one moment."""

    descriptors: frozenset[tuple[int, str]]
    """Each with what it refers to, so that a number that was reused is not taken for the old."""
    children: frozenset[int]

    @classmethod
    def now(cls) -> Self:
        """Look at /proc; what serves more than one test is not looked at."""
        descriptors, children = nursery.ours()
        return cls(
            frozenset(each for each in _descriptors() if each[0] not in descriptors),
            frozenset(_children()) - children,
        )

    def left_since(self, before: Self) -> str:
        """Describe what is here and was not then; empty if there is nothing."""
        descriptors = [
            f"descriptor {number} -> {target}"
            for number, target in sorted(self.descriptors - before.descriptors)
        ]
        children = [f"child process {pid}" for pid in sorted(self.children - before.children)]
        return ", ".join(descriptors + children)


def left_behind(before: Holdings) -> str:
    """Describe what is still open since `before`; waits a little for what is being closed."""
    gc.collect(1)  # young garbage warns of what it forgot to close now, in the test that made it
    left = Holdings.now().left_since(before)
    deadline = time.monotonic() + SETTLE_S
    while left and time.monotonic() < deadline:
        gc.collect()  # closes what is unreachable, with a ResourceWarning, which is an error
        time.sleep(0.01)
        left = Holdings.now().left_since(before)
    return left


async def tasks_left() -> list[str]:
    """Name the tasks that run besides the caller's."""
    for _ in range(LOOP_TURNS):
        if not _other_tasks():
            return []
        await asyncio.sleep(0)
    return sorted(repr(task) for task in _other_tasks())


def _other_tasks() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _descriptors() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return found


def _children() -> list[int]:
    """Return direct children of every thread; none where the kernel does not list them."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        # The thread may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            listed = Path(f"/proc/self/task/{thread}/children").read_text()
            found += map(int, listed.split())
    return found
