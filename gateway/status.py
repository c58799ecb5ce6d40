"""What the gateway knows of itself: counters, states and distributions; no I/O."""

import math
from collections import Counter
from dataclasses import dataclass, field

from gateway.model import Description, Gap, Value

MAX_DEVICES = 20_000
"""Devices remembered at once; a hostile link that invents names cannot grow memory beyond it."""


class Histogram:
    """Counts of positive values in four buckets an octave: within 25 %, of fixed size."""

    _PER_OCTAVE = 4
    _BUCKETS = 160

    def __init__(self, smallest: float) -> None:
        """`smallest` is the upper edge of the first bucket, in the unit of the values."""
        self._smallest = smallest
        self._counts = [0] * self._BUCKETS
        self.count = 0
        self.largest = 0.0

    def record(self, value: float) -> None:
        """Count one value."""
        self.count += 1
        self.largest = max(self.largest, value)
        mantissa, exponent = math.frexp(value / self._smallest)  # 0.5 <= mantissa < 1
        bucket = (exponent - 1) * self._PER_OCTAVE + int((mantissa - 0.5) * 2 * self._PER_OCTAVE)
        self._counts[max(0, min(bucket, self._BUCKETS - 1))] += 1

    def quantile(self, share: float) -> float:
        """Return a value that `share` (0..1) of the recorded ones do not exceed; 0.0 when empty."""
        wanted = share * self.count
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                octave, quarter = divmod(bucket, self._PER_OCTAVE)
                edge = math.ldexp(self._smallest, octave) * (1 + (quarter + 1) / self._PER_OCTAVE)
                return min(edge, self.largest)
        return self.largest


@dataclass(slots=True)
class LinkStatus:
    """One port or radio."""

    name: str
    state: str = "closed"
    """closed, opening, open or lost."""
    device: str = ""
    """The device that speaks there, once known."""
    opens: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    rssi: int | None = None
    """Signal strength of the newest advert, in dBm; None where there is no radio."""


@dataclass(slots=True)
class DeviceStatus:
    """One device."""

    device: str
    name: str = ""
    driver: str = ""
    link: str = ""
    online: bool = False
    received: int = 0
    """Samples that entered the outbox."""
    delivered: int = 0
    """Samples the broker has acknowledged."""
    lost: int = 0
    """Samples published as gaps."""
    last_gap: Gap | None = None
    """The newest of them that the broker has."""
    problem: str = ""
    """Why there are no values: needs_key or wrong_key; empty when nothing is wrong."""
    last_s: float = 0.0
    """Monotonic time of the newest sample."""
    values: dict[str, Value] = field(default_factory=dict)
    """Newest value of each sensor."""


@dataclass(slots=True)
class BrokerStatus:
    """The connection to the MQTT broker."""

    address: str = ""
    connected: bool = False
    connects: int = 0
    in_flight: int = 0
    """Messages the broker has not acknowledged yet."""
    trouble: str = ""
    """What is wrong there and how to mend it; empty when nothing is known to be."""


@dataclass(slots=True)
class RadioStatus:
    """The BLE radio."""

    state: str = "off"
    """off (not wanted), no_adapter, scanning or recovering."""
    reason: str = ""
    """Why it is not scanning."""
    mode: str = ""
    """passive or active; empty while it is not scanning."""
    adverts: int = 0
    """Heard since the start."""
    adverts_dropped: int = 0
    """Heard and given up, because they came faster than they were read."""
    adverts_unknown: int = 0
    """Of devices nobody can read, or that have not joined."""
    connected: int = 0
    """Boards that are connected now."""
    recoveries: int = 0
    """How often the scan came back after a failure."""


@dataclass(slots=True)
class StoreStatus:
    """The outbox on disk."""

    state: str = "off"
    """off, opening, ok or failing."""
    error: str = ""
    """Why it is failing."""
    bytes: int = 0
    """How much of the file is in use."""
    oldest_unix_s: float | None = None
    """When the oldest record on disk was taken, as far as is known; None when there is none."""
    stored: int = 0
    """Records committed since the start."""
    commits: int = 0
    failures: int = 0


@dataclass(slots=True)
class ConfigurationStatus:
    """The configuration in force."""

    state: str = "ok"
    """ok, last_good (the file was broken at the start), refused (it was when it was read again)."""
    error: str = ""
    """What is wrong with the file; empty when nothing is."""


@dataclass(slots=True)
class StateStatus:
    """The state database: devices, retained topics, commands."""

    state: str = "off"
    """off, opening, ok or failing."""
    error: str = ""
    """Why it is failing."""
    commits: int = 0
    failures: int = 0


@dataclass(slots=True)
class Status:
    """The one board everything writes to and the health topic, the demo and the tests read."""

    counts: Counter[str] = field(default_factory=Counter)
    """Such as `samples_received`, `samples_delivered`, `samples_dropped`, `posts_dropped`."""
    links: dict[str, LinkStatus] = field(default_factory=dict)
    devices: dict[str, DeviceStatus] = field(default_factory=dict)
    broker: BrokerStatus = field(default_factory=BrokerStatus)
    store: StoreStatus = field(default_factory=StoreStatus)
    state: StateStatus = field(default_factory=StateStatus)
    configuration: ConfigurationStatus = field(default_factory=ConfigurationStatus)
    radio: RadioStatus = field(default_factory=RadioStatus)
    loop_lag_s: Histogram = field(default_factory=lambda: Histogram(0.0001))
    latency_s: Histogram = field(default_factory=lambda: Histogram(0.0001))
    """From taking a sample to the broker's acknowledgement."""
    command_latency_s: Histogram = field(default_factory=lambda: Histogram(0.0001))
    """From a command's arrival to its board's answer."""

    def link(self, name: str) -> LinkStatus:
        """Return the entry of a link, made when it is new."""
        entry = self.links.get(name)
        if entry is None:
            entry = self.links[name] = LinkStatus(name)
        return entry

    def device(self, device: str) -> DeviceStatus:
        """Return the entry of a device; when the table is full an offline one makes room."""
        entry = self.devices.get(device)
        if entry is None:
            if len(self.devices) >= MAX_DEVICES:
                victim = next((d for d, e in self.devices.items() if not e.online), None)
                self.devices.pop(victim or next(iter(self.devices)))
            entry = self.devices[device] = DeviceStatus(device)
        return entry

    def show(self, link: str, description: Description) -> DeviceStatus:
        """Note on which link a device is there, and what it says of itself."""
        entry = self.device(description.device)
        entry.name, entry.driver, entry.link = description.name, description.driver, link
        entry.problem = description.problem
        entry.online = True
        keys = {sensor.key for sensor in description.sensors}
        entry.values = {key: value for key, value in entry.values.items() if key in keys}
        self.link(link).device = description.device
        return entry
