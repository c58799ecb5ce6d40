"""Ctrl-C and `systemctl stop` end a command in order."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator

from gateway.errors import GatewayError


def run_until_stopped(work: Coroutine[object, object, None]) -> bool:
    """Run `work` in an event loop; SIGINT, SIGTERM and SIGHUP cancel it, and it then cleans up.

    A SIGHUP that is ignored (nohup) stays ignored.

    Returns:
        Whether a signal ended it, rather than its own end.

    Raises:
        GatewayError, BrokenPipeError: what ended it, taken out of the groups of its tasks.
    """
    expected: BaseException | None = None
    try:
        return asyncio.run(_until_signalled(work))
    except BaseExceptionGroup as group:
        failures, bugs = group.split((GatewayError, BrokenPipeError))
        if failures is None or bugs is not None:
            raise
        expected = next(_leaves(failures))
    raise expected


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
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

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        await work
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
    return stopped
