"""An event loop whose time runs faster, so that production's waits pass in a fraction of theirs."""

import asyncio
import os
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import TypeVar

from gateway.clock import Clock

T = TypeVar("T")

IS_DEBUGGED = bool(os.environ.get("PYTHONASYNCIODEBUG"))
SLOWER = 5.0 if IS_DEBUGGED else 1.0
"""asyncio's debug mode makes all code several times slower, so the loop's time runs slower too."""


class _FastSelector(selectors.DefaultSelector):
    """Waits a fraction of what it is asked to."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed
        self.waited_s = 0.0
        """So long in all, in the time that was asked for."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        wait_s = timeout / self._speed if timeout is not None and timeout > 0 else timeout
        began_s = time.monotonic()
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(wait_s)
        waited_s = (time.monotonic() - began_s) * self._speed
        self.waited_s += waited_s if timeout is None else min(waited_s, max(timeout, 0.0))
        return ready


class FastLoop(asyncio.SelectorEventLoop):
    """Every sleep and timeout takes 1/speed of its time, and time() says what it would have been.

    What the loop waits for, as an answer over a socket, counts `speed` times, and so does the
    processor time of its thread; time in which others have the processor does not, so that a busy
    machine makes nothing look slow that is measured on this clock.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._selecting = _FastSelector(speed)
        self._began_s = time.thread_time()
        super().__init__(self._selecting)
        self.slow_callback_duration *= speed

    def time(self) -> float:
        return self._selecting.waited_s + (time.thread_time() - self._began_s) * self._speed


def run_at(speed: float, main: Callable[[Clock], Coroutine[None, None, T]]) -> T:
    """Run something on a fast loop, with a clock that agrees with it."""
    speed = max(speed / SLOWER, 1.0)
    with asyncio.Runner(loop_factory=lambda: FastLoop(speed)) as runner:
        loop = runner.get_loop()
        return runner.run(main(Clock(monotonic_s=loop.time)))
