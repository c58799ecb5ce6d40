"""Adverts that are garbage: nothing is raised, and nothing grows without end."""

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from gateway.clock import TimeBase
from gateway.drivers.advert import Advert
from gateway.drivers.advert_device import RECENT
from gateway.drivers.advert_families import FAMILIES, Family, families_of
from gateway.drivers.advert_values import MAX_KEYS
from gateway.drivers.text_device import MAX_SENSORS
from gateway.model import DeviceLog, Event, Fault, Gone, Readings, Sample, Seen
from gateway.mqtt import payloads
from gateway.mqtt.payloads import SamplePayloads
from tests.support.adverts import (
    ADDRESS,
    AdvertVector,
    bthome,
    full_uuid,
    new_driver,
    samples_of,
    vectors,
)
from tests.support.effort import examples

BY_FAMILY: dict[str, list[AdvertVector]] = {}
for _vector in vectors():
    BY_FAMILY.setdefault(_vector.family, []).append(_vector)

UUIDS = [full_uuid(s) for s in ("fcd2", "181c", "181e", "fe95", "fd50", "181d", "181b", "fdcd")]
UUIDS += [full_uuid(s) for s in ("1000", "fff0", "fee5", "ec88", "8151", "5550", "ffff")]
COMPANIES = [0x0499, 0xEC88, 0x8801, 1, 0x59, 9289, 12628, 16, 21, 0x4C, 0xFFFF]
NAMES = ["", "sps", "tps", "iBBQ", "ITH-11-B", "ink@iam-t1", "GVH5075_2762", "GV5121", "B5178"]
NAMES += ["Govee_H5179", "GV5140", "TP357 (1)", "TP972S", "Moat_S2", "HT.w", "s", "ATC_8D18B2"]
BASE = TimeBase(0.0, "synced")
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")

CONTENT = st.binary(max_size=40)
SERVICES = st.dictionaries(st.sampled_from(UUIDS), CONTENT, max_size=3)
MAKERS = st.dictionaries(st.sampled_from(COMPANIES) | st.integers(0, 65535), CONTENT, max_size=3)
LOCAL_NAMES = st.sampled_from(NAMES) | st.text(max_size=20)
ANY_ADVERT = st.builds(
    Advert,
    address=st.just(ADDRESS),
    name=LOCAL_NAMES,
    rssi=st.integers(-128, 127),
    manufacturer_data=MAKERS,
    service_data=SERVICES,
    service_uuids=st.lists(st.sampled_from(UUIDS), max_size=3).map(tuple),
    heard_s=st.floats(0.0, 1e6),
    raw=st.just(b"") | CONTENT,
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Tracebacks of garbage are of no interest here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def check(events: list[Event]) -> None:
    """Assert that whatever came out can be published."""
    writer = SamplePayloads()
    for event in events:
        assert isinstance(event, Seen | Readings | Fault | DeviceLog | Gone)
        if isinstance(event, Seen):
            assert len(event.description.sensors) <= MAX_SENSORS
            payloads.info(event.description).decode()
        if isinstance(event, Readings):
            for record in event.records:
                assert isinstance(record, Sample)
                writer.state(record, BASE).decode()


@seed(20_261_123)
@settings(max_examples=examples(120), deadline=None, database=None)
@given(st.lists(ANY_ADVERT, min_size=1, max_size=8), st.sampled_from([{}, {ADDRESS: KEY}]))
def test_any_advert_can_be_fed(adverts: list[Advert], keys: dict[str, bytes]) -> None:
    driver = new_driver(keys)

    numbers: dict[tuple[str, int], list[int]] = {}
    for advert in adverts:
        events = driver.feed(advert, advert.heard_s)
        check(events)
        check(driver.tick(advert.heard_s))
        for sample in samples_of(events):
            numbers.setdefault((sample.device, sample.boot), []).append(sample.seq)

    assert all(seqs == list(range(len(seqs))) for seqs in numbers.values())


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@seed(20_261_124)
@settings(max_examples=examples(50), deadline=None, database=None)
@given(data=st.data())
def test_damaged_adverts_of_each_family_can_be_fed(family: Family, data: st.DataObject) -> None:
    vector = data.draw(st.sampled_from(BY_FAMILY[family.name]), label="vector")
    driver = new_driver({} if vector.key is None else {vector.advert.address: vector.key})

    for number in range(data.draw(st.integers(1, 6), label="adverts")):
        advert = damaged(vector.advert, data, float(number))
        check(driver.feed(advert, advert.heard_s))


def damaged(advert: Advert, data: st.DataObject, heard_s: float) -> Advert:
    """Flip bytes, cut, append, in one field."""

    def hurt(content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(0, 4))):
            if changed:
                at = data.draw(st.integers(0, len(changed) - 1))
                changed[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(changed)))
        whole = data.draw(st.booleans())
        return bytes(changed if whole else changed[:cut]) + data.draw(st.binary(max_size=8))

    return Advert(
        advert.address,
        advert.name if data.draw(st.booleans()) else data.draw(LOCAL_NAMES),
        -60,
        {company: hurt(content) for company, content in advert.manufacturer_data.items()},
        {uuid: hurt(content) for uuid, content in advert.service_data.items()},
        advert.service_uuids,
        heard_s,
    )


@seed(20_261_125)
@settings(max_examples=examples(60), deadline=None, database=None)
@given(st.binary(min_size=1, max_size=255), st.booleans())
def test_any_service_data_of_bthome_can_be_fed(content: bytes, is_v2: bool) -> None:
    driver = new_driver({ADDRESS: KEY} if content[0] & 1 else {})
    payload = (bytes([0x40 | content[0] & 7]) + content[1:]).hex() if is_v2 else content.hex()

    check(driver.feed(bthome(payload), 1.0))


def test_one_sensor_cannot_grow_without_end() -> None:
    driver = new_driver()
    quantities = ["0161", "02ca09", "03bf13", "0960", "0c020c", "14020c", "2e23", "451101"]

    for number in range(600):  # each advert repeats another quantity another number of times
        packet = quantities[number % 8] * (1 + number % 37)
        check(driver.feed(bthome(f"4000{number % 256:02x}{packet}", heard_s=float(number)), 1.0))

    gc.collect()
    (device,) = (each for each in gc.get_objects() if type(each).__name__ == "AdvertDevice")
    assert len(device._recent) <= RECENT  # noqa: SLF001  # what must not grow is inside
    assert len(device.decoder._told) <= MAX_KEYS + 64  # noqa: SLF001  # the same; one advert more


@pytest.mark.alone
def test_a_flood_of_invented_addresses_does_not_grow_the_memory() -> None:
    driver = new_driver()
    for vector in vectors():  # every library is loaded, and every parser has run once
        driver.feed(vector.advert, 1.0)
    gc.collect()
    before_bytes = resident_bytes()

    for number in range(100_000):
        address = f"{number:012X}"
        advert = bthome(
            "4002ca0903bf13", address=":".join(address[at : at + 2] for at in range(0, 12, 2))
        )
        driver.feed(advert, 2.0 + number * 0.001)
        assert families_of(advert)
    gc.collect()

    assert resident_bytes() - before_bytes < 5 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
