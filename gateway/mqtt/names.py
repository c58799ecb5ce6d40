"""What devices are called in topics; pure.

A device's key is its identity and never changes. Its level is its name in topics: the key, or what
its owner renamed it to.
"""

from gateway.model import MAX_SLUG, RESERVED_DEVICES


class Names:
    """Which level each device has, and which device each level.

    No two devices share a level, and nobody is given a level that is another's key. (A new device
    whose key is a level already has it with a number.)
    """

    def __init__(self) -> None:
        self._levels: dict[str, str] = {}
        self._devices: dict[str, str] = {}

    def __contains__(self, device: str) -> bool:
        return device in self._levels

    def level(self, device: str) -> str:
        """Return the level of a device; one that was never added has its key, if that is free."""
        level = self._levels.get(device)
        return self.free_level(device) if level is None else level

    def device_of(self, level: str) -> str | None:
        """Return the device that has a level."""
        return self._devices.get(level)

    def find(self, name: str) -> str | None:
        """Return the device people mean: the one of that level, else the one of that key."""
        return self._devices.get(name, name if name in self._levels else None)

    def is_free(self, level: str, device: str) -> bool:
        """Tell whether a device could have a level."""
        owner = self._devices.get(level, device)
        is_key_of_another = level in self._levels and level != device
        return owner == device and not is_key_of_another and level not in RESERVED_DEVICES

    def free_level(self, device: str, wanted: str | None = None) -> str:
        """Return the level that is wanted, the key by default, or with a number if it is taken."""
        level = wanted = wanted or device
        number = 1
        while not self.is_free(level, device):
            number += 1
            suffix = f"_{number}"
            level = wanted[: MAX_SLUG - len(suffix)] + suffix
        return level

    def put(self, device: str, level: str) -> None:
        """Give a device a level.

        Raises:
            ValueError: it is another device's, or the gateway's own.
        """
        if not self.is_free(level, device):
            raise ValueError(f"{level!r} is the name of another device, or of the gateway's own")
        self.keep(device, level)

    def keep(self, device: str, level: str) -> bool:
        """Give a device a level that is its own by right: as it was, or as it is configured.

        It may be the key of another device, which is called otherwise then. False if another has it
        already, or the gateway itself.
        """
        if self._devices.get(level, device) != device or level in RESERVED_DEVICES:
            return False
        self._devices.pop(self._levels.get(device, ""), None)
        self._levels[device] = level
        self._devices[level] = device
        return True

    def drop(self, device: str) -> None:
        """Forget a device; harmless if nobody knows it."""
        self._devices.pop(self._levels.pop(device, ""), None)
