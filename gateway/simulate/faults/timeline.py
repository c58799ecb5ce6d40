"""Plays what is planned, by callbacks of the running loop."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic

from gateway.simulate.faults.schedule import ActionT, Planned


class Timeline(Generic[ActionT]):
    """Calls `act` with each action when its moment has come."""

    def __init__(self, events: Iterator[Planned[ActionT]], act: Callable[[ActionT], None]) -> None:
        self._events = events
        self._act = act
        self._started_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin now, once."""
        self._started_s = asyncio.get_running_loop().time()
        self._schedule()

    def stop(self) -> None:
        """Play no more; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        planned = next(self._events, None)
        self._timer = (
            None
            if planned is None
            else asyncio.get_running_loop().call_at(
                self._started_s + planned.at_s, self._play, planned.action
            )
        )

    def _play(self, action: ActionT) -> None:
        self._schedule()
        self._act(action)
