"""The registry: what is known of each device, over restarts, and what is retained of it."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from gateway.device import Declared, Device, Listener, device_of, entry_of, with_awaited
from gateway.errors import RequestError
from gateway.model import MAX_SLUG, RESERVED_DEVICES, Actuator, Description, Gone, slug
from gateway.mqtt import payloads, topics
from gateway.mqtt.names import Names
from gateway.newcomers import Newcomers
from gateway.status import MAX_DEVICES, DeviceStatus, Status
from gateway.store import registry
from gateway.store.described import lasting
from gateway.store.registry import Registered
from gateway.store.state_changes import Change
from gateway.timekeeper import TimeKeeper

_log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""How often `look_around` is to be called."""

GRACE_S: Final = 60.0
"""A device that was known before the start is given so long until it is called offline."""

MISSED_WAKES: Final = 3
"""A board that sleeps is there until it has missed so many wakes in a row."""
LEAST_SLEEP_S: Final = 30.0
MOST_SLEEP_S: Final = 3 * 86_400.0
"""It is given at least so long, and at most, whatever it says."""

FORGOTTEN_S: Final = 86_400.0
"""After so long without a word a device is forgotten of which there never was a sample."""

AWAITED_S: Final = 3_600.0
"""So long sensors that were known before the start may take to show up again, of devices that do
not say which sensors they have; then they are gone."""

MAX_STRANGERS: Final = 1_000
"""Descriptions kept of devices that were removed, or found no room, in case they speak on."""

SELF_DESCRIBING: Final = frozenset({"board"})
"""Drivers of devices that say which sensors they have; with others they show by and by."""


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


