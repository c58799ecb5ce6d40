"""The flow: what drivers say, into the outbox, the status board and the retained documents."""

import logging
from collections.abc import Container
from typing import Final

from gateway.model import (
    ActuatorChanged,
    Description,
    DeviceLog,
    Event,
    Fault,
    Gone,
    LogLevel,
    Readings,
    Sample,
    Seen,
)
from gateway.mqtt import payloads, topics
from gateway.mqtt.publisher import Publisher
from gateway.processing.processor import Processor
from gateway.status import MAX_DEVICES, DeviceStatus, Status
from gateway.store.outbox import Outbox
from gateway.timekeeper import TimeKeeper

_log = logging.getLogger(__name__)

_LOG_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.DEBUG,
    LogLevel.WARNING: logging.INFO,
    LogLevel.ERROR: logging.WARNING,
}
"""A device's lines go to its log topic; the daemon's log shows what its keeper must see."""

MISSED_WAKES: Final = 3
"""A board that sleeps is there until it has missed so many wakes in a row."""
LEAST_SLEEP_S: Final = 30.0
MOST_SLEEP_S: Final = 3 * 86_400.0
"""It is given at least so long, and at most, whatever it says."""

SLEEPERS_LOOK_S: Final = 5.0
"""How often `look_for_sleepers` is to be called."""


