"""Who moves and who has nothing to do: what the watchdog asks before it says all is well; pure.

A part of the gateway (a stage) says by when it will speak again, and does so each time it takes a
step or has nothing to do. Nobody feeds the watchdog from a timer of his own: a stage that keeps
silent for longer than it promised stands still, whatever the others do. A promise costs a look at
the clock and three attributes, and none is made for a single sample.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, Self

PERIOD_S: Final = 120.0
"""What WatchdogSec of our unit is; who runs without systemd has its promises measured the same."""

_BEATS: Final = 6
"""A stage that only waits speaks so often in a period."""
_SLACK: Final = 2
"""A late stage is given the period's half: a machine may be busy."""
_STEP: Final = 2 / 3
"""A step takes no more than this part of a period, so that a frozen one is known within one."""

_IDLE: Final = float("inf")
_NEVER: Final = float("-inf")


class Stage:
    """One part; it says what it does with one call before each step."""

    __slots__ = ("_progress", "doing", "due_s", "name", "spoke_s")

    def __init__(self, name: str, progress: "Progress") -> None:
        """Use `Progress.stage`."""
        self.name = name
        self._progress = progress
        self.doing = ""
        """What it does; empty while it waits for something to do."""
        self.due_s = _IDLE
        """It stands still when it has not spoken by then."""
        self.spoke_s = _NEVER
        """When it spoke last."""

    @property
    def has_begun(self) -> bool:
        """Whether it ever spoke."""
        return self.spoke_s != _NEVER

    @property
    def is_silent(self) -> bool:
        """Whether it has not spoken for as long as from one beat to the next."""
        return self._progress.now_s() - self.spoke_s > self._progress.period_s / _BEATS

    def works(self, doing: str) -> None:
        """Take a step that others bound: by timeouts, or because a disk takes no longer."""
        self.spoke_s = now_s = self._progress.now_s()
        self.due_s = now_s + self._progress.period_s * _STEP
        self.doing = doing

    def works_long(self, doing: str, limit_s: float) -> None:
        """Take a step that is known to take longer than a period, at most so long."""
        self.works(doing)
        self.due_s = max(self.due_s, self.spoke_s + limit_s)

    def waits(self, delay_s: float) -> None:
        """Wait for so long; to speak again behind it."""
        self.spoke_s = now_s = self._progress.now_s()
        self.due_s = now_s + delay_s + self._progress.period_s / _SLACK
        self.doing = ""

    def moved(self) -> None:
        """Take a step that somebody else saw; to be seen again before half a period is over."""
        self.waits(0.0)

    def beat_s(self, delay_s: float = _IDLE) -> float:
        """Return for how long to wait at most before the next beat, and wait."""
        step_s = min(delay_s, self._progress.period_s / _BEATS)
        self.waits(max(step_s, 0.0))
        return step_s

    def idles(self) -> None:
        """Have nothing to do until somebody comes, for however long."""
        self.spoke_s = self._progress.now_s()
        self.due_s = _IDLE
        self.doing = ""

    def gives_up(self, reason: str) -> None:
        """Say that it cannot go on by itself: only a new process is left."""
        self.spoke_s = self._progress.now_s()
        self.due_s = _NEVER
        self.doing = reason

    async def rest(self, delay_s: float, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Sleep for so long, in beats."""
        while delay_s > 0:
            step_s = self.beat_s(delay_s)
            await sleep(step_s)
            delay_s -= step_s

    async def rest_for_ever(self, sleep: Callable[[float], Awaitable[object]]) -> NoReturn:
        """Sleep in beats: for a task that only holds others."""
        while True:
            await sleep(self.beat_s())

    async def attend(
        self, wait: Callable[[float], Awaitable[object]], is_over: Callable[[], bool]
    ) -> None:
        """Wait in beats until it is over; `wait` returns then, or after the time it is given."""
        while not is_over():
            await wait(self.beat_s())

    def leave(self) -> None:
        """Be a stage no more."""
        self._progress.forget(self)

    def __enter__(self) -> Self:
        """Be a stage for the length of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


class Progress:
    """All stages of a gateway."""

    def __init__(
        self, now_s: Callable[[], float] = time.monotonic, period_s: float = PERIOD_S
    ) -> None:
        """`now_s` is the event loop's clock: it stands while the machine sleeps, as systemd's."""
        self.now_s = now_s
        self.period_s = period_s
        """Within it a frozen stage is noticed."""
        self._stages: dict[Stage, None] = {}

    @property
    def stages(self) -> list[Stage]:
        """Those there are."""
        return list(self._stages)

    @property
    def tick_s(self) -> float:
        """How often the watchdog is to look: so often that a frozen stage is noticed in time."""
        return self.period_s / (2 * _SLACK)

    def stage(self, name: str) -> Stage:
        """Return a new stage; it counts from when it speaks first."""
        stage = Stage(name, self)
        self._stages[stage] = None
        return stage

    def forget(self, stage: Stage) -> None:
        """Have one stage less; nothing happens if it left already."""
        self._stages.pop(stage, None)

    def late(self) -> list[Stage]:
        """Return the stages that stand still."""
        now_s = self.now_s()
        return [stage for stage in self._stages if stage.due_s < now_s]

    def silent(self) -> list[Stage]:
        """Return the stages that never spoke."""
        return [stage for stage in self._stages if not stage.has_begun]
