"""What is published of updates: how each board stands, and the newest rollout."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.devices.device import Device
from gateway.drivers.board import DRIVER
from gateway.mqtt import topics
from gateway.updates import documents
from gateway.updates.case import Cases
from gateway.updates.rollout import ACTIVE, State

PROGRESS_S: Final = 1.0
"""What only got on is published so often at most."""


class Registry(Protocol):
    """Who is known, and what is retained of them."""

    def get(self, key: str) -> Device | None:
        """Return the device of a key."""

    def heir(self, key: str) -> Device | None:
        """Return who goes on in the place of a device that is none any more."""

    def __iter__(self) -> Iterator[Device]:
        """Go through all."""

    def retain(self, key: str, suffix: str, payload: bytes | None) -> None:
        """Publish the newest document of a device; None removes it."""


class Outlet(Protocol):
    """Where the gateway's own documents are published."""

    def retain(self, subtopic: str, payload: bytes | None) -> None:
        """Publish the newest document of a topic; None removes it."""


@dataclass(slots=True)
class _Told:
    """What was published of a board."""

    payload: bytes
    state: State | None
    at_s: float


class News:
    """Publishes what is new: a change of state at once, what only got on once a second."""

    def __init__(self, devices: Registry, outlet: Outlet, cases: Cases) -> None:
        self.offered = ""
        """Version of the firmware that boards could have; empty while it is not known."""
        self._devices = devices
        self._outlet = outlet
        self._cases = cases
        self._told: dict[str, _Told] = {}
        self._stale: set[str] = set()

    def note(self, boards: Iterable[str]) -> None:
        """Have boards looked at by the next `publish`."""
        self._stale.update(boards)

    def awaits(self, board: str) -> bool:
        """Whether a board will be looked at anyway."""
        return board in self._stale

    def forget(self, board: str) -> None:
        """Note that nothing of a board is published any more."""
        self._told.pop(board, None)
        self._stale.discard(board)

    def rollout(self) -> None:
        """Publish how the newest rollout stands."""
        if (newest := self._cases.newest) is not None:
            self._outlet.retain(topics.ROLLOUT, documents.rollout(newest))

    def publish(self, now_s: float) -> None:
        """Publish what is due."""
        for key in sorted(self._stale):
            device = self._devices.get(key)
            if device is not None and is_updatable(device):
                self._look_at(device, now_s)
                continue
            self.forget(key)
            if device is not None and topics.UPDATE in device.documents:
                self._devices.retain(key, topics.UPDATE, None)

    def deadline_s(self) -> float:
        """Return when the next is due; infinity for never."""
        due = [self._told[key].at_s + PROGRESS_S for key in self._stale if key in self._told]
        return min(due, default=float("inf"))

    def _look_at(self, device: Device, now_s: float) -> None:
        key = device.key
        rollout = self._cases.latest(key)
        target = None if rollout is None else rollout.targets[key]
        state = None if target is None else target.state
        told = self._told.get(key)
        if told is not None and told.state is state and now_s < told.at_s + PROGRESS_S:
            return
        self._stale.discard(key)
        latest = self.offered
        if rollout is not None and state in ACTIVE and rollout.plan.version:
            latest = rollout.plan.version
        payload = documents.board(device.description.firmware, latest, rollout, target)
        if told is None or told.payload != payload:
            self._devices.retain(key, topics.UPDATE, payload)
        self._told[key] = _Told(payload, state, now_s)


def is_updatable(device: Device) -> bool:
    """Whether an update of a device could be taken back, so that it may have one."""
    return device.description.driver == DRIVER and bool(device.description.slot)
