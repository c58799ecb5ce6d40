"""An event loop that waits for nothing: its time jumps to when something is due."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import TypeVar

from gateway.clock import Clock

T = TypeVar("T")

HANG_S = 20.0
"""Where nothing is due, something may still come from a thread or a socket."""


class _SkippingSelector(selectors.DefaultSelector):
    """Returns at once, and notes for how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready: list[tuple[selectors.SelectorKey, int]] = super().select(HANG_S)
            if not ready:
                raise RuntimeError("nothing is due, and nobody will ever come")
            return ready
        ready = super().select(0)
        if not ready and timeout > 0:
            self.skipped_s += timeout
        return ready


class SkippingLoop(asyncio.SelectorEventLoop):
    """Hours pass in an instant, and the same every time: only for what needs no real time."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return 1000.0 + self._skipping.skipped_s


def run_skipping(main: Callable[[Clock], Coroutine[None, None, T]]) -> T:
    """Run something on such a loop, with a clock that agrees with it."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        loop = runner.get_loop()
        return runner.run(main(Clock(monotonic_s=loop.time)))
