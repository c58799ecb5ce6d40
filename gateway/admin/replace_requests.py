"""Hardware is swapped, and who it is stays: a new board goes on in the place of an old one."""

from collections.abc import Callable
from typing import Any, Protocol

from gateway.admin.board_requests import BOARD_S
from gateway.admin.device_requests import is_kept
from gateway.admin.intervals import Intervals, kept, sleeps
from gateway.devices.device import Device
from gateway.devices.registry import Devices
from gateway.protocol.session_events import Outcome
from gateway.requests.admin import ReplaceRequest
from gateway.updates.service import Updates


class Waiting(Protocol):
    """The commands that wait for boards."""

    def replaced(self, device: str, by: str) -> int:
        """End those for a board in whose place another goes on; return how many."""


class ReplaceRequests:
    """Has a device replaced, and all that goes by its hardware follow."""

    def __init__(
        self,
        find: Callable[[str], Device],
        devices: Devices,
        commands: Waiting,
        updates: Updates,
        intervals: Intervals,
    ) -> None:
        """`find` returns the device that is meant, or raises a RequestError."""
        self._find = find
        self._devices = devices
        self._commands = commands
        self._updates = updates
        self._intervals = intervals

    async def replace(self, request: ReplaceRequest) -> dict[str, Any]:
        """Have a board go on in the place of another; say what it has taken over.

        What waits for the old one ends in the same turn of the loop. If the gateway is killed
        before that is on the disk, it does so at its next start.
        """
        old, new = self._devices.replace(self._find(request.device).key, self._find(request.by).key)
        commands = self._commands.replaced(old.key, new.key)
        rollouts = self._updates.replaced(old.key, new.key)
        is_on_disk = await is_kept(self._devices)
        return {
            "device": new.key,
            "replaced": old.key,
            "identity": new.identity,
            "level": new.level,
            "name": new.title,
            "driver": new.description.driver,
            **_compared(old, new),
            **await self._bring_intervals(new),
            "commands_ended": commands,
            "rollouts_ended": rollouts,
            "kept": is_on_disk,
        }

    async def _bring_intervals(self, device: Device) -> dict[str, Any]:
        intervals = kept(device)
        if not intervals:
            return {"interval_ms": {}, "applied": True}
        end = await self._intervals.bring(device, BOARD_S)
        is_applied = end is not None and end.outcome is Outcome.DONE
        reason = "it is told when it comes the next time"
        if sleeps(device):
            reason = "it sleeps, and measures when it wakes: its own `sleep` says how often"
        elif end is not None and end.outcome is Outcome.FAILED:
            reason = f"{end.error}; it is told again each time it has restarted"
        told = {} if is_applied else {"reason": reason}
        return {"interval_ms": intervals, "applied": is_applied, **told}


def _compared(old: Device, new: Device) -> dict[str, list[str]]:
    """Return what both have, by the keys of sensors and actuators, and what one of them has."""
    had, has = _parts(old), _parts(new)
    return {
        "goes_on": [each for each in has if each in had],
        "missing": [each for each in had if each not in has],
        "new": [each for each in has if each not in had],
    }


def _parts(device: Device) -> list[str]:
    said = device.description
    sensors = (sensor.key for sensor in said.sensors)
    return [*dict.fromkeys([*sensors, *(actuator.key for actuator in said.actuators)])]
