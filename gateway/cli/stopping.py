"""Ctrl-C and `systemctl stop` end a command in order."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator

from gateway.errors import GatewayError


def run_until_stopped(work: Coroutine[object, object, None]) -> bool:
    """Run `work` in an event loop; SIGINT and SIGTERM cancel it, and it then cleans up.

    Returns:
        Whether a signal ended it, rather than its own end.

    Raises:
        GatewayError: the first one of those that ended it, out of the groups of its tasks.
    """
    expected: GatewayError | None = None
    try:
        return asyncio.run(_until_signalled(work))
    except BaseExceptionGroup as group:
        failures, bugs = group.split(GatewayError)
        if failures is None or bugs is not None:
            raise
        expected = next(_leaves(failures))
    raise expected


def _leaves(group: BaseExceptionGroup[GatewayError]) -> Iterator[GatewayError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _until_signalled(work: Coroutine[object, object, None]) -> bool:
    loop = asyncio.get_running_loop()
    this_task = asyncio.current_task()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if this_task is not None and not stopped:
            stopped = True
            this_task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await work
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return stopped
