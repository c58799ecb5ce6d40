"""Which board is at which address, as it said when it joined last; no I/O."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from gateway.log_fields import of_device, on_link

_log = logging.getLogger(__name__)

MAX_REMEMBERED: Final = 1000
"""Boards that are remembered; the one that has not joined for longest makes room."""


class Acquaintances:
    """Boards that have joined, in this run or an earlier one: strangers stand behind them."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is told when there is something new to keep."""
        self._devices: dict[str, str] = {}
        self._told: set[str] = set()
        """Devices of which it was said that they are elsewhere."""
        self._on_change = on_change

    @property
    def devices(self) -> dict[str, str]:
        """The device at each address: what is to be kept."""
        return dict(self._devices)

    def recall(self, devices: Mapping[str, str]) -> None:
        """Take up who joined in an earlier run; what was learnt since then stands."""
        self._devices = {**devices, **self._devices}
        self._make_room()

    def device_at(self, address: str) -> str:
        """Return the device that joined from there last; empty if none ever did."""
        return self._devices.get(address, "")

    def note(self, address: str, device: str) -> None:
        """Note that a device joined from there; that it was elsewhere before is warned of once."""
        if self._devices.get(address) == device:
            self._devices[address] = self._devices.pop(address)  # it is the last to make room
            return
        before = next((each for each, its in self._devices.items() if its == device), "")
        if before and device not in self._told:
            self._told.add(device)
            _log.warning(
                "%s: joins from %s, and was at %s: another radio, or somebody who says its id",
                *(of_device(device), on_link(address), on_link(before)),
            )
        self._devices.pop(address, None)
        self._devices[address] = device
        self._make_room()
        self._on_change()

    def forget(self, address: str) -> bool:
        """Let whoever is there be a stranger again; say whether it was none."""
        if self._devices.pop(address, None) is None:
            return False
        self._on_change()
        return True

    def _make_room(self) -> None:
        while len(self._devices) > MAX_REMEMBERED:
            self._told.discard(self._devices.pop(next(iter(self._devices))))
