"""What is retained of devices: put up, moved and taken down as a whole."""

from collections.abc import Iterable
from typing import Protocol

from gateway.devices.device import Device, Listener
from gateway.model import Actuator
from gateway.mqtt import payloads, topics


class Shelf(Protocol):
    """Where what is retained is put: the publisher."""

    def retain(self, subtopic: str, payload: bytes | None) -> None:
        """Publish the newest document of a topic; None removes what is there."""

    def claim(self, subtopic: str) -> None:
        """Let something be retained on a topic that is no document."""

    def move_state(self, subtopic: str, to_subtopic: str) -> None:
        """Have the newest state of a device that was renamed under its new name."""

    def load_retained(self, topics_noted: Iterable[str]) -> None:
        """Clear what an earlier run retained and nobody retains or claims now."""

    def noted_topics(self) -> Iterable[str]:
        """Return all topics on which something may be retained."""


class Published:
    """All that is retained of a device goes through here.

    So a rename moves all of it, and a removal leaves nothing. Of a device that is disabled nothing
    is put up, and nobody is told.
    """

    def __init__(self, shelf: Shelf) -> None:
        """Put what is retained on a shelf."""
        self.shelf = shelf
        self._listeners: list[Listener] = []

    def add_listener(self, listener: Listener) -> None:
        """Have a listener told of each change."""
        self._listeners.append(listener)

    def retain(self, device: Device, suffix: str, payload: bytes | None) -> None:
        """Publish the newest document on `<level>/<suffix>`; None removes it."""
        if payload is None:
            device.documents.pop(suffix, None)
        else:
            device.documents[suffix] = payload
        if device.is_enabled:
            self.shelf.retain(f"{device.level}/{suffix}", payload)

    def describe(self, device: Device) -> None:
        """Retain what a device is now, and nothing of what it was."""
        states = {state_of(each): each.state for each in device.description.actuators}
        for suffix in [each for each in device.documents if each.endswith("/state")]:
            if suffix not in states:
                self.retain(device, suffix, None)
        self.retain(device, "info", info(device))
        for suffix, state in states.items():
            payload = payloads.actuator_state(state)
            if payload is not None or suffix in device.documents:
                self.retain(device, suffix, payload)

    def retain_state(self, device: Device, actuator: Actuator) -> None:
        """Retain the state of an actuator."""
        self.retain(device, state_of(actuator), payloads.actuator_state(actuator.state))

    def take_up(self, device: Device, last_level: str) -> None:
        """Note what an earlier run left of a device, and put up what is known of it."""
        if device.level == last_level:
            device.documents["availability"] = None
            device.documents["diagnostics"] = None  # said again within seconds, and not before
            for actuator in device.description.actuators:
                device.documents[state_of(actuator)] = None
            if device.description.slot:
                device.documents[topics.UPDATE] = None
        else:  # what is there now was said of somebody else
            self.shelf.retain(topics.state(device.level), None)
        device.documents["info"] = info(device)

    def put_up(self, device: Device) -> None:
        """Retain all there is of a device."""
        if not device.is_enabled:
            return
        for suffix, payload in device.documents.items():
            topic = f"{device.level}/{suffix}"
            if payload is None:
                self.shelf.claim(topic)
            else:
                self.shelf.retain(topic, payload)
        self.shelf.claim(topics.state(device.level))  # last: who it is comes before what it reads

    def move(self, device: Device, old_level: str) -> None:
        """Take all there is of a device from its old level to the one it has now."""
        if not device.is_enabled:
            return
        self.shelf.move_state(topics.state(old_level), topics.state(device.level))
        for suffix in device.documents:
            self.shelf.retain(f"{old_level}/{suffix}", None)
        # What an earlier run left under the old name is not known here.
        device.documents = {
            suffix: payload
            for suffix, payload in device.documents.items()
            if payload is not None or suffix == "availability"
        }

    def withdraw(self, device: Device) -> None:
        """Tell the listeners that a device is not what it was; what is retained stays."""
        for listener in self._listeners:
            listener.device_removed(device)

    def clear_left(self, replaced: Device, device: Device) -> None:
        """Remove what there was of a device that was replaced, and is not of who has its place."""
        for suffix in replaced.documents:
            if suffix not in device.documents:
                self.shelf.retain(f"{device.level}/{suffix}", None)

    def take_down(self, device: Device) -> None:
        """Remove all there is of a device."""
        self.withdraw(device)
        self.shelf.retain(topics.state(device.level), None)
        for suffix in device.documents:
            self.shelf.retain(f"{device.level}/{suffix}", None)

    def tell(self, device: Device) -> None:
        """Tell the listeners what a device is now."""
        if device.is_enabled:
            for listener in self._listeners:
                listener.device_changed(device)


def state_of(actuator: Actuator) -> str:
    """Return the topic of an actuator's state, below the level of its device."""
    return topics.actuator_state("", actuator.key)[1:]


def info(device: Device) -> bytes:
    """Return what a device says of itself, as it is published."""
    is_current = device.heard_s > 0.0
    return payloads.info(
        device.description,
        name=device.name,
        identity=device.given_identity,
        is_current=is_current,
    )
