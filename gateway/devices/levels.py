"""What devices are called in topics: who gets a name, who makes way, who gets it back; pure.

A device has a level of its own, its identity or as it was renamed to. The configuration may give it
another, and may give its own to somebody else. Where two want the same, one has a number for as
long as the other is there.
"""

from collections.abc import Iterable, Iterator, Mapping

from gateway.devices.device import Declared, Device
from gateway.errors import RequestError
from gateway.model import MAX_SLUG, RESERVED_DEVICES, slug
from gateway.mqtt.names import Names


class Levels:
    """Who has which level, and who is to have which.

    What is given here is noted in the names at once; that the device and its topics follow is up to
    the caller.
    """

    def __init__(self, names: Names) -> None:
        """Begin with a configuration that names nobody."""
        self.names = names
        self._declared: Mapping[str, Declared] = {}

    def configured(self, key: str) -> str:
        """Return the level the configuration gives a device; empty if it gives none."""
        name = self._declared.get(key, Declared()).name
        return _level_of(name, self.names.identity(key)) if name else ""

    def wanted(self, device: Device) -> str:
        """Return the level a device is to have, if nobody else has it."""
        return self.configured(device.key) or device.own_level

    def give_new(self, key: str) -> str:
        """Give a new device what is reserved for it, else its identity or one like it."""
        level = self.names.level_of_its_own(key)
        self.names.keep(key, level)
        return level

    def give(self, device: Device) -> str:
        """Give a device the level it is to have, or one like it, and return which."""
        level = self.wanted(device)
        if not self.names.keep(device.key, level):
            level = self.names.free_level(device.key, level)
            self.names.keep(device.key, level)
        return level

    def give_named(self, key: str, name: str) -> str:
        """Give a device the level of a name, and return it.

        Raises:
            RequestError: it cannot have it.
        """
        level = _level_of(name, self.names.identity(key))
        if level != slug(name):  # it says nothing of a level
            level = self.names.free_level(key)
        elif level in RESERVED_DEVICES:
            raise RequestError(f"{level!r} is a topic of the gateway's own: choose another name")
        elif not self.names.is_free(level, key):
            owner = self.names.find(level)
            raise RequestError(f"{level!r} is the name of another device, {owner}")
        self.names.keep(key, level)
        return level

    def give_back(self, devices: Iterable[Device]) -> Iterator[tuple[Device, str]]:
        """Give those who made way what they want, where it is free by now; yield who gets what.

        Who gets his own back leaves another, which may be what somebody else waits for.
        """
        waiting = [each for each in devices if self.names.level(each.key) != self.wanted(each)]
        is_any_given = True
        while is_any_given:
            is_any_given = False
            for device in [*waiting]:
                level = self.wanted(device)
                if self.names.keep(device.key, level):
                    waiting.remove(device)
                    is_any_given = True
                    yield device, level

    def take_back(self, key: str) -> None:
        """Forget what a device that is gone was called; the name it is configured stays its own."""
        self.names.drop(key)
        if level := self.configured(key):
            self.names.keep(key, level)

    def reconfigure(
        self, declared: Mapping[str, Declared], devices: Iterable[Device]
    ) -> Iterator[tuple[Device, str]]:
        """Take up another configuration; yield who gets what, those who changed in any case."""
        before, self._declared = self._declared, dict(declared)
        present = {device.key: device for device in devices}
        for key in before.keys() - declared.keys() - present.keys():
            self.names.drop(key)
        made_way = {}
        for device, level in self._make_way(present):
            made_way[device.key] = device
            yield device, level
        changed = {key for key in before.keys() | declared if before.get(key) != declared.get(key)}
        for key in sorted(changed, key=lambda key: (not self.configured(key), key)):
            made_way.pop(key, None)
            if key in present:
                yield present[key], self.give(present[key])
            else:
                self.take_back(key)
        for device in made_way.values():
            yield device, self.give(device)
        yield from self.give_back(present.values())

    def _make_way(self, present: Mapping[str, Device]) -> Iterator[tuple[Device, str]]:
        """Let those who have what the configuration gives to others let go of it.

        So names can be exchanged. Where they go is for a moment only; it is nobody's wish.
        """
        given = {self.configured(key): key for key in self._declared}
        for key, device in present.items():
            if given.get(self.names.level(key), key) == key:
                continue
            level = self.names.free_level(key)
            while level in given:
                level = self.names.free_level(key, f"{level[: MAX_SLUG - 4]}_way")
            self.names.keep(key, level)
            yield device, level
        for key in self._declared.keys() - present:
            if given.get(self.names.level(key), key) != key:
                self.names.drop(key)


def _level_of(name: str, identity: str) -> str:
    """Return the level of a name; a name without a Latin letter or a digit is only shown."""
    level = slug(name)
    return identity if not name or (level == slug("") and name != level) else level
