"""Keeps what Home Assistant is told of devices up to date; the pure part is mqtt/homeassistant."""

import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from gateway.cadence import RUNGS_S, Cadences, Habit
from gateway.devices.births import STATES_DELAY_S, Births, Renewal
from gateway.devices.device import Device
from gateway.devices.learned import document_of, entities_of, habits_of
from gateway.log_fields import of_device
from gateway.model import Value
from gateway.mqtt import topics
from gateway.mqtt.homeassistant.device import device_components, device_payload
from gateway.mqtt.homeassistant.naming import Site
from gateway.mqtt.homeassistant.own_device import gateway_payload
from gateway.mqtt.incoming import Handler
from gateway.status import Status
from gateway.timekeeper import TimeKeeper

_log = logging.getLogger(__name__)

TICK_S: Final = 0.5
"""How often `tick` is to be called."""
SETTLE_S: Final = 1.0
"""From a change to its announcement: a device often changes in several steps, as sensors that are
read from lines or adverts show up one after the other."""
AT_A_TIME: Final = 20
TURN_S: Final = 0.01
"""Devices announced in one turn of the loop, and after what time the others wait for the next: a
payload takes 0.1 ms, one with 512 sensors 9 ms."""
MAX_ANNOUNCED: Final = 5_000
"""Devices, of 3 kB each in memory and in Home Assistant; further ones are on MQTT all the same."""
MAX_REMOVED: Final = 64
"""Entities a device once had that are still told to be removed, in case Home Assistant was away."""
SPARED_S: Final = 86_400.0
"""So long what a device had that was replaced stays in Home Assistant, though the new one has no
such sensor: its settings may be on their way. Then it is told to be removed."""


class Board(Protocol):
    """Where announcements are put: the publisher."""

    def retain_at(self, topic: str, payload: bytes | None) -> None:
        """Publish the newest document of a whole topic; None removes it."""

    def claim_at(self, topic: str) -> None:
        """Leave what an earlier run retained there alone."""

    def renew(self, topics_to_renew: Iterable[str]) -> None:
        """Publish documents again."""

    def renew_states(self, subtopics: Iterable[str]) -> None:
        """Publish the newest states on these topics again."""

    def subscribe(self, filters: Sequence[str], handler: Handler) -> None:
        """Have `handler` take what arrives on these topics."""


class Registry(Protocol):
    """What is known of devices, and kept."""

    def get(self, key: str) -> Device | None:
        """Return the device of a key."""

    def note_learned(self, key: str, learned: Mapping[str, Any]) -> None:
        """Keep what was learned of a device."""


@dataclass(slots=True)
class _Told:
    """What was told of one device."""

    identity: str
    payload: bytes = b""
    entities: dict[str, str] = field(default_factory=dict)
    """Id and platform of all it was ever announced with, the latest last."""