class Pipeline:
    """Where the events of all links meet; synchronous, so that order is kept without locks."""

    def __init__(  # noqa: PLR0913 - the parts it joins
        self,
        outbox: Outbox,
        publisher: Publisher,
        status: Status,
        timekeeper: TimeKeeper,
        *,
        processor: Processor | None = None,
        disabled: Container[str] = frozenset(),
    ) -> None:
        """Samples of `disabled` devices are taken and dropped; `processor` has the others first."""
        self._outbox = outbox
        self._publisher = publisher
        self._status = status
        self._timekeeper = timekeeper
        self._processor = Processor({}) if processor is None else processor
        self._disabled = disabled
        self._told_faults: set[tuple[str, str]] = set()
        self._told_implausible: set[tuple[str, str]] = set()
        """Device and sensor; only configured ones."""
        self._asleep: dict[str, float] = {}
        """Boards that sleep, and the monotonic time until which they are taken to be there."""

    def accept(self, link: str, events: list[Event]) -> None:
        """Take what the driver of `link` made of its bytes, in order."""
        for event in events:
            match event:
                case Readings():
                    self._take_readings(event)
                case Seen():
                    self._take_description(link, event.description)
                case DeviceLog():
                    self._take_log(link, event)
                case Gone():
                    self._take_leave(link, event)
                case ActuatorChanged():
                    state = payloads.actuator_state(event.actuator.state)
                    self._publisher.retain(
                        topics.actuator_state(event.device, event.actuator.key), state
                    )
                case Fault():
                    self._take_fault(link, event)

    def forget_link(self, link: str) -> None:
        """Note that `link` is gone for good, such as an unplugged port."""
        self._status.links.pop(link, None)
        self._told_faults = {fault for fault in self._told_faults if fault[0] != link}

    def look_for_sleepers(self) -> None:
        """Note which boards that sleep did not come back; to be called now and then."""
        now_s = self._timekeeper.clock.monotonic_s()
        for device in [device for device, until_s in self._asleep.items() if until_s <= now_s]:
            del self._asleep[device]
            entry = self._status.devices.get(device)
            if entry is not None:
                _log.info("%s: gone (did not wake %d times)", device, MISSED_WAKES)
                self._set_online(entry, is_online=False)

    def _take_readings(self, readings: Readings) -> None:
        if readings.device in self._disabled:
            samples_in = sum(isinstance(record, Sample) for record in readings.records)
            self._status.counts["samples_disabled"] += samples_in
            self._outbox.pass_over(readings)
            return
        if readings.device in self._processor:
            readings = self._process(readings)
        self._outbox.put(readings)
        entry = self._status.device(readings.device)
        samples = [record for record in readings.records if isinstance(record, Sample)]
        entry.received += len(samples)
        self._status.counts["samples_received"] += len(samples)
        for sample in samples:
            entry.last_s = sample.taken_s
            entry.values.update(sample.values)
        if not entry.online or readings.device in self._asleep:
            self._set_online(entry, is_online=True)

    def _process(self, readings: Readings) -> Readings:
        """Return what the configuration leaves of readings, and tell what is implausible."""
        processed = self._processor.process(readings)
        if processed.refused:
            self._status.counts["values_implausible"] += processed.refused
        for wrong in processed.implausible:
            event = payloads.implausible(wrong, self._timekeeper.base())
            self._publisher.post(topics.event(readings.device), event)
            if (readings.device, wrong.sensor) not in self._told_implausible:
                self._told_implausible.add((readings.device, wrong.sensor))
                _log.warning(
                    "%s: %s was %g, which is implausible (further ones are only published as "
                    "events)",
                    readings.device,
                    wrong.sensor,
                    wrong.value,
                )
        return processed.readings

    def _take_description(self, link: str, description: Description) -> None:
        description = self._processor.describe(description)
        entry = self._status.device(description.device)
        if entry.link not in ("", link) and entry.online:
            _log.info("%s: moved from %s to %s", description.device, entry.link, link)
        is_new = not entry.online or entry.link != link
        entry.name, entry.driver, entry.link = description.name, description.driver, link
        entry.problem = description.problem
        keys = {sensor.key for sensor in description.sensors}
        entry.values = {key: value for key, value in entry.values.items() if key in keys}
        self._status.link(link).device = description.device
        self._publisher.retain(topics.info(description.device), payloads.info(description))
        for actuator in description.actuators:
            state = payloads.actuator_state(actuator.state)
            self._publisher.retain(topics.actuator_state(description.device, actuator.key), state)
        self._set_online(entry, is_online=True)
        if is_new:
            sensors = ", ".join(sensor.key for sensor in description.sensors) or "no sensor yet"
            _log.info("%s: %s on %s (%s)", description.device, description.name, link, sensors)
        if description.crash:
            _log.warning(
                "%s: crashed before this boot: %s",
                description.device,
                description.crash.strip().splitlines()[-1],
            )

    def _take_leave(self, link: str, gone: Gone) -> None:
        entry = self._status.devices.get(gone.device)
        if entry is None or entry.link not in ("", link):
            return  # it lives on at another link
        if entry.online and gone.back_in_s and len(self._asleep) < MAX_DEVICES:
            stays_s = min(max(MISSED_WAKES * gone.back_in_s, LEAST_SLEEP_S), MOST_SLEEP_S)
            self._asleep[gone.device] = self._timekeeper.clock.monotonic_s() + stays_s
            _log.debug("%s: away for %.0f s", gone.device, gone.back_in_s)
            return
        if entry.online:
            _log.info("%s: gone (%s)", gone.device, gone.reason)
        self._set_online(entry, is_online=False)

    def _take_log(self, link: str, line: DeviceLog) -> None:
        _log.log(_LOG_LEVELS[line.level], "%s: %s", line.device or link, line.text)
        if line.device:
            now_unix_s = self._timekeeper.unix_s()
            self._publisher.post(topics.log(line.device), payloads.log(line, now_unix_s))

    def _take_fault(self, link: str, fault: Fault) -> None:
        self._status.counts["faults"] += 1
        self._status.link(link).faults[fault.kind] += 1
        if (link, fault.kind) not in self._told_faults:
            self._told_faults.add((link, fault.kind))
            _log.warning(
                "%s: %s: %s (further ones are only counted)", link, fault.kind, fault.detail
            )

    def _set_online(self, entry: DeviceStatus, *, is_online: bool) -> None:
        self._asleep.pop(entry.device, None)
        if entry.online is not is_online:
            entry.online = is_online
            topic = topics.availability(entry.device)
            self._publisher.retain(topic, payloads.availability(is_online))
