"""Blocking calls in threads of their own.

Not asyncio.to_thread: a few ports whose kernel driver hangs would take all of its shared threads,
and hold up the end of the process.
"""

import _thread
import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Return what `work` returns, run in a new thread; a result nobody takes goes to `undo`.

    It may be cancelled at any time: `work` then runs on, and its result is undone in its thread.
    """
    call = _Call(work, undo)
    try:
        return await call.outcome
    except asyncio.CancelledError:
        call.abandon()
        raise


def start_in_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Run `work` in a new thread; it goes on whether the future is awaited or not."""
    return _Call(work, lambda _none: None).outcome


class _Call(Generic[T]):
    """One call in a thread, with its outcome on its way to the event loop."""

    def __init__(self, work: Callable[[], T], undo: Callable[[T], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self._loop.create_future()
        self._work = work
        self._undo = undo
        self._start(self._run)

    def abandon(self) -> None:
        """Undo a result that came in the same turn as the cancellation."""
        outcome = self.outcome
        if outcome.done() and not outcome.cancelled() and outcome.exception() is None:
            result = outcome.result()
            self._start(lambda: self._undo(result))

    def _start(self, body: Callable[[], object]) -> None:
        # Not threading.Thread: its start() waits until the new thread has had its first turn, which
        # took a tenth of the loop's time while hundreds of ports were opened. It is daemonic.
        _thread.start_new_thread(body, ())

    def _run(self) -> None:
        try:
            result = self._work()
        except BaseException as exc:  # noqa: BLE001  # it belongs to whoever awaits the outcome
            self._tell_loop(self._fail, exc)
            return
        if not self._tell_loop(self._settle, result):
            self._undo(result)

    def _tell_loop(self, step: Callable[..., None], argument: object) -> bool:
        """Have the loop call `step`; False if it is closed."""
        try:
            self._loop.call_soon_threadsafe(step, argument)
        except RuntimeError:
            return False
        return True

    def _settle(self, result: T) -> None:
        if self.outcome.done():  # nobody waits any more
            self._start(lambda: self._undo(result))
        else:
            self.outcome.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
