"""All devices by key, as they are on the disk."""

from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import Protocol

from gateway.devices.device import Device, entry_of
from gateway.errors import RequestError
from gateway.store import registry
from gateway.store.state_changes import Change


class Writer(Protocol):
    """Who keeps devices on the disk."""

    entry_of: Callable[[str], registry.Entry | None]
    """Set by the book: returns what is to be kept of a device; None for one that is gone."""

    def save(self, key: str) -> None:
        """Keep a device as it will be in a moment, or forget it."""

    async def wait_written(self) -> None:
        """Wait until all is on the disk; raises StoreError if it is not within some seconds."""


class DeviceBook:
    """Who is there; without a writer nothing outlasts the process."""

    def __init__(self, writer: Writer | None) -> None:
        self._devices: dict[str, Device] = {}
        self._writer = writer
        if writer is not None:
            writer.entry_of = self._entry_of

    def __iter__(self) -> Iterator[Device]:
        """Go through those who are there now; they may come and go meanwhile."""
        return iter([*self._devices.values()])

    def __len__(self) -> int:
        return len(self._devices)

    def __contains__(self, key: str) -> bool:
        return key in self._devices

    def get(self, key: str) -> Device | None:
        """Return the device of a key."""
        return self._devices.get(key)

    def known(self, key: str) -> Device:
        """Return the device of a key.

        Raises:
            RequestError: there is none.
        """
        device = self._devices.get(key)
        if device is None:
            raise RequestError(f"there is no device {key!r}")
        return device

    def put(self, device: Device) -> None:
        """Add a device."""
        self._devices[device.key] = device

    def drop(self, device: Device) -> None:
        """Forget a device, on the disk too."""
        del self._devices[device.key]
        self.save(device)

    def save(self, device: Device) -> None:
        """Keep a device as it will be in a moment."""
        if self._writer is not None:
            self._writer.save(device.key)

    async def wait_kept(self) -> None:
        """Wait until all that is known now is on the disk.

        Raises:
            StoreError: it is not within some seconds.
        """
        if self._writer is not None:
            await self._writer.wait_written()

    def everything(self) -> Change:
        """Return the change that writes all devices into an empty table."""
        return registry.put_devices({each.key: partial(entry_of, copy(each)) for each in self})

    def _entry_of(self, key: str) -> registry.Entry | None:
        device = self._devices.get(key)
        return None if device is None else partial(entry_of, copy(device))
