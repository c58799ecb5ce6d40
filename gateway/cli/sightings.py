"""Who is on the air: what `scan` knows of each device that it heard."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gateway.ble.boards import Boards, waiting_there
from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.drivers.adverts import AdvertDriver
from gateway.drivers.text_device import printable
from gateway.model import Event, Readings, Sample, Seen, Value
from gateway.protocol.waiting import MANY

MAX_SIGHTINGS: Final = 4096
"""Devices remembered; the one that was not heard for longest makes room."""


class Kind(Enum):
    """What somebody on the air is to us."""

    BOARD = "board"
    SENSOR = "sensor"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Sighting:
    """One device on the air."""

    address: str
    kind: Kind
    device: str = ""
    """Its name in topics; empty where adverts alone do not give it one."""
    name: str = ""
    model: str = ""
    driver: str = ""
    problem: str = ""
    note: str = ""
    """What there is to say of a device without values."""
    rssi_dbm: int = 0
    heard_s: float = 0.0
    adverts: int = 0
    values: dict[str, Value] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What to call it."""
        return self.device or self.name or self.address


class Sightings:
    """Takes adverts; returns whose news each is."""

    def __init__(self, keys: Mapping[str, bytes], names: Mapping[str, str], clock: Clock) -> None:
        self.strangers = 0
        """Devices that nobody can read, ever heard; counted anew when they were forgotten."""
        self._sensors = AdvertDriver(keys, clock, 0, names=names)
        self._by_address: OrderedDict[str, Sighting] = OrderedDict()

    def hear(self, advert: Advert) -> Sighting | None:
        """Return the device if the advert has news of it: that it is there, a name, values."""
        sighting = self._by_address.get(advert.address)
        is_new = sighting is None
        kind = self._kind(advert)
        if sighting is None:
            sighting = self._by_address[advert.address] = Sighting(advert.address, kind)
            if len(self._by_address) > MAX_SIGHTINGS:
                self._by_address.popitem(last=False)
            self.strangers += kind is Kind.UNKNOWN
        self._by_address.move_to_end(advert.address)
        if sighting.kind is Kind.UNKNOWN and kind is not Kind.UNKNOWN:
            self.strangers -= 1
            sighting.kind, is_new = kind, True
        sighting.rssi_dbm, sighting.heard_s = advert.rssi, advert.heard_s
        sighting.adverts += 1
        if not sighting.name and advert.name and not sighting.device:
            sighting.name, is_new = printable(advert.name), is_new or kind is not Kind.SENSOR
        if not sighting.note or kind is Kind.BOARD:
            sighting.note = _note(advert, kind)
        events = self._sensors.feed(advert, advert.heard_s) if self._sensors.knows(advert) else []
        has_said = [_learn(sighting, event) for event in events]
        return sighting if is_new or any(has_said) else None

    def everybody(self) -> list[Sighting]:
        """Return the devices: boards first, then sensors, each by name; strangers by address."""
        order = list(Kind)
        return sorted(self._by_address.values(), key=lambda s: (order.index(s.kind), s.title))

    def _kind(self, advert: Advert) -> Kind:
        if Boards.is_board(advert):
            return Kind.BOARD
        return Kind.SENSOR if self._sensors.knows(advert) else Kind.UNKNOWN


def _learn(sighting: Sighting, event: Event) -> bool:
    """Take what the driver said; tell whether it is worth a line."""
    if isinstance(event, Seen):
        said = event.description
        sighting.device, sighting.name, sighting.model = said.device, said.name, said.model
        sighting.driver, sighting.problem = said.driver, said.problem
        sighting.units = {sensor.key: sensor.unit for sensor in said.sensors}
        return bool(said.problem)
    if isinstance(event, Readings):
        for record in event.records:
            if isinstance(record, Sample):
                sighting.values.update(record.values)
        sighting.values.pop("rssi", None)
        return True
    return False


def _note(advert: Advert, kind: Kind) -> str:
    if kind is Kind.SENSOR:
        return "nothing that can be read yet"
    if kind is Kind.UNKNOWN:
        companies = ", ".join(f"company {company:04x}" for company in advert.manufacturer_data)
        services = ", ".join(f"service {uuid[4:8]}" for uuid in advert.service_data)
        return ", ".join(filter(None, (companies, services)))
    waiting = waiting_there(advert)
    if waiting is None:
        return "edge-gateway board"
    board = "edge-gateway board that sleeps" if waiting.is_brief else "edge-gateway board"
    count = f"{MANY} or more" if waiting.samples == MANY else str(waiting.samples)
    return f"{board}; {count} samples wait there"
