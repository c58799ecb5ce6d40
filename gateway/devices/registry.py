"""All devices by key, joined with their names, their topics and who is there."""

import logging
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Final, TypeVar

from gateway.devices.book import DeviceBook, Writer
from gateway.devices.device import Declared, Device, Listener, devices_of
from gateway.devices.levels import Levels
from gateway.devices.naming import Naming
from gateway.devices.newcomers import Newcomers, dispensable
from gateway.devices.presence import Presence
from gateway.devices.published import Published, Shelf
from gateway.devices.sayings import AWAITED_S, Sayings
from gateway.devices.succession import Replaced, Succession
from gateway.log_fields import of_device, on_link
from gateway.model import Actuator, Description, Gone, slug
from gateway.mqtt.names import Names
from gateway.status import MAX_DEVICES, Status
from gateway.store import registry
from gateway.store.described import lasting
from gateway.store.registry import Registered
from gateway.store.state_changes import Change
from gateway.timekeeper import TimeKeeper

_log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_S: Final = 5.0
"""How often `look_around` is to be called."""

FORGOTTEN_S: Final = 86_400.0
"""After so long without a word a device is forgotten of which there never was a sample."""


class Devices:
    """All devices, by key; synchronous, called in the loop's thread.

    Whatever is retained of a device is retained through here, so that a rename moves all of it and
    a removal leaves nothing.
    """

    def __init__(  # noqa: PLR0913 - the parts it joins
        self,
        shelf: Shelf,
        names: Names,
        status: Status,
        timekeeper: TimeKeeper,
        *,
        writer: Writer | None = None,
        declared: Mapping[str, Declared] | None = None,
        describe: Callable[[Description], Description] = lambda said: said,
    ) -> None:
        """Make an empty registry.

        Without `writer` nothing outlasts the process. `describe` makes of what a device says what
        is published of it.
        """
        self._book = DeviceBook(writer)
        self._levels = Levels(names)
        self._published = Published(shelf)
        self._naming = Naming(self._book, self._levels, self._published, status)
        self.disabled: Container[str] = self._naming.disabled
        """Keys of devices of which nothing is to be published."""
        self._status = status
        self._timekeeper = timekeeper
        self._clock = timekeeper.clock
        self._sayings = Sayings(self._published, describe)
        self._presence = Presence(self._published, status, self._clock)
        self._began_s = self._clock.monotonic_s()
        self._newcomers = Newcomers(self._began_s)
        self._succession = Succession(
            book=self._book,
            levels=self._levels,
            published=self._published,
            naming=self._naming,
            presence=self._presence,
            status=status,
        )
        self.on_succession: Callable[[], None] = _ignore
        """Called when what people say of a device by what it is known by is of another key."""
        self._configured: Mapping[str, Declared] = {}
        self.reconfigure(declared or {})

    def __iter__(self) -> Iterator[Device]:
        return iter(self._book)

    def __len__(self) -> int:
        return len(self._book)

    def get(self, key: str) -> Device | None:
        """Return the device of a key."""
        return self._book.get(key)

    def level(self, key: str) -> str:
        """Return what a device is called in topics."""
        return self._levels.names.level(key)

    def find(self, name: str) -> Device | None:
        """Return the device people mean: by its level, else by its key."""
        return self._book.get(self._levels.names.find(name) or "")

    def by_key(self, said: Mapping[str, T]) -> dict[str, T]:
        """Return by the keys of devices what is said of them by what they are known by."""
        return self._levels.names.by_key(said)

    def heir(self, key: str) -> Device | None:
        """Return who goes on in the place of a device that is none any more."""
        return self._succession.heir(key)

    def who_is(self, name: str) -> str:
        """Return where to find the one device that calls itself so, for who found none by it."""
        called = [each for each in self._book if slug(each.title) == slug(name)]
        if len(called) != 1:
            return ""
        return f'; "{called[0].title}" is {self.level(called[0].key)} in topics'

    def add_listener(self, listener: Listener) -> None:
        """Have a listener told of each change; before `restore`."""
        self._published.add_listener(listener)

    # ---- what drivers say ----

    def seen(self, link: str, description: Description) -> None:
        """Take what a device says of itself."""
        key = description.device
        entry = self._status.device(key)
        if entry.link not in ("", link) and entry.online:
            _log.info("%s: moved from %s to %s", of_device(key), on_link(entry.link), on_link(link))
        is_new_here = not entry.online or entry.link != link or key not in self._book
        device = self._book.get(key) or self._add(key, link, description)
        if device is None:
            self._status.show(link, description)
            return
        device.heard_s = self._clock.monotonic_s()
        before = (device.said, device.link)
        self._sayings.take(device, description)
        device.link = link
        self._status.show(link, device.description)
        entry.name = device.title
        if is_new_here:
            sensors = ", ".join(each.key for each in device.description.sensors)
            _log.info(
                "%s: %s on %s (%s)",
                of_device(key),
                device.title,
                on_link(link),
                sensors or "no sensor yet",
            )
        if description.crash:
            crash = description.crash.strip().splitlines()[-1]
            _log.warning("%s: crashed before this boot: %s", of_device(key, link), crash)
        self._published.describe(device)
        self._presence.settle(device, is_online=True)
        self._published.put_up(device)
        if (lasting(before[0]), before[1]) != (lasting(device.said), link):
            self._book.save(device)
        if before != (device.said, link) or is_new_here:
            self._published.tell(device)

    def heard(self, key: str) -> None:
        """Note that there are readings of a device: called for each, so it is quick."""
        device = self._book.get(key)
        if device is None:
            if (stranger := self._newcomers.pop_stranger(key)) is not None:
                self.seen(*stranger)
            return
        if not device.is_proven:
            device.is_proven = True
            self._book.save(device)
        self._presence.heard(device)

    def left(self, link: str, gone: Gone) -> None:
        """Note that a device left, or sleeps."""
        entry = self._status.devices.get(gone.device)
        if entry is None or entry.link not in ("", link):
            return  # it lives on at another link
        device = self._book.get(gone.device)
        if device is None:
            self._newcomers.pop_stranger(gone.device)
            entry.online = False
            return
        if self._presence.left(device, gone):
            self._book.save(device)

    def actuator_changed(self, key: str, actuator: Actuator) -> None:
        """Note the state an actuator reported."""
        device = self._book.get(key)
        if device is not None:
            self._sayings.actuator_changed(device, actuator)

    def look_around(self) -> None:
        """Note who did not come back, and forget who was never of any use."""
        self._presence.look_around()
        now_s = self._clock.monotonic_s()
        now_unix_s = self._timekeeper.unix_s()
        for device in self._book:
            if device.awaited and device.heard_s and now_s > device.heard_s + AWAITED_S:
                self._sayings.await_no_more(device)
                self._book.save(device)
            is_old = now_unix_s > device.added_unix_s + FORGOTTEN_S
            heard_s = max(device.heard_s, self._began_s)
            is_silent = device.is_online is False and now_s > heard_s + FORGOTTEN_S
            is_useless = not (device.is_proven or self._naming.is_declared(device.key))
            if is_old and is_silent and is_useless:
                _log.info("%s: forgotten, it never had a sample", of_device(device.key))
                self._drop(device)
        self._naming.give_back()

    # ---- what is retained of a device ----

    def retain(self, key: str, suffix: str, payload: bytes | None) -> None:
        """Publish the newest document on `<level>/<suffix>`; None removes it.

        Of a device nobody knows nothing is retained.
        """
        device = self._book.get(key)
        if device is not None:
            self._published.retain(device, suffix, payload)

    # ---- what its owner wants ----

    def rename(self, key: str, name: str) -> Device:
        """Give a device another name; its level becomes the slug of it. An empty one takes it back.

        Raises:
            RequestError: there is no such device, it is named in the configuration, or the name is
                another's.
        """
        device = self._book.known(key)
        self._naming.rename(device, name)
        return device

    def remove(self, key: str) -> Device:
        """Forget a device and all that is retained of it; if it speaks on, it is a new one.

        Raises:
            RequestError: there is no such device.
        """
        device = self._book.known(key)
        _log.info("%s: removed", of_device(key))
        if device.is_online:
            self._newcomers.note_stranger(device.link, device.said)
        self._drop(device)
        self._naming.give_back()
        return device

    def replace(self, key: str, by: str) -> Replaced:
        """Have another device go on in the place of one: with its name, its topics, its options.

        Whoever knows the one by what it was known by knows the other from now on. The one that was
        replaced is forgotten: should it be heard again it is new, and known by something else.

        Raises:
            RequestError: it cannot; says why.
        """
        old, new = self._book.known(key), self._book.known(by)
        self._succession.refuse(old, new, is_declared=self._naming.is_declared(by))
        if old.is_online:
            self._newcomers.note_stranger(old.link, old.said)
        replaced = self._succession.replace(old, new, self._timekeeper.unix_s())
        self._follow_succession()
        self._naming.give_back()
        return replaced

    def set_options(self, key: str, options: Mapping[str, Any]) -> Device:
        """Keep options of a device, values that JSON has.

        Raises:
            RequestError: there is no such device.
        """
        device = self._book.known(key)
        device.options = dict(options)
        self._book.save(device)
        return device

    def note_learned(self, key: str, learned: Mapping[str, Any]) -> None:
        """Keep what was learned of a device, values that JSON has; nothing of an unknown one."""
        device = self._book.get(key)
        if device is not None:
            device.learned = dict(learned)
            self._book.save(device)

    async def wait_kept(self) -> None:
        """Wait until all that is known now is on the disk.

        Raises:
            StoreError: it is not within some seconds.
        """
        await self._book.wait_kept()

    def reconfigure(self, declared: Mapping[str, Declared]) -> None:
        """Take up another configuration of the devices, also what is made of what they say.

        Devices are configured by what they are known by.
        """
        self._configured = dict(declared)
        self._follow_succession()

    # ---- over restarts ----

    def restore(self, registered: Registered) -> None:
        """Take up what was kept: what is known of devices is published, what is left over cleared.

        If this comes late, because the disk failed at the start, what was said and wished meanwhile
        is newer; who is who is as it was.
        """
        devices = devices_of(registered.devices)
        is_late = len(self._book) > 0
        is_any = self._succession.recall(devices) or is_late
        if is_any:
            self._follow_succession()
        if is_late:
            self._succession.take_up_late(devices)
        for device in devices:
            if device.key not in self._book and len(self._book) < MAX_DEVICES:
                self._restore(device)
        if is_any:
            self._follow_succession()
            self._naming.give_back()
        self._published.shelf.load_retained(registered.topics)

    def everything(self) -> Change:
        """Return the change that writes all that is known into empty tables."""
        topics_noted = self._published.shelf.noted_topics()
        return [*self._book.everything(), *registry.note_topics(topics_noted)]

    # ---- the inside ----

    def _follow_succession(self) -> None:
        self.on_succession()
        self._naming.reconfigure(self.by_key(self._configured))
        self._succession.look_for_mistakes(self._configured)
        for device in self._book:
            self._sayings.again(device)

    def _restore(self, device: Device) -> None:
        key = device.key
        declared = self._naming.declared(key)
        device.name, device.is_enabled = declared.name or device.own_name, declared.is_enabled
        last_level, device.level = device.level, self._levels.give(device)
        self._sayings.remember(device)
        self._published.take_up(device, last_level)
        self._book.put(device)
        self._presence.expect(device)
        if device.level != last_level:
            self._book.save(device)
        if device.is_enabled:
            entry = self._status.device(key)
            entry.name, entry.driver = device.title, device.description.driver
            self._published.put_up(device)
            self._published.tell(device)

    def _add(self, key: str, link: str, description: Description) -> Device | None:
        if not (self._naming.is_declared(key) or self._has_room()):
            self._newcomers.note_stranger(link, description)
            if not self._status.counts["devices_refused"]:
                _log.warning(
                    "%s: too many new devices, nothing of it is kept or retained",
                    of_device(key, link),
                )
            self._status.counts["devices_refused"] += 1
            return None
        self._newcomers.pop_stranger(key)
        if (identity := self._succession.identify(key)) != key:
            self._follow_succession()
        declared = self._naming.declared(key)
        level = self._levels.give_new(key)
        device = Device(
            key,
            level,
            said=description,
            description=self._sayings.describe(description),
            name=declared.name,
            own_level=identity if declared.name else level,
            link=link,
            is_enabled=declared.is_enabled,
            added_unix_s=self._timekeeper.unix_s(),
            heard_s=self._clock.monotonic_s(),
            given_identity="" if identity == key else identity,
        )
        if level != (self._levels.configured(key) or identity):
            _log.warning(
                "%s: called %s in topics, its name is another's already", of_device(key), level
            )
        self._book.put(device)
        self._book.save(device)
        return device

    def _has_room(self) -> bool:
        if not self._newcomers.admit(self._clock.monotonic_s()):
            return False
        if len(self._book) < MAX_DEVICES:
            return True
        victim = dispensable(each for each in self if not self._naming.is_declared(each.key))
        if victim is None:
            return False
        _log.info("%s: forgotten, to make room", of_device(victim.key))
        self._drop(victim)
        self._naming.give_back()
        return True

    def _drop(self, device: Device) -> None:
        if device.is_enabled:
            self._published.take_down(device)
        self._levels.take_back(device.key)
        self._succession.forget(device)
        if device.given_identity or device.predecessors:
            self._follow_succession()


def _ignore() -> None:
    """Do nothing."""
