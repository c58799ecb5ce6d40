"""Watches since when devices are there, what they lost and how strong they are heard."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.devices.device import Device
from gateway.model import Gap
from gateway.mqtt import topics
from gateway.mqtt.diagnostics import PAUSE_S, Diagnostics, LastGap
from gateway.status import Status
from gateway.timekeeper import TimeKeeper

LOOK_S: Final = 5.0
"""How often `look` is to be called."""

_SUFFIX = topics.diagnostics("")[1:]


class Registry(Protocol):
    """What is known of devices."""

    def retain(self, key: str, suffix: str, payload: bytes | None) -> None:
        """Publish a document of a device."""


@dataclass(slots=True)
class _Watched:
    """One device, and what was told of it."""

    device: Device
    is_online: bool | None = None
    online_since_unix_s: float | None = None
    gap: Gap | None = None
    last_gap: LastGap | None = None
    """The same, dated once: the clock may be slewed later."""
    told: Diagnostics | None = None
    told_s: float = float("-inf")


class DiagnosticsWatch:
    """A listener of the registry: keeps `<device>/diagnostics` up to date."""

    def __init__(
        self,
        devices: Registry,
        status: Status,
        timekeeper: TimeKeeper,
        *,
        on_away: Callable[[str], None],
        on_signal: Callable[[str], None],
    ) -> None:
        """Watch nothing yet.

        `on_away` gets each device that left, `on_signal` each whose signal is known from now on.
        """
        self._devices = devices
        self._status = status
        self._timekeeper = timekeeper
        self._on_away = on_away
        self._on_signal = on_signal
        self._watched: dict[str, _Watched] = {}

    def device_changed(self, device: Device) -> None:
        """Watch a device."""
        watched = self._watched.get(device.key)
        if watched is None or watched.device is not device:
            self._watched[device.key] = _Watched(device)

    def device_removed(self, device: Device) -> None:
        """Watch it no more; the registry takes back what was published."""
        self._watched.pop(device.key, None)

    def look(self) -> None:
        """Tell what has changed."""
        now_s = self._timekeeper.clock.monotonic_s()
        offset_s = self._timekeeper.base().offset_s
        for key, watched in self._watched.items():
            is_online = watched.device.is_online
            if is_online is None:
                continue  # nothing was heard of it yet
            if is_online is not watched.is_online:
                watched.is_online = is_online
                watched.online_since_unix_s = now_s + offset_s if is_online else None
                if not is_online:
                    self._on_away(key)
            if now_s >= watched.told_s + PAUSE_S:
                self._tell(key, watched, now_s, offset_s)

    def _tell(self, key: str, watched: _Watched, now_s: float, offset_s: float) -> None:
        diagnostics, told = self._diagnostics(key, watched, offset_s), watched.told
        if not diagnostics.differs_from(told):
            return
        watched.told, watched.told_s = diagnostics, now_s
        self._devices.retain(key, _SUFFIX, diagnostics.payload())
        if diagnostics.rssi is not None and (told is None or told.rssi is None):
            self._on_signal(key)

    def _diagnostics(self, key: str, watched: _Watched, offset_s: float) -> Diagnostics:
        entry = self._status.devices.get(key)
        link = self._status.links.get(watched.device.link)
        gap = None if entry is None else entry.last_gap
        if gap is not None and gap is not watched.gap:
            watched.gap = gap
            watched.last_gap = LastGap(gap.seen_s + offset_s, gap.cause, gap.count)
        return Diagnostics(
            watched.online_since_unix_s,
            0 if entry is None else entry.lost,
            watched.last_gap,
            None if link is None else link.rssi,
        )
