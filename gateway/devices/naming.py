"""Names of devices, by request and by configuration: all that a device has moves with its name."""

import logging
from collections.abc import Mapping

from gateway.devices.book import DeviceBook
from gateway.devices.device import Declared, Device
from gateway.devices.levels import Levels
from gateway.devices.published import Published, info
from gateway.errors import RequestError
from gateway.log_fields import of_device
from gateway.status import Status

_log = logging.getLogger(__name__)


class Naming:
    """What the configuration says of devices, and what their owner calls them."""

    def __init__(
        self, book: DeviceBook, levels: Levels, published: Published, status: Status
    ) -> None:
        """Begin with a configuration that says nothing."""
        self.disabled: set[str] = set()
        """Keys of devices of which nothing is to be published."""
        self._book = book
        self._levels = levels
        self._published = published
        self._status = status
        self._declared: dict[str, Declared] = {}

    def is_declared(self, key: str) -> bool:
        """Tell whether the configuration knows a device."""
        return key in self._declared

    def declared(self, key: str) -> Declared:
        """Return what the configuration says of a device."""
        return self._declared.get(key, Declared())

    def rename(self, device: Device, name: str) -> None:
        """Give a device another name; its level becomes the slug of it. An empty one takes it back.

        Raises:
            RequestError: it is named in the configuration, or the name is another's.
        """
        key = device.key
        if self.declared(key).name:
            raise RequestError(f"{key} is named in the configuration, [[device]]: change it there")
        name = " ".join(name.split())
        level = self._levels.give_named(key, name)
        device.name = device.own_name = name
        device.own_level = level
        self.move(device, level)
        self._book.save(device)
        self.give_back()

    def reconfigure(self, declared: Mapping[str, Declared]) -> None:
        """Take up another configuration, by keys."""
        before, self._declared = self._declared, dict(declared)
        self.disabled.clear()
        self.disabled.update(key for key, each in declared.items() if not each.is_enabled)
        changed = [each for each in self._book if before.get(each.key) != declared.get(each.key)]
        self.disabled.update(
            each  # what waits of it would be published in the other's place
            for device in self._book
            if device.key in self.disabled
            for each in device.predecessors
        )
        for device in changed:
            device.name = self.declared(device.key).name or device.own_name
            if device.is_enabled and device.key in self.disabled:
                self._published.take_down(device)
                device.is_enabled = False
        for device, level in self._levels.reconfigure(declared, self._book):
            self.move(device, level)
        for device in changed:
            if not device.is_enabled and device.key not in self.disabled:
                device.is_enabled = True
                self.move(device, device.level)

    def give_back(self) -> None:
        """Give those who made way their names again, where these are free by now."""
        for device, level in self._levels.give_back(self._book):
            self.move(device, level)

    def move(self, device: Device, level: str) -> None:
        """Bring all there is of a device to the level it was given, and tell who it is."""
        old = device.level
        if level != old:
            _log.info(
                "%s: called %s in topics from now on, no longer %s",
                of_device(device.key),
                level,
                old,
            )
            device.level = level
            self._published.move(device, old)
            self._book.save(device)
        device.documents["info"] = info(device)
        self._status.device(device.key).name = device.title
        self._published.put_up(device)
        self._published.tell(device)
