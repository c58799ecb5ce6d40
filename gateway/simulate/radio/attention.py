"""Waiting for bumble without missing that one is to end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def attentive(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Wait for something of bumble's, and be cancelled if that is asked for meanwhile.

    Bumble waits by asyncio.wait_for, which in Python 3.11 forgets that it was cancelled when the
    answer comes in the same turn.
    """
    before = cancellations()
    answer = await coroutine
    if cancellations() > before:
        raise asyncio.CancelledError
    return answer


def cancellations() -> int:
    """Return how often this task was asked to end, by timeouts around it, too."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
