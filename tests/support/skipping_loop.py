"""An event loop that waits for nothing: its time jumps to when something is due."""

import _thread
import asyncio
import selectors
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures.thread import _threads_queues
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from gateway.clock import Clock

T = TypeVar("T")

_WAITS = "_worker"
"""Where a thread of an executor is that has nothing to do."""

HANG_S = 20.0
"""Where nothing is due, something may still come from a thread or a socket."""


LOOK_S = 0.001
"""From one look at threads that work to the next."""


_begun: set[object] = set()
"""Threads of `_thread` that have not ended: one that was just begun has no frame yet."""


@contextmanager
def _threads_counted() -> Iterator[None]:
    start = _thread.start_new_thread

    def counted(body: Callable[..., object], *more: Any) -> int:  # noqa: ANN401 - as of Python itself
        mark = object()

        def run(*args: object) -> None:
            try:
                body(*args)
            finally:
                _begun.discard(mark)

        _begun.add(mark)
        try:
            return start(run, *more)
        except BaseException:
            _begun.discard(mark)
            raise

    _begun.clear()  # of an earlier test, one that hangs for ever
    _thread.start_new_thread = counted
    try:
        yield
    finally:
        _thread.start_new_thread = start


class _SkippingSelector(selectors.DefaultSelector):
    """Returns at once, and notes for how long it would have waited."""

    def __init__(self, *, waits_for_threads: bool) -> None:
        super().__init__()
        self.skipped_s = 0.0
        self._waits_for_threads = waits_for_threads
        self._others = set(sys._current_frames())  # noqa: SLF001 - of Python itself
        """Threads that are not the test's, such as those of pytest."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready: list[tuple[selectors.SelectorKey, int]] = super().select(HANG_S)
            if not ready:
                raise RuntimeError("nothing is due, and nobody will ever come")
            return ready
        ready = super().select(0)
        while self._waits_for_threads and timeout > 0 and not ready and self._threads_work():
            ready = super().select(LOOK_S)
        if self._waits_for_threads and not ready:
            ready = super().select(0)  # what a thread said with its last breath
        if not ready and timeout > 0:
            self.skipped_s += timeout
        return ready

    def _threads_work(self) -> bool:
        """Tell whether any thread that was begun since does something, or is about to."""
        executors = {
            thread: queue for thread, queue in _threads_queues.items() if thread.is_alive()
        }
        if any(q.qsize() for t, q in executors.items() if t.ident not in self._others):
            return True
        if _begun:
            return True
        frames = sys._current_frames()  # noqa: SLF001 - of Python itself
        return any(
            frame.f_code.co_name != _WAITS
            for thread, frame in frames.items()
            if thread not in self._others
        )


class SkippingLoop(asyncio.SelectorEventLoop):
    """Hours pass in an instant, and the same every time: only for what needs no real time.

    With `waits_for_threads` none passes while another thread works.
    """

    def __init__(self, *, waits_for_threads: bool = False) -> None:
        self._skipping = _SkippingSelector(waits_for_threads=waits_for_threads)
        super().__init__(self._skipping)

    def time(self) -> float:
        return 1000.0 + self._skipping.skipped_s


def run_skipping(
    main: Callable[[Clock], Coroutine[None, None, T]], *, waits_for_threads: bool = False
) -> T:
    """Run something on such a loop, with a clock that agrees with it."""
    make = partial(SkippingLoop, waits_for_threads=waits_for_threads)
    with _threads_counted(), asyncio.Runner(loop_factory=make) as runner:
        loop = runner.get_loop()
        return runner.run(main(Clock(monotonic_s=loop.time)))
