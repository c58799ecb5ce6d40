"""An event loop whose time runs faster, so that production's waits pass in a fraction of theirs."""

import asyncio
import os
import selectors
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

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        wait_s = timeout / self._speed if timeout is not None and timeout > 0 else timeout
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(wait_s)
        return ready


class FastLoop(asyncio.SelectorEventLoop):
    """Every sleep and timeout takes 1/speed of its time, and time() says what it would have been.

    Nothing is skipped: what takes real time, as an answer over a socket, counts `speed` times.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        super().__init__(_FastSelector(speed))
        self.slow_callback_duration *= speed

    def time(self) -> float:
        return super().time() * self._speed


def run_at(speed: float, main: Callable[[Clock], Coroutine[None, None, T]]) -> T:
    """Run something on a fast loop, with a clock that agrees with it."""
    speed = max(speed / SLOWER, 1.0)
    with asyncio.Runner(loop_factory=lambda: FastLoop(speed)) as runner:
        loop = runner.get_loop()
        return runner.run(main(Clock(monotonic_s=loop.time)))