class Announcer:
    """A listener of the registry: announces devices, and takes back what is removed.

    What it learns of a device is kept in the registry, so that a gateway that was restarted
    announces the same, and knows what there is to be removed. Called in the loop's thread.
    """

    def __init__(  # noqa: PLR0913 - the parts it joins
        self,
        board: Board,
        devices: Registry,
        status: Status,
        timekeeper: TimeKeeper,
        site: Site,
        *,
        is_enabled: bool = True,
        health_interval_s: float = 60.0,
        most: int = MAX_ANNOUNCED,
        rng: random.Random | None = None,
    ) -> None:
        """`site` is ours, and at most `most` devices are announced; nothing is before `start`."""
        self._board = board
        self._devices = devices
        self._status = status
        self._timekeeper = timekeeper
        self._clock = timekeeper.clock
        self._site = site
        self._is_enabled = is_enabled
        self._health_interval_s = health_interval_s
        self._cadences = Cadences(self._mark)
        self._most = most
        self._told: dict[str, _Told] = {}
        self._announced: set[str] = set()
        self._is_full = False
        """Whether it was said that there are too many."""
        self._due: dict[str, float] = {}
        self._states_due: dict[str, float] = {}
        self._spared: dict[str, float] = {}
        """Who has entities of a predecessor's only, and until when these are spared."""
        rng = rng or random.Random()  # noqa: S311 - it spreads load, and guards nothing
        self._births = Births(self._clock, rng, self._announcements, self._states)
        board.subscribe([site.birth_topic], self._births.hear)

    def start(self) -> None:
        """Announce the gateway itself; before the registry is filled."""
        if self._is_enabled:
            payload = gateway_payload(self._site, self._health_interval_s)
            self._board.retain_at(self._site.discovery_topic(), payload)

    def heard(self, device: str, values: Mapping[str, Value], now_s: float) -> None:
        """Note a sample that is about to be published; called for each, so it is quick."""
        if self._is_enabled and device in self._told:
            self._cadences.hear(device, values, now_s)

    def away(self, key: str) -> None:
        """Note that a device is gone: its silence is no rhythm."""
        self._cadences.away(key)

    def has_signal(self, key: str) -> None:
        """Note that the signal of a device is known from now on."""
        if key in self._told:
            self._mark(key)

    def device_changed(self, device: Device) -> None:
        """Announce a device soon; what an earlier run announced stays until then."""
        key = device.key
        if key not in self._told:
            self._meet(device)
            if self._is_enabled:
                self._board.claim_at(self._site.discovery_topic(device.identity))
        self._mark(key)

    def device_removed(self, device: Device) -> None:
        """Take back all that was announced of a device; what has been replaced is overwritten."""
        key = device.key
        self._due.pop(key, None)
        self._states_due.pop(key, None)
        self._spared.pop(key, None)
        self._told.pop(key, None)
        self._announced.discard(key)
        self._cadences.forget(key)
        if self._is_enabled and not device.is_replaced:
            self._board.retain_at(self._site.discovery_topic(device.identity), None)

    def reconfigure(self, prefix: str, *, is_enabled: bool) -> None:
        """Announce elsewhere, begin to, or take everything back.

        Under another prefix a birth is heard from the next connection to the broker on.
        """
        before, was_enabled = self._site, self._is_enabled
        if prefix != before.prefix:
            self._board.subscribe([replace(before, prefix=prefix).birth_topic], self._births.hear)
        self._site = replace(before, prefix=prefix)
        self._is_enabled = is_enabled
        if was_enabled and (not is_enabled or before.prefix != prefix):
            for identity in self._identities():
                self._board.retain_at(before.discovery_topic(identity), None)
        for told in self._told.values():
            told.payload = b""
        self.start()
        for key in self._told:
            self._mark(key)

    def tick(self) -> None:
        """Do what is due."""
        now_s = self._clock.monotonic_s()
        for key in _ready(self._spared, now_s):
            del self._spared[key]
            self._mark(key)
        for key in _ready(self._due, now_s):
            del self._due[key]
            device = self._devices.get(key)
            if device is not None and device.is_enabled:
                self._announce(device)
            if self._clock.monotonic_s() > now_s + TURN_S:
                break
        for key in _ready(self._states_due, now_s):
            del self._states_due[key]
            if (device := self._devices.get(key)) is not None:
                self._board.renew_states([topics.state(device.level)])
        self._births.tick()

    # ---- devices ----

    def _mark(self, key: str) -> None:
        if self._is_enabled:
            self._due.setdefault(key, self._clock.monotonic_s() + SETTLE_S)

    def _meet(self, device: Device) -> None:
        entities = entities_of(device.learned)
        self._told[device.key] = _Told(device.identity, entities=entities)
        if habits := habits_of(device.learned):
            self._cadences.restore(device.key, habits, self._clock.monotonic_s())

    def _announce(self, device: Device) -> None:
        key, site = device.key, self._site
        if key not in self._announced and len(self._announced) >= self._most:
            if not self._is_full:
                self._is_full = True
                _log.warning(
                    "%s and further devices are not announced to Home Assistant", of_device(key)
                )
            return
        self._announced.add(key)
        told = self._told.setdefault(key, _Told(device.identity))
        habits = self._cadences.habits(key)
        link = self._status.links.get(device.link)
        has_signal = "diagnostic_rssi" in told.entities or (
            link is not None and link.rssi is not None
        )
        description = replace(device.description, name=device.title)
        entities = device_components(
            site, device.level, description, habits, identity=told.identity, has_signal=has_signal
        )
        present = {each: str(component["platform"]) for each, component in entities.items()}
        removed = [pair for pair in told.entities.items() if pair[0] not in present]
        del removed[:-MAX_REMOVED]
        stubs = [] if removed and self._are_spared(device) else removed
        payload = device_payload(
            site, device.level, description, entities, stubs, identity=told.identity
        )
        is_change = bool(told.payload) and payload != told.payload
        told.payload = payload
        told.entities = {**dict(removed), **present}
        self._note(device, habits, told.entities)
        self._board.retain_at(site.discovery_topic(told.identity), payload)
        if is_change and any((habit.silence_s or 0) > RUNGS_S[0] for habit in habits.values()):
            # Home Assistant sets entities up anew: those that expire wait for their next value,
            # and here that may take a while.
            self._states_due.setdefault(key, self._clock.monotonic_s() + STATES_DELAY_S)

    def _are_spared(self, device: Device) -> bool:
        """Whether entities it has not may come yet: Home Assistant keeps what is left out."""
        left_s = device.replaced_unix_s + SPARED_S - self._timekeeper.unix_s()
        if not (device.replaced_unix_s and 0.0 < left_s <= SPARED_S):  # clocks are set back, too
            return False
        self._spared[device.key] = self._clock.monotonic_s() + left_s
        return True

    def _note(
        self, device: Device, habits: Mapping[str, Habit], entities: Mapping[str, str]
    ) -> None:
        """Keep what the next run needs to announce the same."""
        known = {sensor.key for sensor in device.description.sensors}
        lasting = {key: habit for key, habit in habits.items() if key in known}
        learned = document_of(entities, lasting)
        if learned != device.learned:
            self._devices.note_learned(device.key, learned)

    # ---- Home Assistant's birth ----

    def _announcements(self) -> Iterator[Renewal]:
        if self._is_enabled:
            for identity in self._identities():
                yield self._board.renew, self._site.discovery_topic(identity)

    def _identities(self) -> list[str]:
        """Return who is announced: the gateway first, devices hang on it."""
        return ["", *(told.identity for told in self._told.values())]

    def _states(self) -> Iterator[Renewal]:
        if not self._is_enabled:
            return
        yield self._board.renew, self._site.topic(topics.HEALTH)
        for key in self._told:
            if (device := self._devices.get(key)) is None:
                continue
            for suffix in device.documents:
                yield self._board.renew, self._site.topic(f"{device.level}/{suffix}")
            yield self._board.renew_states, topics.state(device.level)


def _ready(due: Mapping[str, float], now_s: float) -> list[str]:
    return [key for key, due_s in due.items() if due_s <= now_s][:AT_A_TIME]
