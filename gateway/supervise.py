"""The one reconnect loop, for ports, radios and the broker alike."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from gateway.backoff import Backoff
from gateway.errors import LinkError
from gateway.progress import Progress, Stage

_log = logging.getLogger(__name__)

_MAX_TOLD = 8
"""Most reasons that are warned of in a row of failures; any more are for debugging."""


async def keep_running(
    name: str,
    run: Callable[[Callable[[], None]], Awaitable[NoReturn]],
    backoff: Backoff,
    *,
    may_warn: Callable[[], bool] = lambda: True,
    stage: Stage | None = None,
) -> NoReturn:
    """Run `run` for ever, starting it again after every `LinkError`.

    `run` gets a `progress` callback and calls it on every good datum: only real data resets the
    backoff, so a port that opens but sends garbage is not hammered. Each reason is warned of once
    until then, if `may_warn`: who mends what was said first must hear what comes next.

    Cancelled, it ends, also where a library below turned the cancellation into an error of its own
    and `run` made a `LinkError` of that. `stage` is told of the pauses; of the rest `run` tells it.
    """
    stage = stage or Progress().stage(name)
    told: set[str] = set()
    while True:
        try:
            await run(backoff.reset)
        except LinkError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from exc
            if not backoff.attempt:
                told.clear()
            reason = str(exc)
            is_new = may_warn() and reason not in told and len(told) < _MAX_TOLD
            if is_new:
                told.add(reason)
            level = logging.WARNING if is_new else logging.DEBUG
            delay_s = backoff.next_delay_s()
            _log.log(level, "%s: %s; retry in %.1f s, then less often", name, reason, delay_s)
            await stage.rest(delay_s, asyncio.sleep)
