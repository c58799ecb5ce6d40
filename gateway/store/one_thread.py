"""One thread for all work on a file, one job after the other: no lock, no second connection."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from gateway.errors import StoreError
from gateway.progress import Progress, Stage

LONG_S: Final = 900.0
"""What takes long (checking, mending or copying a large file on a slow card) takes no longer."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class OneThread:
    """Does jobs in their order; its thread begins with the first of them."""

    def __init__(self, name: str, path: Path, progress: Progress | None = None) -> None:
        """`name` is the thread's; `path` is told in errors."""
        self._name = name
        self._path = path
        self._stage: Stage = (progress or Progress()).stage(f"{name} thread")
        self._under_way: deque[tuple[str, float]] = deque()
        """What each job is called, and how long it may take where that is long."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def start(
        self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Begin a job behind those that wait; a StoreError where the system has no thread."""
        return self._start(0.0, function, *args, **kwargs)

    def start_long(
        self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Do as `start` with a job that may take minutes."""
        return self._start(LONG_S, function, *args, **kwargs)

    def knock(self) -> None:
        """Have the thread show that it lives, unless it did a while ago, or was never needed."""
        if not self._under_way and self._stage.has_begun and self._stage.is_silent:
            self.start(_nothing).add_done_callback(_overlook)

    def _start(
        self, limit_s: float, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        try:
            job = asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))
        except RuntimeError as exc:  # only the first work for an executor begins its thread
            text = f"{self._path}: {exc}: raise the limit (ulimit -u, TasksMax=)"
            failed: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
            failed.set_exception(StoreError(text))
            # What could not begin must not be done later, in front of another attempt.
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
            return failed
        self._under_way.append((getattr(function, "__name__", ""), limit_s))
        if len(self._under_way) == 1:
            self._watch_next()
        job.add_done_callback(self._on_done)
        return job

    def end(self) -> None:
        """Take no more jobs; what hangs is not waited for."""
        self._executor.shutdown(wait=False)
        self._stage.leave()

    def _on_done(self, _job: asyncio.Future[_T]) -> None:
        self._under_way.popleft()
        if self._under_way:
            self._watch_next()
        else:
            self._stage.idles()

    def _watch_next(self) -> None:
        self._stage.works_long(*self._under_way[0])


def _nothing() -> None:
    """Do nothing."""


def _overlook(knocked: asyncio.Future[None]) -> None:
    """Leave it to the next job to tell that there is no thread."""
    if not knocked.cancelled():
        knocked.exception()
