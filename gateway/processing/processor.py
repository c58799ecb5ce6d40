"""Takes the samples of devices as they come, and returns them as they are published."""

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.model import (
    MAX_SLUG,
    Description,
    Implausible,
    Readings,
    Record,
    Sample,
    Value,
    window_key,
)
from gateway.processing.descriptions import described
from gateway.processing.rules import EVERY_OTHER, DeviceRule, SensorRule
from gateway.processing.steps import Track

MAX_TRACKS: Final = 256
"""Sensors of a device that are remembered; drivers let fewer pass. Others stay as they are."""


class Processed(NamedTuple):
    """What became of readings."""

    readings: Readings
    """Of the same numbers, in the same order; a sample may have fewer values, or none."""
    implausible: tuple[Implausible, ...]
    """To be told now."""
    refused: int
    """Values that were implausible, told or not."""


class Processor:
    """Applies rules to the samples of devices; each sample must pass it exactly once, in order.

    It goes by the time at which samples were taken, never by the clock: what a board kept for
    hours is processed as if it had come at once.
    """

    def __init__(self, rules: Mapping[str, DeviceRule]) -> None:
        """`rules` has the devices by their keys; others stay as they are."""
        self._devices: dict[str, _Device] = {}
        self.devices: Container[str] = self._devices
        """Those it does something with; a dict, as it is asked about every sample."""
        self.reconfigure(rules)

    def reconfigure(self, rules: Mapping[str, DeviceRule]) -> None:
        """Take other rules; of devices whose rule is the same, windows and the rest go on."""
        before = self._devices.copy()
        self._devices.clear()
        for device, rule in rules.items():
            kept = before.get(device)
            if kept is not None and kept.rule == rule:
                self._devices[device] = kept
            elif rule.sensors:
                self._devices[device] = _Device(rule)

    def process(self, readings: Readings) -> Processed:
        """Return what is left of readings."""
        device = self._devices.get(readings.device)
        if device is None:
            return Processed(readings, (), 0)
        implausible: list[Implausible] = []
        refused = 0
        records: list[Record] = []
        for record in readings.records:
            if isinstance(record, Sample):
                sample, wrong = device.process(record)
                records.append(sample)
                for track, value in wrong:
                    refused += 1
                    if count := track.tell(sample.taken_s):
                        low, high = track.rule.low, track.rule.high
                        implausible.append(Implausible(sample, track.key, value, low, high, count))
            else:
                records.append(record)
        left = Readings(readings.device, tuple(records), readings.on_safe)
        return Processed(left, tuple(implausible), refused)

    def describe(self, description: Description) -> Description:
        """Return the description with the sensors as they are published."""
        device = self._devices.get(description.device)
        if device is None:
            return description
        sensors = tuple(
            published
            for sensor in description.sensors
            for published in described(sensor, device.track(sensor.key))
        )
        return replace(description, sensors=sensors)


class _Device:
    """The sensors of one device."""

    def __init__(self, rule: DeviceRule) -> None:
        self.rule = rule
        self._other = SensorRule(EVERY_OTHER)
        self._tracks: dict[str, Track] = {}
        for sensor in rule.sensors:
            if sensor.source == EVERY_OTHER:
                self._other = sensor
                continue
            key = sensor.rename or sensor.source
            beside_keys = tuple(window_key(key, window) for window in sensor.beside)
            self._tracks[sensor.source] = Track(sensor, key, beside_keys)
        self._taken = {
            key for track in self._tracks.values() for key in (track.key, *track.beside_keys)
        }

    def track(self, source: str) -> Track:
        """Return the track of a sensor, as the device calls it; made when it is new."""
        track = self._tracks.get(source)
        if track is not None:
            return track
        is_known = len(self._tracks) < MAX_TRACKS
        key = self._free_key(source)
        track = Track(self._other if is_known else SensorRule(EVERY_OTHER), key)
        if is_known:
            self._tracks[source] = track
            self._taken.add(key)
        return track

    def process(self, sample: Sample) -> tuple[Sample, list[tuple[Track, float]]]:
        """Return what is left of a sample, and what was implausible in it."""
        device, boot, seq, taken_s, source_values = sample
        values: dict[str, Value] = {}
        wrong: list[tuple[Track, float]] = []
        tracks = self._tracks
        for source, value in source_values.items():
            track = tracks.get(source) or self.track(source)
            if not track.steps or isinstance(value, (bool, str)):
                values[track.key] = value
                continue
            number = _left_of(value, track, taken_s)
            if number is not None:
                values[track.key] = track.last = number
                track.last_s = taken_s
            if track.beside:
                values.update(track.beside)
                track.beside.clear()
            if track.refused is not None:
                wrong.append((track, track.refused))
                track.refused = None
        return Sample(device, boot, seq, taken_s, values), wrong

    def _free_key(self, wanted: str) -> str:
        """Return the key, with a number if another sensor was given its name."""
        number, key = 1, wanted
        while key in self._taken:
            number += 1
            suffix = f"_{number}"
            key = wanted[: MAX_SLUG - len(suffix)] + suffix
        return key


def _left_of(number: float, track: Track, taken_s: float) -> float | None:
    for step in track.steps:
        left = step(track, number, taken_s)
        if left is None:
            return None
        number = left
    return number
