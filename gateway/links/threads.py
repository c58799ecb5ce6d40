"""Blocking calls in threads of their own.

Not asyncio.to_thread: a few ports whose kernel driver hangs would take all of its shared threads,
and hold up the end of the process.
"""

import _thread
import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.errors import LinkError

T = TypeVar("T")


class Call(Generic[T]):
    """One blocking call in a thread of its own, begun at once."""

    def __init__(
        self, work: Callable[[], T], undo: Callable[[T], object] = lambda _result: None
    ) -> None:
        """Run `work` in a new thread; a result nobody takes goes to `undo`, in a thread.

        Raises:
            LinkError: the system has no thread to give.
        """
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self._loop.create_future()
        """What `work` returned or raised; who might stop waiting for it takes it from `result`."""
        self.is_running = True
        """Whether the thread is still at work; nothing can end it from outside."""
        self._work = work
        self._undo = undo
        self._left: list[T] = []
        """The result until somebody undoes it: `pop` is atomic, so it is undone once at most."""
        self._is_abandoned = False
        _start(self._run)

    async def result(self) -> T:
        """Return what `work` returns, or raise what it raises.

        It may be cancelled at any time: `work` then runs on, and its result is undone.
        """
        try:
            result = await self.outcome
        except BaseException:
            self._is_abandoned = True  # first this, then a look: the thread does it the other way
            if self._left:
                self._undo_elsewhere()
            raise
        self._left.clear()
        return result

    def _run(self) -> None:
        try:
            self._run_work()
        finally:
            self.is_running = False

    def _run_work(self) -> None:
        try:
            result = self._work()
        except BaseException as exc:  # noqa: BLE001  # it belongs to whoever awaits the outcome
            self._tell_loop(self._fail, exc)
            return
        self._left.append(result)
        if self._is_abandoned or not self._tell_loop(self._settle, result):
            self._undo_left()

    def _undo_left(self) -> None:
        try:
            result = self._left.pop()
        except IndexError:  # the other side was first
            return
        self._undo(result)

    def _undo_elsewhere(self) -> None:
        try:
            _start(self._undo_left)
        except LinkError:
            self._undo_left()  # in the loop: it is held up for a moment, but no port stays open

    def _tell_loop(self, step: Callable[..., None], argument: object) -> bool:
        """Have the loop call `step`; False if it is closed."""
        try:
            self._loop.call_soon_threadsafe(step, argument)
        except RuntimeError:
            return False
        return True

    def _settle(self, result: T) -> None:
        if not self.outcome.done():
            self.outcome.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


def _start(body: Callable[[], object]) -> None:
    # Not threading.Thread: its start() waits until the new thread has had its first turn, which
    # took a tenth of the loop's time while hundreds of ports were opened. It is daemonic.
    try:
        _thread.start_new_thread(body, ())
    except RuntimeError as exc:
        raise LinkError(f"{exc}: raise the limit (ulimit -u, TasksMax=)") from exc
