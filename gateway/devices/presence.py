"""Who is there: until when devices that are away are taken to be there, and what is said of it."""

import logging
from typing import Final

from gateway.clock import Clock
from gateway.devices.device import Device
from gateway.devices.published import Published
from gateway.log_fields import of_device
from gateway.model import Gone
from gateway.mqtt import payloads
from gateway.status import Status

_log = logging.getLogger(__name__)

GRACE_S: Final = 60.0
"""A device that was known before the start is given so long until it is called offline."""

MISSED_WAKES: Final = 3
"""A board that sleeps is there until it has missed so many wakes in a row."""
LEAST_SLEEP_S: Final = 30.0
MOST_SLEEP_S: Final = 3 * 86_400.0
"""It is given at least so long, and at most, whatever it says."""


class Presence:
    """Which devices are there."""

    def __init__(self, published: Published, status: Status, clock: Clock) -> None:
        self._published = published
        self._status = status
        self._clock = clock
        self._due: dict[str, tuple[Device, float]] = {}
        """Who is away, and the monotonic time until which it is taken to be there."""

    def expect(self, device: Device) -> None:
        """Wait for a device that was known before the start."""
        self._due[device.key] = device, self._clock.monotonic_s() + max(GRACE_S, device.quiet_s)

    def heard(self, device: Device) -> None:
        """Note a sign of life: called for each reading, so it is quick."""
        if device.is_online is not True or device.key in self._due:
            self.settle(device, is_online=True)

    def left(self, device: Device, gone: Gone) -> bool:
        """Note that a device left, or sleeps; tell whether it sleeps otherwise than it used to."""
        if device.is_online and gone.back_in_s:
            stays_s = min(max(MISSED_WAKES * gone.back_in_s, LEAST_SLEEP_S), MOST_SLEEP_S)
            self._due[device.key] = device, self._clock.monotonic_s() + stays_s
            _log.debug("%s: away for %.0f s", of_device(device.key, device.link), gone.back_in_s)
            if device.quiet_s / 2 < stays_s < device.quiet_s * 2:
                return False
            device.quiet_s = stays_s
            return True
        if device.is_online:
            _log.info("%s: gone (%s)", of_device(device.key, device.link), gone.reason)
        self.settle(device, is_online=False)
        return False

    def look_around(self) -> None:
        """Note who did not come back."""
        now_s = self._clock.monotonic_s()
        for device, until_s in [*self._due.values()]:
            if until_s <= now_s:
                why = "not heard since the start"
                if device.is_online:
                    why = f"did not wake {MISSED_WAKES} times"
                _log.info("%s: gone (%s)", of_device(device.key, device.link), why)
                self.settle(device, is_online=False)

    def settle(self, device: Device, *, is_online: bool) -> None:
        """Say that a device is there, or is not."""
        self._due.pop(device.key, None)
        if device.is_online is not is_online:
            device.is_online = is_online
            payload = payloads.availability(is_online)
            self._published.retain(device, "availability", payload)
        if device.is_enabled:
            self._status.device(device.key).online = is_online

    def forget(self, key: str) -> None:
        """Wait no more for a device that is none any more."""
        self._due.pop(key, None)
