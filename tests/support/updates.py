"""What the service of updates stands between: a road to boards, a disk, and others that listen."""

import json
from collections.abc import Callable
from typing import Any

from gateway.bundle.bundle import Bundle
from gateway.clock import Clock
from gateway.devices.registry import Devices
from gateway.errors import StoreError
from gateway.model import Description, UpdateStated
from gateway.mqtt.names import Names
from gateway.protocol.update import (
    Update,
    UpdateEnded,
    UpdateEvent,
    UpdateOutcome,
    UpdatePhase,
    UpdateProgress,
)
from gateway.status import Status
from gateway.store import rollouts
from gateway.store.state_changes import Change
from gateway.timekeeper import TimeKeeper
from gateway.updates.service import Updates
from tests.support.shelf import Shelf

MODULE = b"M\x06\x00\x1f" + bytes(96)
"""As much of a compiled module as anybody here looks at."""


def firmware(version: str = "0.2.0") -> Bundle:
    """Return firmware of that version."""
    return Bundle.firmware(version, {"board/app.mpy": MODULE + version.encode()})


class Road:
    """The links; `end` and `progress` are what a board would cause."""

    def __init__(self) -> None:
        self.absent: set[str] = set()
        """Boards that left a moment ago."""
        self.sending: dict[str, Update] = {}
        self.aborted: list[str] = []
        self._on_event: dict[str, Callable[[UpdateEvent], None]] = {}

    def update(
        self, link: str, device: str, update: Update, on_event: Callable[[UpdateEvent], None]
    ) -> bool:
        """Note that a board is sent something."""
        assert device not in self.sending
        if device in self.absent:
            return False
        assert link == f"port of {device}"
        self.sending[device] = update
        self._on_event[device] = on_event
        return True

    def abort_update(self, link: str, device: str, why: str) -> None:
        """End it at once, if it is known where."""
        if link and device in self.sending:
            assert link == f"port of {device}"
            self.aborted.append(device)
            self.end(device, UpdateOutcome.ABORTED, why)

    def progress(self, device: str, done_bytes: int, total_bytes: int) -> None:
        """Have a board get on."""
        phase = UpdatePhase.SENDING
        self._on_event[device](UpdateProgress(device, phase, done_bytes, total_bytes))

    def end(self, device: str, outcome: UpdateOutcome, detail: str = "") -> None:
        """Have the conversation end."""
        del self.sending[device]
        self._on_event.pop(device)(UpdateEnded(device, outcome, detail))


class Disk:
    """Keeps rollouts as the state database would."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[str, bytes | None]] = {}
        self.writes = 0
        self.is_slow = False
        self.error: StoreError | None = None
        """Why it takes nothing."""
        self._slow: list[Callable[[StoreError | None], None]] = []

    def settle(self) -> None:
        """Have done what was slow."""
        for on_done in self._slow:
            on_done(None)

    def submit(
        self,
        change: Change,
        on_done: Callable[[StoreError | None], None] | None = None,
        patience_s: float | None = None,
    ) -> None:
        """Do it at once; say so at once, or with `settle` if it is slow."""
        if self.error is not None:
            assert (patience_s is None) == (on_done is None), "nobody waits for ever"
            if on_done is not None:
                on_done(self.error)
            return
        if on_done is not None and self.is_slow:
            self._slow.append(on_done)
        elif on_done is not None:
            on_done(None)
        self.writes += 1
        for sql, rows in change:
            for row in rows:
                match sql.split()[0], tuple(row):
                    case "INSERT", (int(number), str(entry), bundle):
                        assert isinstance(bundle, bytes | None)
                        self.rows[number] = entry, bundle
                    case "UPDATE", (str(entry), is_over, int(number)):
                        self.rows[number] = entry, None if is_over else self.rows[number][1]
                    case "DELETE", (int(number),):
                        del self.rows[number]

    def load(self) -> list[rollouts.Entry]:
        """Return what is kept."""
        rows = [(number, *row) for number, row in sorted(self.rows.items())]
        return rollouts.load(lambda _query: rows)


class Others:
    """Nobody else wants to know of boards."""

    def ready(self, link: str, device: str, life: str) -> None:
        """Do nothing."""

    def left(self, link: str, device: str) -> None:
        """Do nothing."""


class Site:
    """One run of the gateway with boards; `restart` begins the next on the same disk."""

    def __init__(self, disk: Disk | None = None, own: Bundle | None = None) -> None:
        self.now_s = 1000.0
        self.disk = disk or Disk()
        self.own = own or firmware()
        self.restart()

    def restart(self) -> None:
        self.shelf, self.road = Shelf(), Road()
        timekeeper = TimeKeeper(Clock(lambda: self.now_s, lambda: 2e9, "boot", lambda: True))
        self.devices = Devices(self.shelf, Names(), Status(), timekeeper)
        self.updates = Updates(
            devices=self.devices,
            outlet=self.shelf,
            journal=self.disk,
            road=lambda: self.road,
            timekeeper=timekeeper,
            others=Others(),
            own=lambda: self.own,
        )
        self.devices.add_listener(self.updates)
        self.updates.take(self.disk.load())

    def board(self, key: str, life: str = "1", **said: Any) -> None:  # noqa: ANN401 - any field
        """Have a board come, or say something else of itself."""
        given = {"slot": "a", "firmware": "0.1.0", "manifest_hash": "of 0.1.0", **said}
        link = f"port of {key}"
        self.devices.seen(link, Description(key, key, "board", **given))
        self.updates.ready(link, key, life)

    def leaves(self, key: str) -> None:
        """Have a board go."""
        self.updates.left(f"port of {key}", key)
        if key in self.road.sending:
            self.road.end(key, UpdateOutcome.INTERRUPTED, "unplugged")

    def tries(self, key: str, bundle: Bundle, life: str = "2") -> None:
        """Have a board take what it was sent, and start with it."""
        self.road.end(key, UpdateOutcome.ON_TRIAL)
        self.leaves(key)
        new = {"slot": "b", "firmware": bundle.version, "manifest_hash": bundle.short_hash}
        self.board(key, life, is_on_trial=True, **new)

    def says(self, key: str, state: str, bundle: Bundle, reason: str = "") -> None:
        """Have a board say what became of an update."""
        self.updates.stated(UpdateStated(key, state, bundle.short_hash, reason))

    def work(self, seconds: float = 0.0) -> None:
        """Let time pass, and do what is due."""
        self.now_s += seconds
        self.updates.work()

    def states(self) -> dict[str, str]:
        """Return how each board stands in the newest rollout."""
        targets = self.updates.rollouts[0].targets
        return {key: target.state.value for key, target in targets.items()}

    def told(self, key: str) -> Any:  # noqa: ANN401 - JSON
        """Return what is published of a board."""
        return json.loads(self.shelf.retained[f"{key}/update"])

    @property
    def rollout(self) -> Any:  # noqa: ANN401 - JSON
        """What is published of the newest rollout."""
        return json.loads(self.shelf.retained["rollout"])
