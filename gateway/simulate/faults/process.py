"""Processes that are killed, or stand still for a while, at seeded moments.

    with HeldProcess(pid) as broker:
        blows = Blows(process_events(["broker"], seed=7), {"broker": broker})
        blows.start()           # on the running loop, until stop()

Nothing is touched but what is handed in, and nothing is started again: that is the business of
whoever runs the processes.
"""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

from gateway.simulate.faults.schedule import Planned, chance
from gateway.simulate.faults.timeline import Timeline

Victim: TypeAlias = Callable[[signal.Signals], None]
"""Sends a signal to a process; does nothing while it does not run."""

_INIT_PID = 1


class Blow(NamedTuple):
    """A signal to a process."""

    victim: str
    number: signal.Signals
    """SIGKILL, SIGSTOP or SIGCONT."""


def process_events(  # noqa: PLR0913 each says something about the schedule
    victims: Sequence[str],
    seed: int,
    *,
    shortest_s: float = 0.2,
    longest_s: float = 2.0,
    stop_share: float = 0.0,
    stop_s: float = 1.0,
) -> Iterator[Planned[Blow]]:
    """Yield what happens to the processes, in order, without end.

    Args:
        victims: their names; each blow falls on one of them, all alike.
        seed: the same seed gives the same course of events.
        shortest_s: the least time from one blow to the next.
        longest_s: the longest.
        stop_share: the share of blows that are a SIGSTOP, with a SIGCONT after it; the others kill.
        stop_s: the longest standstill.
    """
    rng = chance(f"{seed} processes")
    at_s = 0.0
    while True:
        at_s += rng.uniform(shortest_s, longest_s)
        victim = rng.choice(victims)
        if rng.random() >= stop_share:
            yield Planned(at_s, Blow(victim, signal.SIGKILL))
            continue
        yield Planned(at_s, Blow(victim, signal.SIGSTOP))
        at_s += rng.uniform(0, stop_s)
        yield Planned(at_s, Blow(victim, signal.SIGCONT))


class HeldProcess:
    """One process as a victim, held by a descriptor: its number, reused, is not taken for it."""

    def __init__(self, pid: int) -> None:
        """Hold the process.

        Raises:
            ProcessLookupError: it does not run.
            ValueError: it is this process, or all of them.
        """
        if pid <= _INIT_PID or pid == os.getpid():
            raise ValueError(f"process {pid} is none to be killed")
        self._descriptor = os.pidfd_open(pid)

    def __call__(self, number: signal.Signals) -> None:
        """Send a signal; nothing if the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of it."""
        os.close(self._descriptor)


class Blows:
    """Deals blows when they are due, by callbacks of the running loop."""

    def __init__(self, events: Iterator[Planned[Blow]], victims: Mapping[str, Victim]) -> None:
        """`victims` are the names in `events`, with what sends each a signal."""
        self.dealt: Counter[Blow] = Counter()
        self._victims = victims
        self._timeline = Timeline(events, self._deal)
        self._stopped: set[str] = set()

    def start(self) -> None:
        """Begin now, once."""
        self._timeline.start()

    def stop(self) -> None:
        """Deal no more, and let go on who was stopped; idempotent."""
        self._timeline.stop()
        for name in self._stopped:
            self._victims[name](signal.SIGCONT)
        self._stopped.clear()

    def _deal(self, blow: Blow) -> None:
        self.dealt[blow] += 1
        self._victims[blow.victim](blow.number)
        if blow.number is signal.SIGSTOP:
            self._stopped.add(blow.victim)
        else:
            self._stopped.discard(blow.victim)
