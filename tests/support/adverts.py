"""Adverts for tests: built by hand, or those in tests/vectors."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.drivers.adverts import AdvertDriver
from gateway.model import Event, Fault, Readings, Sample, Seen, Value

VECTORS = Path(__file__).parents[1] / "vectors"
RUN = 1000
ADDRESS = "A4:C1:38:8D:18:B2"


class AdvertVector(NamedTuple):
    """An advert, and what it says."""

    family: str
    name: str
    advert: Advert
    key: bytes | None
    values: Mapping[str, Value | None]


def full_uuid(short: str) -> str:
    """Return a UUID of 16 bits in full; a full one as it is."""
    return f"0000{short}-0000-1000-8000-00805f9b34fb" if len(short) == 4 else short


def bthome(
    payload: str, *, address: str = ADDRESS, heard_s: float = 1.0, name: str = "", rssi: int = -60
) -> Advert:
    """Return an advert with BTHome service data, in hex."""
    return Advert(address, name, rssi, {}, {full_uuid("fcd2"): bytes.fromhex(payload)}, (), heard_s)


def vectors() -> list[AdvertVector]:
    """Return every advert of both files."""
    return [*_bthome_vectors(), *_family_vectors()]


def _bthome_vectors() -> Iterator[AdvertVector]:
    content = _read("bthome.json")
    for each in content["objects"]:
        values = {each["key"]: each["value"]}
        yield AdvertVector("bthome", each["object"], bthome(f"40{each['object']}"), None, values)
    for each in content["adverts"]:
        data = {full_uuid(each.get("uuid", "fcd2")): bytes.fromhex(each["service_data"])}
        advert = Advert(each["address"], "", -60, {}, data, (), 1.0)
        yield AdvertVector("bthome", each["name"], advert, _key(each), each["values"])


def _family_vectors() -> Iterator[AdvertVector]:
    for each in _read("adverts.json")["adverts"]:
        advert = Advert(
            each["address"],
            each.get("local_name", ""),
            -60,
            {
                int(company, 16): bytes.fromhex(content)
                for company, content in each.get("manufacturer_data", {}).items()
            },
            {
                full_uuid(uuid): bytes.fromhex(content)
                for uuid, content in each.get("service_data", {}).items()
            },
            tuple(full_uuid(uuid) for uuid in each.get("service_uuids", ())),
            1.0,
        )
        yield AdvertVector(each["family"], each["name"], advert, _key(each), each["values"])


def _key(vector: Mapping[str, Any]) -> bytes | None:
    return bytes.fromhex(vector["key"]) if "key" in vector else None


def _read(name: str) -> Any:  # noqa: ANN401  # whatever the JSON holds
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def new_driver(
    keys: Mapping[str, bytes] | None = None, names: Mapping[str, str] | None = None
) -> AdvertDriver:
    """Return a driver whose clock begins at zero."""
    return AdvertDriver(keys or {}, Clock(monotonic_s=lambda: 0.0), RUN, names=names)


def feed(driver: AdvertDriver, *adverts: Advert) -> list[Event]:
    """Return what the driver says to adverts, each at the time it was heard."""
    return [event for advert in adverts for event in driver.feed(advert, advert.heard_s)]


def samples_of(events: Iterable[Event]) -> list[Sample]:
    records = [r for event in events if isinstance(event, Readings) for r in event.records]
    return [record for record in records if isinstance(record, Sample)]


def faults_of(events: Iterable[Event]) -> list[str]:
    return [event.kind for event in events if isinstance(event, Fault)]


def seen_of(events: Iterable[Event]) -> list[Seen]:
    return [event for event in events if isinstance(event, Seen)]
