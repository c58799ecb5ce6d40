"""The flow: what drivers say, into the outbox, the status board and the registry of devices."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.devices.registry import Devices
from gateway.log_fields import of_device, on_link
from gateway.model import (
    ActuatorChanged,
    DeviceLog,
    Event,
    Fault,
    Gone,
    LogLevel,
    Readings,
    Sample,
    Seen,
    TakesCommands,
    UpdateStated,
    Value,
)
from gateway.mqtt import payloads, topics
from gateway.mqtt.publisher import Publisher
from gateway.processing.processor import Processor
from gateway.status import Status
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


class Addressees(Protocol):
    """Who wants to know which boards can be told what to do."""

    def ready(self, link: str, device: str, life: str) -> None:
        """Note that a board takes commands on a link."""

    def left(self, link: str, device: str) -> None:
        """Note that a device left a link."""


class _Nobody:
    """Gives no commands."""

    def ready(self, link: str, device: str, life: str) -> None:
        """Do nothing."""

    def left(self, link: str, device: str) -> None:
        """Do nothing."""


class Pipeline:
    """Where the events of all links meet; synchronous, so that order is kept without locks."""

    def __init__(  # noqa: PLR0913 - the parts it joins
        self,
        outbox: Outbox,
        publisher: Publisher,
        devices: Devices,
        status: Status,
        timekeeper: TimeKeeper,
        *,
        processor: Processor | None = None,
        commands: Addressees | None = None,
        heard: Callable[[str, Mapping[str, Value], float], None] | None = None,
        update_stated: Callable[[UpdateStated], None] | None = None,
    ) -> None:
        """Samples of disabled devices are taken and dropped; `processor` has the others first.

        `heard` is told of what is left of each sample, and when it came; `update_stated` of what
        became of updates.
        """
        self._heard = heard
        self._update_stated = update_stated
        self._commands: Addressees = _Nobody() if commands is None else commands
        self._outbox = outbox
        self._publisher = publisher
        self._devices = devices
        self._status = status
        self._timekeeper = timekeeper
        self._processor = Processor({}) if processor is None else processor
        self._told_faults: set[tuple[str, str]] = set()
        self._told_implausible: set[tuple[str, str]] = set()
        """Device and sensor; only configured ones."""

    def accept(self, link: str, events: list[Event]) -> None:
        """Take what the driver of `link` made of its bytes, in order."""
        for event in events:
            match event:
                case Readings():
                    self._take_readings(event)
                case Seen():
                    self._devices.seen(link, event.description)
                case DeviceLog():
                    self._take_log(link, event)
                case Gone():
                    self._devices.left(link, event)
                    self._commands.left(link, event.device)
                case ActuatorChanged():
                    self._devices.actuator_changed(event.device, event.actuator)
                case TakesCommands() | UpdateStated():
                    self._take_word_of_board(link, event)
                case Fault():
                    self._take_fault(link, event)

    def _take_word_of_board(self, link: str, event: TakesCommands | UpdateStated) -> None:
        if isinstance(event, TakesCommands):
            self._commands.ready(link, event.device, event.life)
        elif self._update_stated is not None:
            self._update_stated(event)

    def forget_link(self, link: str) -> None:
        """Note that `link` is gone for good, such as an unplugged port."""
        self._status.links.pop(link, None)
        self._told_faults = {fault for fault in self._told_faults if fault[0] != link}

    def _take_readings(self, readings: Readings) -> None:
        if readings.device in self._devices.disabled:
            samples_in = sum(isinstance(record, Sample) for record in readings.records)
            self._status.counts["samples_disabled"] += samples_in
            self._outbox.pass_over(readings)
            return
        if readings.device in self._processor.devices:
            readings = self._process(readings)
        self._outbox.put(readings)
        entry = self._status.device(readings.device)
        samples = [record for record in readings.records if isinstance(record, Sample)]
        entry.received += len(samples)
        self._status.counts["samples_received"] += len(samples)
        for sample in samples:
            entry.last_s = sample.taken_s
            entry.values.update(sample.values)
        self._devices.heard(readings.device)
        if (heard := self._heard) is not None:
            now_s = self._timekeeper.clock.monotonic_s()
            for sample in samples:
                heard(readings.device, sample.values, now_s)

    def _process(self, readings: Readings) -> Readings:
        """Return what the configuration leaves of readings, and tell what is implausible."""
        processed = self._processor.process(readings)
        if processed.refused:
            self._status.counts["values_implausible"] += processed.refused
        for wrong in processed.implausible:
            event = payloads.implausible(wrong, self._timekeeper.base())
            self._publisher.post(topics.event(self._devices.level(readings.device)), event)
            if (readings.device, wrong.sensor) not in self._told_implausible:
                self._told_implausible.add((readings.device, wrong.sensor))
                _log.warning(
                    "%s: %s was %g, which is implausible (further ones are only published as "
                    "events)",
                    of_device(readings.device),
                    wrong.sensor,
                    wrong.value,
                )
        return processed.readings

    def _take_log(self, link: str, line: DeviceLog) -> None:
        who = of_device(line.device, link) if line.device else on_link(link)
        _log.log(_LOG_LEVELS[line.level], "%s: %s", who, line.text)
        if line.device and line.device not in self._devices.disabled:
            topic = topics.log(self._devices.level(line.device))
            self._publisher.post(topic, payloads.log(line, self._timekeeper.unix_s()))

    def _take_fault(self, link: str, fault: Fault) -> None:
        self._status.counts["faults"] += 1
        self._status.link(link).faults[fault.kind] += 1
        if (link, fault.kind) not in self._told_faults:
            self._told_faults.add((link, fault.kind))
            _log.warning(
                "%s: %s: %s (further ones are only counted)",
                on_link(link, self._status.link(link).device),
                fault.kind,
                fault.detail,
            )
