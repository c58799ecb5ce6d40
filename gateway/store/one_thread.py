"""One thread for all work on a file, one job after the other: no lock, no second connection."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from gateway.errors import StoreError

_P = ParamSpec("_P")
_T = TypeVar("_T")


class OneThread:
    """Does jobs in their order; its thread begins with the first of them."""

    def __init__(self, name: str, path: Path) -> None:
        """`name` is the thread's; `path` is told in errors."""
        self._name = name
        self._path = path
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def start(
        self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Begin a job behind those that wait; a StoreError where the system has no thread."""
        try:
            return asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))
        except RuntimeError as exc:  # only the first work for an executor begins its thread
            text = f"{self._path}: {exc}: raise the limit (ulimit -u, TasksMax=)"
            failed: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
            failed.set_exception(StoreError(text))
            # What could not begin must not be done later, in front of another attempt.
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
            return failed

    def end(self) -> None:
        """Take no more jobs; what hangs is not waited for."""
        self._executor.shutdown(wait=False)
