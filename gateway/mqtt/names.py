"""What devices are called in topics; pure.

A device's key is its hardware's and never changes. Its identity is what it is known by to who
remembers it, in the configuration and elsewhere: the key, or that of the device it has replaced.
Its level is its name in topics: the identity, or what its owner renamed it to.
"""

from collections.abc import Mapping
from typing import TypeVar

from gateway.model import MAX_SLUG, RESERVED_DEVICES

T = TypeVar("T")


class Names:
    """Which level each device has, and which device each level.

    No two devices share a level, and nobody is given a level that is another's key or identity. (A
    new device whose key is a level already has it with a number.)
    """

    def __init__(self) -> None:
        self._levels: dict[str, str] = {}
        self._devices: dict[str, str] = {}
        self._identities: dict[str, str] = {}
        """Of devices that are known as something else than their key."""
        self._known_as: dict[str, str] = {}
        """The same, the other way round."""
        self._heirs: dict[str, str] = {}
        """Who goes on in the place of a device that is none any more."""

    def __contains__(self, device: str) -> bool:
        return device in self._levels

    def level(self, device: str) -> str:
        """Return the level of a device; one that was replaced has that of who goes on in its place.

        One that was never added has its key, if that is free.
        """
        level = self._levels.get(device) or self._levels.get(self._heirs.get(device, ""))
        return self.free_level(device) if level is None else level

    def level_of_its_own(self, device: str) -> str:
        """Return the level of a device; one that is new has its identity, if that is free."""
        return self._levels.get(device) or self.free_level(device)

    def device_of(self, level: str) -> str | None:
        """Return the device that has a level."""
        return self._devices.get(level)

    def find(self, name: str) -> str | None:
        """Return the device people mean: the one of that level, else of that key, else known so."""
        known = name if name in self._levels else self._known_as.get(name)
        return self._devices.get(name, known)

    def is_free(self, level: str, device: str) -> bool:
        """Tell whether a device could have a level."""
        owner = self._devices.get(level, device)
        is_its_own = level in {device, self.identity(device)}
        is_key_of_another = level in self._levels and not is_its_own
        is_another_known_so = self._known_as.get(level, device) != device
        is_anothers = owner != device or is_key_of_another or is_another_known_so
        return not is_anothers and level not in RESERVED_DEVICES

    def free_level(self, device: str, wanted: str | None = None) -> str:
        """Return the level that is wanted, or with a number if it is taken; else the identity."""
        level = wanted = wanted or self.identity(device)
        number = 1
        while not self.is_free(level, device):
            number += 1
            level = _numbered(wanted, number)
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

    # ---- who goes on as whom ----

    def identity(self, device: str) -> str:
        """Return what a device is known by."""
        return self._identities.get(device, device)

    def free_identity(self, device: str) -> str:
        """Return what a new device can be known by: its key, or with a number if another is."""
        identity, number = device, 1
        while self._is_another_known_as(identity, device):
            number += 1
            identity = _numbered(device, number)
        return identity

    def identify(self, device: str, identity: str) -> None:
        """Have a device known by something; nobody else may be."""
        self._known_as.pop(self._identities.pop(device, ""), None)
        if identity != device:
            self._identities[device] = identity
            self._known_as[identity] = device

    def inherit(self, device: str, heir: str) -> None:
        """Note who goes on in the place of a device, for as long as that is none itself."""
        self._heirs[device] = heir

    def stand_alone(self, device: str) -> str | None:
        """Note that a device that was replaced is there again; return who went on in its place."""
        return self._heirs.pop(device, None)

    def is_replaced(self, device: str) -> bool:
        """Tell whether another goes on in the place of a device, which is none itself now."""
        return device not in self._levels and self._heirs.get(device) in self._levels

    def disown(self, device: str) -> None:
        """Forget as whom a device went on, and in whose place."""
        self.identify(device, device)
        self._heirs = {each: heir for each, heir in self._heirs.items() if heir != device}

    def by_key(self, said: Mapping[str, T]) -> dict[str, T]:
        """Return by the keys of devices what is said by what they are known by."""
        return {
            self._known_as.get(identity, identity): each
            for identity, each in said.items()
            if identity in self._known_as or identity not in self._identities
        }

    def _is_another_known_as(self, identity: str, device: str) -> bool:
        other = self._known_as.get(identity)
        if other is None and identity in self._levels and identity not in self._identities:
            other = identity
        return other not in {None, device}


def _numbered(name: str, number: int) -> str:
    suffix = f"_{number}"
    return name[: MAX_SLUG - len(suffix)] + suffix
