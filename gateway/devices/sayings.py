"""What devices say of themselves, and what is made of it to be published."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.devices.device import Device, with_awaited
from gateway.devices.published import Published
from gateway.model import Actuator, Description

AWAITED_S: Final = 3_600.0
"""So long sensors that were known before the start may take to show up again, of devices that do
not say which sensors they have; then they are gone."""

SELF_DESCRIBING: Final = frozenset({"board"})
"""Drivers of devices that say which sensors they have; with others they show by and by."""


class Sayings:
    """Keeps what is published of devices in step with what they say."""

    def __init__(
        self, published: Published, describe: Callable[[Description], Description]
    ) -> None:
        """Have `describe` make of what a device says what is published of it."""
        self._published = published
        self.describe = describe

    def remember(self, device: Device) -> None:
        """Take up what a device said before the start."""
        if device.said.driver not in SELF_DESCRIBING:
            device.awaited = {sensor.key for sensor in device.said.sensors}
        device.description = self.describe(device.said)

    def take(self, device: Device, said: Description) -> None:
        """Take what a device says now."""
        if said.driver in SELF_DESCRIBING or device.said.driver != said.driver:
            device.awaited.clear()
        device.said = with_awaited(said, device)
        device.description = self.describe(device.said)
        device.is_proven |= bool(said.actuators)

    def actuator_changed(self, device: Device, actuator: Actuator) -> None:
        """Take the state an actuator reported, and retain it."""
        actuators = tuple(
            actuator if each.key == actuator.key else each for each in device.said.actuators
        )
        device.said = replace(device.said, actuators=actuators)
        device.description = self.describe(device.said)
        self._published.retain_state(device, actuator)

    def await_no_more(self, device: Device) -> None:
        """Take it that sensors which did not show up again are gone."""
        sensors = tuple(each for each in device.said.sensors if each.key not in device.awaited)
        device.awaited.clear()
        device.said = replace(device.said, sensors=sensors)
        self.again(device)

    def again(self, device: Device) -> None:
        """Publish what is to be published of a device by now, if that is something else."""
        description = self.describe(device.said)
        if description != device.description:
            device.description = description
            self._published.describe(device)
            self._published.tell(device)
