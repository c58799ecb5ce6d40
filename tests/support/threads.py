"""A system that has no thread to give, and one whose ports do not open."""

import _thread
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def no_threads() -> Iterator[None]:
    """Let no thread start, as at the limit of a user or a service, for the length of the block."""
    before = _thread.stack_size(1 << 46)  # more than there are addresses for
    try:
        yield
    finally:
        _thread.stack_size(before)


class StuckPath:
    """A path whose open() does not return until `release`; a real one hangs in the kernel."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._may_pass = threading.Event()
        self.attempts = 0
        sys.addaudithook(self._on_event)  # the only way to hold up os.open from outside; for ever

    def release(self) -> None:
        """Let it open from now on."""
        self._may_pass.set()

    def _on_event(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and arguments[0] == self._path and not self._may_pass.is_set():
            self.attempts += 1
            assert self._may_pass.wait(30)


def thread_ids() -> set[str]:
    """Return the threads of this process, those that no Thread object stands for included."""
    return set(os.listdir("/proc/self/task"))
