"""One update for many boards: whose turn it is, what became of each, and when to stop; pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Final, Self

MAX_TRIES: Final = 3
"""An update that fails on a board, for it does not answer or does not get on, is tried so often."""
PAUSE_S: Final = 10.0
PAUSE_CAP_S: Final = 300.0
"""From one try to the next; each further one waits twice as long."""

TRIAL_S: Final = 2_700.0
"""A board on trial that has not said what became of it by then halts the rollout: two tries of 10
minutes, and what it may need to be heard again."""


class State(Enum):
    """How an update stands on one board."""

    WAITING = "waiting"
    """It is not its turn yet, or it is not there."""
    SENDING = "sending"
    TRIAL = "trial"
    """It runs it, and may still take it back."""
    DONE = "done"
    UNCHANGED = "unchanged"
    """It had it already."""
    REFUSED = "refused"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    HALTED = "halted"
    """It was not begun any more, for another board had rolled back."""
    ABORTED = "aborted"


ACTIVE: Final = frozenset({State.WAITING, State.SENDING, State.TRIAL})
_BUSY: Final = frozenset({State.SENDING, State.TRIAL})


class Phase(Enum):
    """How a rollout stands as a whole."""

    RUNNING = "running"
    HALTED = "halted"
    ABORTED = "aborted"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rolled out, and how."""

    kind: str
    """firmware or settings."""
    version: str
    """Of the firmware; empty for settings."""
    short_hash: str
    """First 16 hex digits of the manifest's SHA-256: what boards call it."""
    config_hash: str = ""
    """What boards call settings they run: 8 hex digits of their SHA-256; empty for firmware."""
    size_bytes: int = 0
    canary: int = 0
    """So many boards have to confirm it before the others get it."""
    parallel: int = 4
    """At most so many have it under way, from the first byte to the confirmation."""
    allows_downgrade: bool = False

    @property
    def title(self) -> str:
        """What to call it: firmware 0.2.0, or settings and their hash."""
        return f"{self.kind} {self.version or self.short_hash}"


@dataclass(slots=True)
class Target:
    """One board."""

    device: str
    state: State = State.WAITING
    reason: str = ""
    """Why it is as it is, for people."""
    tries: int = 0
    """Times it was begun and failed."""
    was_begun: bool = False
    percent: int = 0
    rests_until_s: float = 0.0
    """Monotonic time before which it is not begun again."""
    trial_since_s: float | None = None
    """Monotonic time from which on its trial is known; None while there is none."""
    life: str = ""
    """The life of its memory in which it took the update."""


