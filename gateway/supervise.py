"""The one reconnect loop, for ports, radios and the broker alike."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from gateway.backoff import Backoff
from gateway.errors import LinkError

_log = logging.getLogger(__name__)


async def keep_running(
    name: str,
    run: Callable[[Callable[[], None]], Awaitable[NoReturn]],
    backoff: Backoff,
) -> NoReturn:
    """Run `run` for ever, starting it again after every `LinkError`.

    `run` gets a `progress` callback and calls it on every good datum: only real data resets the
    backoff, so a port that opens but sends garbage is not hammered.
    """
    while True:
        try:
            await run(backoff.reset)
        except LinkError as exc:
            level = logging.DEBUG if backoff.attempt else logging.WARNING
            delay_s = backoff.next_delay_s()
            _log.log(level, "%s: %s; retry in %.1f s", name, exc, delay_s)
            await asyncio.sleep(delay_s)
