"""Whose turn it is to be published: previews, then what is fresh, then backlogs at their rate."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from gateway.progress import Progress, Stage
from gateway.store.lanes import Lane, Tokens


class Turns:
    """The lanes in line for the publisher; devices take turns.

    A lane stands in one of two queues, `lane.queue`, or in none: nothing of it waits, it is held,
    or it is being read back.
    """

    def __init__(self, live_s: float, drain_rate: float, monotonic_s: Callable[[], float]) -> None:
        """Wait for at most `live_s` and be fresh; `drain_rate` records a second of backlogs."""
        self.tokens = Tokens(drain_rate, monotonic_s())
        self.backlog: deque[Lane] = deque()
        self._live: deque[Lane] = deque()
        self._previews: dict[str, None] = {}
        self._held: set[str] = set()
        self._awaited: set[str] = set()
        """Devices with rows on disk that nobody has counted yet: what is fresh must not pass."""
        self._live_s = live_s
        self._monotonic_s = monotonic_s
        self._filled = asyncio.Event()
        self._refill: asyncio.TimerHandle | None = None
        self.stage: Stage = Progress().stage("records")
        """Told that who waits here is only waiting."""

    @property
    def has_any(self) -> bool:
        """Whether there is something to take now or soon."""
        return bool(self._live or self.backlog or self._previews)

    def since_s(self) -> float:
        """Return the monotonic time before which what came is backlog."""
        return self._monotonic_s() - self._live_s

    async def wait(self) -> None:
        """Wait until there is something to look at; to be called where there was nothing."""
        self._filled.clear()
        while not self._filled.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self.stage.beat_s()):
                    await self._filled.wait()

    def wake(self) -> None:
        """End `wait`."""
        self._filled.set()

    # ---- into the line, and out of it ----

    def enqueue(self, lane: Lane) -> None:
        """Let a lane stand in line, if it may and has anything."""
        if lane.queue is not None or lane.is_reading or not lane.has_any:
            return
        if lane.device in self._held:
            return
        if lane.device in self._awaited:
            self.preview(lane.device)
            return
        if lane.is_backlog(self.since_s()):
            lane.queue = self.backlog
            self._previews[lane.device] = None
        else:
            lane.queue = self._live
        lane.queue.append(lane)
        self._filled.set()

    def go_on(self, lane: Lane) -> None:
        """Let a backlog have the next turn, too."""
        if lane.device not in self._held:
            lane.queue = self.backlog
            self.backlog.appendleft(lane)

    @staticmethod
    def leave(lane: Lane) -> None:
        """Take a lane out of the line, wherever it stands."""
        if lane.queue is not None:
            lane.queue.remove(lane)
            lane.queue = None

    def preview(self, device: str) -> None:
        """Have the newest sample of a device shown before anything else."""
        self._previews[device] = None
        self._filled.set()

    def hold(self, device: str) -> None:
        """Let no lane of `device` stand in line until `release`."""
        self._held.add(device)

    def release(self, device: str) -> None:
        """End `hold`."""
        self._held.discard(device)

    def is_held(self, device: str) -> bool:
        """Whether nothing of a device is to be published now."""
        return device in self._held

    def await_stock(self, devices: Iterable[str]) -> None:
        """Let none of these devices stand in line, only be previewed; called anew with others."""
        self._awaited = set(devices)

    def is_behind(self, lane: Lane) -> bool:
        """Whether older records go before the newest of a lane."""
        return lane.queue is self.backlog or lane.is_reading or lane.device in self._awaited

    # ---- the publisher takes ----

    def next_preview(self) -> str | None:
        """Return the next device whose newest sample is to be shown."""
        return self._previews.popitem()[0] if self._previews else None

    def next_fresh(self) -> Lane | None:
        """Return the next lane that was fresh when it got into the line; it leaves the line."""
        if not self._live:
            return None
        lane = self._live.popleft()
        lane.queue = None
        return lane

    def first_backlog(self, now_s: float) -> Lane | None:
        """Return the backlog whose turn it is, if the rate allows any now; it stays in line."""
        if not self.backlog:
            return None
        if (wait_s := self.tokens.wait_s(now_s)) > 0:
            self._wake_in(wait_s)
            return None
        return self.backlog[0]

    def _wake_in(self, delay_s: float) -> None:
        if self._refill is not None:
            self._refill.cancel()
        self._refill = asyncio.get_running_loop().call_later(delay_s, self._filled.set)