@dataclass(slots=True)
class Rollout:
    """Who gets an update, in which order; what happens is told by methods named after it."""

    number: int
    plan: Plan
    targets: dict[str, Target]
    began_unix_s: float = 0.0
    reason: str = ""
    """Why it was halted or aborted; empty while it runs."""
    is_halted: bool = False
    is_aborted: bool = False
    version: int = 0
    """Grows with each change that is to be kept."""
    _changed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, number: int, plan: Plan, devices: Iterable[str], began_unix_s: float) -> Self:
        """Return a rollout that begins."""
        targets = {device: Target(device) for device in devices}
        return cls(number, plan, targets, began_unix_s, _changed=set(targets))

    # ---- how it stands ----

    @property
    def phase(self) -> Phase:
        """How it stands as a whole; one that was halted or aborted says so, whoever is on trial."""
        if self.is_aborted:
            return Phase.ABORTED
        if self.is_halted:
            return Phase.HALTED
        return Phase.DONE if self.is_over else Phase.RUNNING

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return not any(target.state in ACTIVE for target in self.targets.values())

    @property
    def counts(self) -> dict[State, int]:
        """How many boards are in each state; states without any are left out."""
        counts: dict[State, int] = {}
        for target in self.targets.values():
            counts[target.state] = counts.get(target.state, 0) + 1
        return counts

    @property
    def room(self) -> int:
        """How many more boards may be begun now: until the canaries have confirmed, only these."""
        counts = self.counts
        proven = counts.get(State.DONE, 0)
        most = self.plan.parallel
        if proven < self.plan.canary:
            most = min(most, self.plan.canary - proven)
        return max(0, most - sum(counts.get(state, 0) for state in _BUSY))

    def is_active(self, device: str) -> bool:
        """Whether it still concerns a board."""
        target = self.targets.get(device)
        return target is not None and target.state in ACTIVE

    def take_changed(self) -> set[str]:
        """Return who changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    # ---- what to do ----

    def next_to_begin(self, is_there: Callable[[str], bool], now_s: float) -> Iterator[Target]:
        """Yield boards that are to be begun now, among those that are there.

        Whoever takes one calls `begun` before the next.
        """
        room = self.room
        for target in self.targets.values():
            if room <= 0:
                return
            if target.state is not State.WAITING or target.rests_until_s > now_s:
                continue
            if is_there(target.device):
                yield target
                room = self.room

    def deadline_s(self, now_s: float) -> float:
        """Return when time alone changes something; infinity for never."""
        due_s = float("inf")
        for target in self.targets.values():
            if target.state is State.WAITING and target.rests_until_s > now_s:
                due_s = min(due_s, target.rests_until_s)
            elif target.state is State.TRIAL and target.trial_since_s is not None:
                due_s = min(due_s, target.trial_since_s + TRIAL_S)
        return due_s

    # ---- what happens ----

    def begun(self, device: str) -> None:
        """Note that a board is being sent it."""
        target = self.targets[device]
        target.was_begun = True
        target.percent, target.rests_until_s = 0, 0.0
        self._set(target, State.SENDING)

    def progressed(self, device: str, percent: int) -> None:
        """Note how much a board has of it."""
        target = self.targets[device]
        if target.state is State.SENDING and target.percent != percent:
            target.percent = percent
            self._changed.add(device)

    def on_trial(self, device: str, now_s: float, life: str = "") -> None:
        """Note that a board has all of it and tries it."""
        target = self.targets[device]
        target.percent, target.trial_since_s, target.life = 100, now_s, life
        self._set(target, State.TRIAL)

    def confirmed(self, device: str) -> None:
        """Note that a board keeps it."""
        target = self.targets[device]
        if target.state in {State.WAITING, State.TRIAL}:  # of who is being sent it, it is not true
            self._set(target, State.DONE if target.was_begun else State.UNCHANGED)

    def had_it(self, device: str) -> None:
        """Note that a board ran it already when it was begun."""
        target = self.targets[device]
        # After a crash of the gateway it may be us who sent it.
        self._set(target, State.DONE if target.trial_since_s is not None else State.UNCHANGED)

    def rolled_back(self, device: str, reason: str) -> None:
        """Note that a board took it back: nobody else gets it."""
        target = self.targets[device]
        if target.state is State.TRIAL:
            self._set(target, State.ROLLED_BACK, reason or "it did not say why")
            self._halt(f"{device} rolled back: {target.reason}")

    def refused(self, device: str, reason: str) -> None:
        """Note that a board will not have it; nothing has changed there."""
        self._set(self.targets[device], State.REFUSED, reason)

    def failed(self, device: str, reason: str, now_s: float) -> None:
        """Note that a board did not get on with it; nothing has changed there."""
        target = self.targets[device]
        target.tries += 1
        if target.tries >= MAX_TRIES:
            self._set(target, State.FAILED, f"{reason} ({target.tries} times)")
        else:
            self._again(target, reason, now_s)

    def interrupted(self, device: str, reason: str, now_s: float) -> None:
        """Note that a board left in the middle: it goes on where it was when it is back."""
        self._again(self.targets[device], reason, now_s)

    def aborted(self, device: str, reason: str) -> None:
        """Note that sending was ended because somebody wanted it so."""
        if self.is_halted and not self.is_aborted:
            self._set(self.targets[device], State.HALTED, self.reason)
        else:
            self._set(self.targets[device], State.ABORTED, reason)

    def abort(self, reason: str, device: str | None = None) -> list[str]:
        """Give up, for one board or all; return who is to be told, for it is being sent.

        A board on trial decides by itself.
        """
        if device is None and not self.is_aborted:
            self.is_aborted, self.reason = True, reason
            self.version += 1
        sending = []
        for target in self.targets.values():
            if device not in (None, target.device):
                continue
            if target.state is State.WAITING:
                self._set(target, State.ABORTED, reason)
            elif target.state is State.SENDING:
                sending.append(target.device)
        return sending

    def replaced(self, device: str, reason: str) -> bool:
        """Give up for a board that is none any more; tell whether it is being sent it.

        What is not heard of its trial halts nobody else's.
        """
        target = self.targets[device]
        if target.state in {State.WAITING, State.TRIAL}:
            self._set(target, State.ABORTED, reason)
        return target.state is State.SENDING

    def passes(self, now_s: float) -> None:
        """Note that time passes."""
        for target in self.targets.values():
            since_s = target.trial_since_s
            if target.state is State.TRIAL and since_s is not None and now_s >= since_s + TRIAL_S:
                reason = f"on trial for {TRIAL_S / 60:.0f} minutes, and not heard of"
                self._set(target, State.FAILED, reason)
                self._halt(f"{target.device}: {reason}")

    def sending(self) -> list[str]:
        """Return who is being sent it."""
        return [each.device for each in self.targets.values() if each.state is State.SENDING]

    def _halt(self, reason: str) -> None:
        if self.is_halted or self.is_aborted:
            return
        self.is_halted, self.reason = True, reason
        for target in self.targets.values():
            if target.state is State.WAITING:
                self._set(target, State.HALTED, reason)

    def _again(self, target: Target, reason: str, now_s: float) -> None:
        if self.is_aborted:
            self._set(target, State.ABORTED, self.reason)
        elif self.is_halted:
            self._set(target, State.HALTED, self.reason)
        else:
            target.rests_until_s = now_s + min(PAUSE_S * 2**target.tries, PAUSE_CAP_S)
            self._set(target, State.WAITING, reason)

    def _set(self, target: Target, state: State, reason: str = "") -> None:
        target.state, target.reason = state, reason
        self.version += 1
        self._changed.add(target.device)

    # ---- over restarts ----

    def entry(self) -> dict[str, Any]:
        """Return what is kept of it."""
        return {
            "plan": asdict(self.plan),
            "began_unix_s": self.began_unix_s,
            "reason": self.reason,
            "is_halted": self.is_halted,
            "is_aborted": self.is_aborted,
            "targets": [
                [each.device, each.state.value, each.reason, each.tries, each.was_begun, each.life]
                for each in self.targets.values()
            ],
        }

    @classmethod
    def from_entry(cls, number: int, entry: Mapping[str, Any], now_s: float) -> Self:
        """Return a rollout as it was kept: who was being sent it waits, and goes on where it was.

        Raises:
            ValueError: that is nothing of ours.
        """
        try:
            targets = {}
            for device, word, reason, tries, was_begun, life in entry["targets"]:
                state = State(word)
                target = Target(device, state, reason, tries, was_begun=was_begun, life=life)
                if state is State.SENDING:
                    target.state = State.WAITING
                if state is State.TRIAL:
                    target.percent, target.trial_since_s = 100, now_s
                targets[device] = target
            return cls(
                number,
                Plan(**entry["plan"]),
                targets,
                entry["began_unix_s"],
                entry["reason"],
                is_halted=entry["is_halted"],
                is_aborted=entry["is_aborted"],
                _changed=set(targets),
            )
        except (KeyError, TypeError) as exc:
            raise ValueError(repr(exc)) from exc