class Writer(Protocol):
    """Who keeps devices on the disk."""

    entry_of: Callable[[str], registry.Entry | None]
    """Set by the registry: returns what is to be kept of a device; None for one that is gone."""

    def save(self, key: str) -> None:
        """Keep a device as it will be in a moment, or forget it."""

    async def wait_written(self) -> None:
        """Wait until all is on the disk; raises StoreError if it is not within some seconds."""


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
        self.disabled: set[str] = set()
        """Keys of devices of which nothing is to be published."""
        self._shelf = shelf
        self._names = names
        self._status = status
        self._timekeeper = timekeeper
        self._clock = timekeeper.clock
        self._writer = writer
        if writer is not None:
            writer.entry_of = self._entry_of
        self._describe = describe
        self._declared: dict[str, Declared] = {}
        self._devices: dict[str, Device] = {}
        self._listeners: list[Listener] = []
        self._strangers: dict[str, tuple[str, Description]] = {}
        self._due: dict[str, float] = {}
        """Devices that are away, and the monotonic time until which they are taken to be there."""
        self._began_s = self._clock.monotonic_s()
        self._newcomers = Newcomers(self._began_s)
        self.reconfigure(declared or {})

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, key: str) -> Device | None:
        """Return the device of a key."""
        return self._devices.get(key)

    def level(self, key: str) -> str:
        """Return what a device is called in topics."""
        return self._names.level(key)

    def find(self, name: str) -> Device | None:
        """Return the device people mean: by its level, else by its key."""
        return self._devices.get(self._names.find(name) or "")

    def add_listener(self, listener: Listener) -> None:
        """Have a listener told of each change; before `restore`."""
        self._listeners.append(listener)

    # ---- what drivers say ----

    def seen(self, link: str, description: Description) -> None:
        """Take what a device says of itself."""
        key = description.device
        entry = self._status.device(key)
        if entry.link not in ("", link) and entry.online:
            _log.info("%s: moved from %s to %s", key, entry.link, link)
        is_new_here = not entry.online or entry.link != link
        device = self._devices.get(key) or self._add(key, link, description)
        if device is None:
            self._show(entry, link, description, is_online=True)
            return
        device.heard_s = self._clock.monotonic_s()
        if description.driver in SELF_DESCRIBING or device.said.driver != description.driver:
            device.awaited.clear()
        before = (device.said, device.link)
        device.said = with_awaited(description, device)
        device.description = self._describe(device.said)
        device.link = link
        device.is_proven |= bool(description.actuators)
        self._show(entry, link, device.description, is_online=True)
        entry.name = device.title
        if is_new_here:
            sensors = ", ".join(each.key for each in device.description.sensors)
            _log.info("%s: %s on %s (%s)", key, device.title, link, sensors or "no sensor yet")
        if description.crash:
            crash = description.crash.strip().splitlines()[-1]
            _log.warning("%s: crashed before this boot: %s", key, crash)
        self._publish(device)
        self._set_online(device, is_online=True)
        self._put_up(device)
        if (lasting(before[0]), before[1]) != (lasting(device.said), link):
            self._save(key)
        if before != (device.said, link) or is_new_here:
            self._tell(device)

    def heard(self, key: str) -> None:
        """Note that there are readings of a device: called for each, so it is quick."""
        device = self._devices.get(key)
        if device is None:
            if (stranger := self._strangers.pop(key, None)) is not None:
                self.seen(*stranger)
            return
        if not device.is_proven:
            device.is_proven = True
            self._save(key)
        if device.is_online is not True or key in self._due:
            self._set_online(device, is_online=True)

    def left(self, link: str, gone: Gone) -> None:
        """Note that a device left, or sleeps."""
        entry = self._status.devices.get(gone.device)
        if entry is None or entry.link not in ("", link):
            return  # it lives on at another link
        device = self._devices.get(gone.device)
        if device is None:
            self._strangers.pop(gone.device, None)
            entry.online = False
            return
        if device.is_online and gone.back_in_s:
            stays_s = min(max(MISSED_WAKES * gone.back_in_s, LEAST_SLEEP_S), MOST_SLEEP_S)
            self._due[device.key] = self._clock.monotonic_s() + stays_s
            _log.debug("%s: away for %.0f s", device.key, gone.back_in_s)
            if not device.quiet_s / 2 < stays_s < device.quiet_s * 2:
                device.quiet_s = stays_s
                self._save(device.key)
            return
        if device.is_online:
            _log.info("%s: gone (%s)", device.key, gone.reason)
        self._set_online(device, is_online=False)

    def actuator_changed(self, key: str, actuator: Actuator) -> None:
        """Note the state an actuator reported."""
        device = self._devices.get(key)
        if device is None:
            return
        actuators = tuple(
            actuator if each.key == actuator.key else each for each in device.said.actuators
        )
        device.said = replace(device.said, actuators=actuators)
        device.description = self._describe(device.said)
        self.retain(key, _state_of(actuator), payloads.actuator_state(actuator.state))

    def look_around(self) -> None:
        """Note who did not come back, and forget who was never of any use."""
        now_s = self._clock.monotonic_s()
        for key in [key for key, until_s in self._due.items() if until_s <= now_s]:
            del self._due[key]
            if (device := self._devices.get(key)) is not None:
                why = "not heard since the start"
                if device.is_online:
                    why = f"did not wake {MISSED_WAKES} times"
                _log.info("%s: gone (%s)", key, why)
                self._set_online(device, is_online=False)
        now_unix_s = self._timekeeper.unix_s()
        for device in [*self._devices.values()]:
            if device.awaited and device.heard_s and now_s > device.heard_s + AWAITED_S:
                self._await_no_more(device)
            is_old = now_unix_s > device.added_unix_s + FORGOTTEN_S
            heard_s = max(device.heard_s, self._began_s)
            is_silent = device.is_online is False and now_s > heard_s + FORGOTTEN_S
            if is_old and is_silent and not device.is_proven and device.key not in self._declared:
                _log.info("%s: forgotten, it never had a sample", device.key)
                self._drop(device)

    # ---- what is retained of a device ----

    def retain(self, key: str, suffix: str, payload: bytes | None) -> None:
        """Publish the newest document on `<level>/<suffix>`; None removes it.

        Of a device nobody knows nothing is retained.
        """
        device = self._devices.get(key)
        if device is None:
            return
        if payload is None:
            device.documents.pop(suffix, None)
        else:
            device.documents[suffix] = payload
        if device.is_enabled:
            self._shelf.retain(f"{device.level}/{suffix}", payload)

    # ---- what its owner wants ----

    def rename(self, key: str, name: str) -> Device:
        """Give a device another name; its level becomes the slug of it. An empty one takes it back.

        Raises:
            RequestError: there is no such device, it is named in the configuration, or the name is
                another's.
        """
        device = self._known(key)
        if (declared := self._declared.get(key)) is not None and declared.name:
            raise RequestError(f"{key} is named in the configuration, [[device]]: change it there")
        name = " ".join(name.split())
        level = self._level_for(device.key, name)
        device.name = device.own_name = name
        device.own_level = level
        self._move(device, level)
        self._save(key)
        return device

    def remove(self, key: str) -> Device:
        """Forget a device and all that is retained of it; if it speaks on, it is a new one.

        Raises:
            RequestError: there is no such device.
        """
        device = self._known(key)
        _log.info("%s: removed", key)
        if device.is_online and len(self._strangers) < MAX_STRANGERS:
            self._strangers[key] = (device.link, device.said)
        self._drop(device)
        return device

    def set_options(self, key: str, options: Mapping[str, Any]) -> Device:
        """Keep options of a device, values that JSON has.

        Raises:
            RequestError: there is no such device.
        """
        device = self._known(key)
        device.options = dict(options)
        self._save(key)
        return device

    def note_learned(self, key: str, learned: Mapping[str, Any]) -> None:
        """Keep what was learned of a device, values that JSON has; nothing of an unknown one."""
        device = self._devices.get(key)
        if device is not None:
            device.learned = dict(learned)
            self._save(key)

    async def wait_kept(self) -> None:
        """Wait until all that is known now is on the disk.

        Raises:
            StoreError: it is not within some seconds.
        """
        if self._writer is not None:
            await self._writer.wait_written()

    def reconfigure(self, declared: Mapping[str, Declared]) -> None:
        """Take up another configuration of the devices, also what is made of what they say."""
        before, self._declared = self._declared, dict(declared)
        self.disabled.clear()
        self.disabled.update(key for key, each in declared.items() if not each.is_enabled)
        self._make_way()
        for key in sorted(before.keys() | declared.keys(), key=self._named_first):
            if before.get(key) == declared.get(key):
                continue
            if (device := self._devices.get(key)) is not None:
                self._apply(device)
            else:
                self._names.drop(key)
                self._reserve(key)
        for device in [*self._devices.values()]:
            if device.level != self._wanted_level(device):
                self._apply(device)  # who made way, or may have its name again
        for device in self._devices.values():
            description = self._describe(device.said)
            if description != device.description:
                device.description = description
                self._publish(device)
                self._tell(device)

    # ---- over restarts ----

    def restore(self, registered: Registered) -> None:
        """Take up what was kept: what is known of devices is published, what is left over cleared.

        If this comes late, because the disk failed at the start, what is known by now is newer.
        """
        devices = []
        for key, document in registered.devices.items():
            try:
                devices.append(device_of(key, document))
            except ValueError as exc:
                _log.error("what was kept of the device %.80r cannot be read: %s", key, exc)
        now_s = self._clock.monotonic_s()
        # Who had its own level last has it now, whoever else was once called so.
        for device in sorted(devices, key=lambda each: each.level != each.own_level):
            if device.key not in self._devices and len(self._devices) < MAX_DEVICES:
                self._restore(device, now_s)
        self._shelf.load_retained(registered.topics)

    def everything(self) -> Change:
        """Return the change that writes all that is known into empty tables."""
        entries = {device.key: partial(entry_of, copy(device)) for device in self}
        return [*registry.put_devices(entries), *registry.note_topics(self._shelf.noted_topics())]

    # ---- the inside ----

    def _restore(self, device: Device, now_s: float) -> None:
        key = device.key
        declared = self._declared.get(key, Declared())
        device.name, device.is_enabled = declared.name or device.own_name, declared.is_enabled
        last_level, device.level = device.level, self._take_level(device)
        if device.said.driver not in SELF_DESCRIBING:
            device.awaited = {sensor.key for sensor in device.said.sensors}
        device.description = self._describe(device.said)
        if device.level == last_level:
            device.documents["availability"] = None
            device.documents["diagnostics"] = None  # said again within seconds, and not before
            for actuator in device.description.actuators:
                device.documents[_state_of(actuator)] = None
        else:  # what is there now was said of somebody else
            self._shelf.retain(topics.state(device.level), None)
        self._devices[key] = device
        self._due[key] = now_s + max(GRACE_S, device.quiet_s)
        device.documents["info"] = _info(device, is_current=False)
        if device.level != last_level:
            self._save(key)
        if device.is_enabled:
            entry = self._status.device(key)
            entry.name, entry.driver = device.title, device.description.driver
            self._put_up(device)
            self._tell(device)

    def _add(self, key: str, link: str, description: Description) -> Device | None:
        if not self._has_room(key):
            if len(self._strangers) < MAX_STRANGERS:
                self._strangers[key] = (link, description)
            if not self._status.counts["devices_refused"]:
                _log.warning("%s: too many new devices, nothing of it is kept or retained", key)
            self._status.counts["devices_refused"] += 1
            return None
        self._strangers.pop(key, None)
        declared = self._declared.get(key, Declared())
        level = self._names.level(key)
        if key not in self._names:
            self._names.put(key, level)
        device = Device(
            key,
            level,
            said=description,
            description=self._describe(description),
            name=declared.name,
            own_level=key if declared.name else level,
            link=link,
            is_enabled=declared.is_enabled,
            added_unix_s=self._timekeeper.unix_s(),
            heard_s=self._clock.monotonic_s(),
        )
        if level != _level_of(declared.name, key):
            _log.warning("%s: called %s in topics, its name is another's already", key, level)
        self._devices[key] = device
        self._save(key)
        return device

    def _has_room(self, key: str) -> bool:
        if key in self._declared:
            return True
        if not self._newcomers.admit(self._clock.monotonic_s()):
            return False
        if len(self._devices) < MAX_DEVICES:
            return True
        victim = self._dispensable()
        if victim is None:
            return False
        _log.info("%s: forgotten, to make room", victim.key)
        self._drop(victim)
        return True

    def _dispensable(self) -> Device | None:
        """Return who makes room: without a sample first; then who came last, not old friends."""
        offline = [
            each
            for each in self._devices.values()
            if not each.is_online and each.key not in self._declared
        ]
        useless = next((each for each in offline if not each.is_proven), None)
        return useless or max(offline, key=lambda each: each.added_unix_s, default=None)

    def _configured_level(self, key: str) -> str:
        """Return the level the configuration gives a device; empty if it gives none."""
        name = self._declared.get(key, Declared()).name
        return _level_of(name, key) if name else ""

    def _named_first(self, key: str) -> tuple[bool, str]:
        return not self._configured_level(key), key

    def _wanted_level(self, device: Device) -> str:
        return self._configured_level(device.key) or device.own_level

    def _take_level(self, device: Device) -> str:
        """Give a device the level it is to have, or one like it, and return which."""
        level = self._wanted_level(device)
        if not self._names.keep(device.key, level):
            level = self._names.free_level(device.key, level)
            self._names.keep(device.key, level)
        return level

    def _reserve(self, key: str) -> None:
        """Keep the name of a device of the configuration for it, whoever comes first."""
        if level := self._configured_level(key):
            self._names.keep(key, level)

    def _make_way(self) -> None:
        """Let go of levels that the configuration gives to others, so that names can be exchanged.

        Where they go is for a moment only; it is nobody's wish.
        """
        given = {self._configured_level(key): key for key in self._declared}
        for device in [*self._devices.values()]:
            if given.get(device.level, device.key) == device.key:
                continue
            level = self._names.free_level(device.key)
            while level in given:
                level = self._names.free_level(device.key, f"{level[: MAX_SLUG - 4]}_way")
            self._move(device, level)
        for key in self._declared:
            if key not in self._devices and given.get(self._names.level(key), key) != key:
                self._names.drop(key)

    def _level_for(self, key: str, name: str) -> str:
        """Return the level of a name.

        Raises:
            RequestError: it cannot have it.
        """
        level = _level_of(name, key)
        if level != slug(name):  # it says nothing of a level
            return self._names.free_level(key)
        if level in RESERVED_DEVICES:
            raise RequestError(f"{level!r} is a topic of the gateway's own: choose another name")
        if not self._names.is_free(level, key):
            owner = self._names.find(level)
            raise RequestError(f"{level!r} is the name of another device, {owner}")
        return level

    def _apply(self, device: Device) -> None:
        """Bring a device to what the configuration says now."""
        declared = self._declared.get(device.key, Declared())
        device.name = declared.name or device.own_name
        if device.is_enabled and not declared.is_enabled:
            self._take_down(device)
        device.is_enabled = declared.is_enabled
        self._move(device, self._take_level(device))

    def _move(self, device: Device, level: str) -> None:
        old, is_moved = device.level, device.level != level
        if is_moved:
            _log.info("%s: called %s in topics from now on, no longer %s", device.key, level, old)
            if device.is_enabled:
                self._shelf.move_state(topics.state(old), topics.state(level))
                for suffix in device.documents:
                    self._shelf.retain(f"{old}/{suffix}", None)
            self._names.keep(device.key, level)
            device.level = level
            self._save(device.key)
        is_current = device.heard_s > 0.0
        device.documents["info"] = _info(device, is_current=is_current)
        self._status.device(device.key).name = device.title
        if device.is_enabled:
            if is_moved:
                # What an earlier run left under the old name is not known here.
                device.documents = {
                    suffix: payload
                    for suffix, payload in device.documents.items()
                    if payload is not None or suffix == "availability"
                }
            self._put_up(device)
            self._tell(device)

    def _publish(self, device: Device) -> None:
        """Retain what a device is now, and nothing of what it was."""
        states = {_state_of(each): each.state for each in device.description.actuators}
        for suffix in [each for each in device.documents if each.endswith("/state")]:
            if suffix not in states:
                self.retain(device.key, suffix, None)
        is_current = device.heard_s > 0.0
        self.retain(device.key, "info", _info(device, is_current=is_current))
        for suffix, state in states.items():
            payload = payloads.actuator_state(state)
            if payload is not None or suffix in device.documents:
                self.retain(device.key, suffix, payload)

    def _put_up(self, device: Device) -> None:
        if not device.is_enabled:
            return
        for suffix, payload in device.documents.items():
            topic = f"{device.level}/{suffix}"
            if payload is None:
                self._shelf.claim(topic)
            else:
                self._shelf.retain(topic, payload)
        self._shelf.claim(topics.state(device.level))  # last: who it is comes before what it reads

    def _take_down(self, device: Device) -> None:
        for listener in self._listeners:
            listener.device_removed(device)
        self._shelf.retain(topics.state(device.level), None)
        for suffix in device.documents:
            self._shelf.retain(f"{device.level}/{suffix}", None)

    def _drop(self, device: Device) -> None:
        if device.is_enabled:
            self._take_down(device)
        del self._devices[device.key]
        self._due.pop(device.key, None)
        self._names.drop(device.key)
        self._reserve(device.key)
        entry = self._status.devices.get(device.key)
        if entry is not None and not entry.online:
            del self._status.devices[device.key]
        self._save(device.key)

    def _await_no_more(self, device: Device) -> None:
        sensors = tuple(each for each in device.said.sensors if each.key not in device.awaited)
        device.awaited.clear()
        device.said = replace(device.said, sensors=sensors)
        device.description = self._describe(device.said)
        self._publish(device)
        self._save(device.key)
        self._tell(device)

    def _set_online(self, device: Device, *, is_online: bool) -> None:
        self._due.pop(device.key, None)
        if device.is_online is not is_online:
            device.is_online = is_online
            self.retain(device.key, "availability", payloads.availability(is_online))
        if device.is_enabled:
            self._status.device(device.key).online = is_online

    def _show(
        self, entry: DeviceStatus, link: str, description: Description, *, is_online: bool
    ) -> None:
        entry.name, entry.driver, entry.link = description.name, description.driver, link
        entry.problem = description.problem
        entry.online = is_online
        keys = {sensor.key for sensor in description.sensors}
        entry.values = {key: value for key, value in entry.values.items() if key in keys}
        self._status.link(link).device = description.device

    def _tell(self, device: Device) -> None:
        if device.is_enabled:
            for listener in self._listeners:
                listener.device_changed(device)

    def _known(self, key: str) -> Device:
        device = self._devices.get(key)
        if device is None:
            raise RequestError(f"there is no device {key!r}")
        return device

    def _entry_of(self, key: str) -> registry.Entry | None:
        device = self._devices.get(key)
        return None if device is None else partial(entry_of, copy(device))

    def _save(self, key: str) -> None:
        if self._writer is not None:
            self._writer.save(key)


def _level_of(name: str, key: str) -> str:
    """Return the level of a name; a name without a Latin letter or a digit is only shown."""
    level = slug(name)
    return key if not name or (level == slug("") and name != level) else level


def _state_of(actuator: Actuator) -> str:
    return topics.actuator_state("", actuator.key)[1:]


def _info(device: Device, *, is_current: bool) -> bytes:
    return payloads.info(device.description, name=device.name, is_current=is_current)
