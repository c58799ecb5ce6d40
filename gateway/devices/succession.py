"""Hardware changes, and who it is stays: a device takes the place of another."""

import logging
from collections.abc import Container, Iterable, Sequence
from typing import Final, NamedTuple

from gateway.devices.book import DeviceBook
from gateway.devices.device import Device
from gateway.devices.learned import inherited
from gateway.devices.levels import Levels
from gateway.devices.naming import Naming
from gateway.devices.presence import Presence
from gateway.devices.published import Published
from gateway.errors import RequestError
from gateway.log_fields import of_device
from gateway.model import MAX_SLUG
from gateway.status import Status

_log = logging.getLogger(__name__)

MAX_PREDECESSORS: Final = 16
"""Of one device: nothing that waits is older than the last few of them."""


class Replaced(NamedTuple):
    """Who goes on in whose place."""

    old: Device
    """As it was last; it is no device any more."""
    new: Device


class Succession:
    """Who goes on in whose place, and what everybody is known by.

    A key stays its hardware's: samples, the outbox, commands, keys and updates go by it and are
    left alone. What people and Home Assistant go by moves, within one turn of the loop: so one
    change in the state database has all of it, and a crash finds it done or not begun.
    """

    def __init__(  # noqa: PLR0913 - the parts that know of a device
        self,
        *,
        book: DeviceBook,
        levels: Levels,
        published: Published,
        naming: Naming,
        presence: Presence,
        status: Status,
    ) -> None:
        self._book = book
        self._levels = levels
        self._names = levels.names
        self._published = published
        self._naming = naming
        self._presence = presence
        self._status = status
        self._told: set[str] = set()

    def refuse(self, old: Device, new: Device, *, is_declared: bool) -> None:
        """Look whether a device can take another's place.

        Raises:
            RequestError: it cannot; says why.
        """
        if old is new:
            raise RequestError(f"{old.key} is that device already: name the old one, then the new")
        drivers = old.description.driver, new.description.driver
        if drivers[0] != drivers[1]:
            raise RequestError(
                f"{new.key} is of another kind ({drivers[1]}) than {old.key} ({drivers[0]}): its "
                "sensors would not be the same ones"
            )
        if is_declared:
            raise RequestError(
                f'{new.key} is in the configuration: remove its [[device]] (id = "{new.identity}") '
                f'and reload; what is said there of "{old.identity}" is of it then'
            )
        if not old.is_enabled:
            raise RequestError(
                f"{old.key} is disabled by the configuration, and who takes its place would be: "
                "enable it first"
            )
        if old.is_online and not new.is_online:
            raise RequestError(
                f"{new.key} is not there, and {old.key} is: the old one is named first, then the "
                "new one"
            )

    def replace(self, old: Device, new: Device, now_unix_s: float) -> Replaced:
        """Have a device go on in the place of another, of which nothing is left but what waits."""
        _log.info("%s: goes on in the place of %s", of_device(new.key), of_device(old.key))
        level = old.level
        old.is_replaced = True
        for each in (new, old):
            self._published.withdraw(each)
            self._names.drop(each.key)
            self._names.disown(each.key)
        new.given_identity = "" if old.identity == new.key else old.identity
        new.own_name = old.own_name or old.description.name
        new.name = old.name or new.own_name
        new.own_level = old.own_level
        new.options, new.learned = old.options, inherited(old.learned, new.learned)
        new.added_unix_s = old.added_unix_s
        new.is_proven |= old.is_proven
        new.replaced_unix_s = now_unix_s
        before = [each for each in (*old.predecessors, old.key) if each != new.key]
        new.predecessors = tuple(before[-MAX_PREDECESSORS:])
        self._know(new)
        self._names.keep(new.key, level)
        self.forget(old)
        self._book.save(new)
        self._naming.move(new, level)
        self._published.clear_left(old, new)
        return Replaced(old, new)

    def heir(self, key: str) -> Device | None:
        """Return who goes on in the place of a device that is none any more."""
        if key in self._book:
            return None
        return next((each for each in self._book if key in each.predecessors), None)

    def identify(self, key: str) -> str:
        """Return what a new device is known by; one that was replaced takes nothing back."""
        identity = self._names.free_identity(key)
        self._names.identify(key, identity)
        if (heir := self._book.get(self._names.stand_alone(key) or "")) is not None:
            heir.predecessors = tuple(each for each in heir.predecessors if each != key)
            self._book.save(heir)
            _log.info("%s: back, and a new one: %s has its place", of_device(key), heir.key)
        return identity

    def recall(self, devices: Sequence[Device]) -> bool:
        """Take up who was known by what; tell whether anybody was by another than his key."""
        is_any = False
        there = {each.key for each in (*devices, *self._book)}
        for device in devices:
            device.predecessors = tuple(each for each in device.predecessors if each not in there)
            if device.given_identity or device.predecessors:
                self._know(device)
                is_any = True
        return is_any

    def take_up_late(self, kept: Iterable[Device]) -> None:
        """Take up what was kept of devices that came before it was known; after `recall`.

        They were taken for new ones. Who had what is another's makes way first: so nothing of who
        gets it is cleared behind him.
        """
        known = {each.key: each for each in kept}
        late = [each for each in self._book if self._is_news(each, known.get(each.key))]
        for device in late:
            self._names.drop(device.key)
            self._be_again(device, known.get(device.key))
        while late:
            levels = {each.level for each in late}
            wanted = {each.key: self._levels.wanted(each) for each in late}
            free = (each for each in late if wanted[each.key] not in levels - {each.level})
            device = next(free, late[0])
            if wanted[device.key] in levels - {device.level}:  # they wait for each other
                self._make_way(device, levels.union(wanted.values()))
                continue
            late.remove(device)
            self._naming.move(device, self._levels.give(device))
            self._book.save(device)

    def _be_again(self, device: Device, kept: Device | None) -> None:
        """Have a device be who it is, and know what was kept of it."""
        identity = self._names.identity(device.key)
        if identity != device.identity:
            device.is_replaced = bool(self._names.by_key({device.identity: None}))
            if device.is_enabled:
                self._published.withdraw(device)
            device.is_replaced = False
        is_renamed = device.own_level != device.identity
        device.given_identity = "" if identity == device.key else identity
        if not is_renamed:
            device.own_level = identity
        if kept is not None:
            _take_up(device, kept, is_renamed=is_renamed)
        device.name = self._naming.declared(device.key).name or device.own_name

    def _make_way(self, device: Device, not_to: Container[str]) -> None:
        """Bring a device to where nobody is to be, for a moment."""
        level, between = device.level, device.level
        while between in not_to:
            between = self._names.free_level(device.key, f"{between[: MAX_SLUG - 4]}_way")
        device.level = between
        self._published.move(device, level)

    def _is_news(self, device: Device, kept: Device | None) -> bool:
        """Tell whether a device came as something else than what it is; then it is known so."""
        if kept is not None:
            return True
        identity = self._names.free_identity(device.key)
        self._names.identify(device.key, identity)
        return identity != device.identity

    def look_for_mistakes(self, configured: Iterable[str]) -> None:
        """Say once of whom the configuration speaks by a key that he is not known by."""
        for each in configured:
            identity = self._names.identity(each)
            if each not in self._told and not self._names.by_key({each: None}):
                self._told.add(each)
                _log.warning(
                    '%s: [[device]] id = "%s" says nothing: this board is known as %s, id = "%s"',
                    of_device(each),
                    each,
                    identity,
                    identity,
                )

    def forget(self, device: Device) -> None:
        """Forget a device of which nothing is published any more."""
        self._presence.forget(device.key)
        self._names.disown(device.key)
        entry = self._status.devices.get(device.key)
        if entry is not None and not entry.online:
            del self._status.devices[device.key]
        self._book.drop(device)

    def _know(self, device: Device) -> None:
        self._names.identify(device.key, device.identity)
        for each in device.predecessors:
            self._names.inherit(each, device.key)


def _take_up(device: Device, kept: Device, *, is_renamed: bool) -> None:
    """Bring what was kept of a device to what came of it meanwhile."""
    if not is_renamed:
        device.own_name, device.own_level = kept.own_name, kept.own_level
    device.options = {**kept.options, **device.options}
    device.learned = inherited(kept.learned, device.learned)
    device.predecessors, device.replaced_unix_s = kept.predecessors, kept.replaced_unix_s
    device.added_unix_s, device.quiet_s = kept.added_unix_s, kept.quiet_s
    device.is_proven |= kept.is_proven
