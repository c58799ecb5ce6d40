"""Commercial sensors from their adverts: values, names, numbers, repetitions, keys."""

import dataclasses
import logging
import subprocess
import sys
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.drivers.advert_device import EVENT_REPEAT_S, REPEAT_S, WRONG_KEY_AFTER
from gateway.drivers.advert_families import FAMILIES, families_of
from gateway.drivers.adverts import MAX_DEVICES, NEWCOMERS, AdvertDriver
from gateway.drivers.text_device import MAX_SENSORS
from gateway.model import DeviceLog, Fault, Gone, Readings, Sample, Seen, Sensor
from gateway.protocol.delivery import DeliveryBook
from tests.support.adverts import (
    ADDRESS,
    RUN,
    AdvertVector,
    bthome,
    faults_of,
    feed,
    full_uuid,
    new_driver,
    samples_of,
    seen_of,
    vectors,
)

ALL = vectors()
SHELLY = "54:48:E6:8F:80:A5"
SHELLY_KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
EXAMPLE = "41e445f3c9962b332211006c7c4519"
"""25.06 °C, 50.55 %, counter 1122867: https://bthome.io/encryption."""
EXAMPLE_COUNTER = 1122867


def sealed(counter: int, objects: str = "02ca0903bf13", key: bytes = SHELLY_KEY) -> str:
    """Encrypt BTHome objects as https://bthome.io/encryption says."""
    head, count = b"\x41", counter.to_bytes(4, "little")
    nonce = bytes.fromhex(SHELLY.replace(":", "")) + b"\xd2\xfc" + head + count
    box = AESCCM(key, tag_length=4).encrypt(nonce, bytes.fromhex(objects), None)
    return (head + box[:-4] + count + box[-4:]).hex()


# Values


def ids(vector: object) -> str:
    return f"{vector.family} {vector.name}" if isinstance(vector, AdvertVector) else str(vector)


@pytest.mark.parametrize("vector", ALL, ids=ids)
def test_each_family_decodes_to_its_documented_values(vector: AdvertVector) -> None:
    driver = new_driver({} if vector.key is None else {vector.advert.address: vector.key})

    events = feed(driver, vector.advert)

    assert faults_of(events) == []
    samples = samples_of(events)
    values = dict(samples[0].values) if samples else {}
    assert {key: values.get(key) for key in vector.values} == vector.values
    assert driver.unknown == 0


def test_every_family_has_a_captured_advert() -> None:
    assert {vector.family for vector in ALL} == {family.name for family in FAMILIES}


def test_the_examples_of_the_format_have_their_units() -> None:
    driver = new_driver()

    events = feed(driver, bthome("4002c40903bf13"))

    (seen,) = seen_of(events)
    assert seen.description.sensors == (
        Sensor("temperature", "°C", "temperature"),
        Sensor("humidity", "%", "humidity"),
        Sensor("rssi", "dBm", "signal_strength", is_diagnostic=True),
    )


def test_a_sample_has_the_signal_and_the_battery_with_it_and_both_are_diagnostics() -> None:
    driver = new_driver()

    seen, readings = feed(driver, bthome("400161", rssi=-71))

    assert isinstance(seen, Seen)
    assert isinstance(readings, Readings)
    expected = Sample("bthome_18b2", RUN, 0, 1.0, {"battery": 97, "rssi": -71})
    assert list(readings.records) == [expected]
    assert readings.on_safe is None
    assert all(sensor.is_diagnostic for sensor in seen.description.sensors)


def test_a_reading_that_a_sensor_does_not_have_is_left_out() -> None:
    driver = new_driver()
    invalid = bytes.fromhex("058000ffffffff800080008000ffffffffffffffffffffff")  # Ruuvi's vector
    advert = Advert("CB:B8:33:4C:88:4F", "", -60, {0x0499: invalid}, {}, (), 1.0)

    (sample,) = samples_of(feed(driver, advert))

    assert not {"temperature", "humidity", "pressure", "voltage"} & set(sample.values)


def test_quantities_that_come_in_two_packets_are_not_repeated_in_the_other() -> None:
    driver = new_driver()

    first, second = samples_of(feed(driver, bthome("40000102ca09"), bthome("40000203bf13")))

    assert dict(first.values) == {"temperature": 25.06, "rssi": -60}
    assert dict(second.values) == {"humidity": 50.55, "rssi": -60}


def test_a_battery_in_percent_and_one_that_is_low_have_names_of_their_own() -> None:
    driver = new_driver()

    (sample,) = samples_of(feed(driver, bthome("4001611501")))

    assert dict(sample.values) == {"battery": 97, "battery_low": True, "rssi": -60}


# Who it is


def test_a_device_is_named_by_family_and_address_whatever_it_says_of_itself() -> None:
    named, nameless = new_driver(), new_driver()

    (told,) = seen_of(feed(named, bthome("400161", name="SBHT-003C")))
    (silent,) = seen_of(feed(nameless, bthome("400161")))

    assert told.description.device == silent.description.device == "bthome_18b2"
    assert told.description.name == "Shelly BLU H&T 18B2"
    assert told.description.model == "Shelly BLU H&T"
    assert silent.description.name == "BTHome sensor 18B2"
    assert told.description.driver == "bthome"
    assert told.description.address == ADDRESS
    assert told.description.boot == RUN


def test_a_name_from_the_configuration_counts() -> None:
    driver = new_driver(names={ADDRESS: "Cold Room"})

    (seen,) = seen_of(feed(driver, bthome("400161", name="SBHT-003C")))

    assert (seen.description.device, seen.description.name) == ("cold_room", "Cold Room")


def test_a_name_that_is_heard_later_is_told() -> None:
    driver = new_driver()

    feed(driver, bthome("40000102ca09"))
    soon = feed(driver, bthome("40000202ca09", name="SBHT-003C", heard_s=2.0))
    later = feed(driver, bthome("40000302ca09", heard_s=62.0))

    assert seen_of(soon) == []
    (seen,) = seen_of(later)
    assert seen.description.name == "Shelly BLU H&T 18B2"


def test_two_sensors_with_the_same_last_digits_are_two_devices() -> None:
    driver = new_driver()

    first, second = seen_of(
        feed(driver, bthome("400161"), bthome("400161", address="11:22:33:44:18:B2"))
    )

    assert first.description.device == "bthome_18b2"
    assert second.description.device == "bthome_1122334418b2"


def test_a_device_that_speaks_on_another_link_is_refused() -> None:
    book = DeliveryBook()
    book.claim("bthome_18b2", "a port")
    driver = AdvertDriver({}, Clock(monotonic_s=lambda: 0.0), RUN, book=book)

    events = feed(driver, bthome("400161"))

    assert faults_of(events) == ["duplicate_id"]
    assert samples_of(events) == []


def test_a_sensor_that_grows_is_described_again() -> None:
    driver = new_driver()

    first, second = seen_of(feed(driver, bthome("40000102ca09"), bthome("40000203bf13")))

    assert [sensor.key for sensor in first.description.sensors] == ["temperature", "rssi"]
    assert [s.key for s in second.description.sensors] == ["temperature", "humidity", "rssi"]


# Numbers and repetitions


def test_the_gateway_numbers_the_samples() -> None:
    driver = new_driver()

    adverts = [bthome(f"4000{number:02x}02ca09") for number in range(3)]
    samples = samples_of(feed(driver, *adverts))

    assert [(sample.boot, sample.seq) for sample in samples] == [(RUN, 0), (RUN, 1), (RUN, 2)]


def test_a_packet_id_that_was_heard_is_one_sample_however_late() -> None:
    driver = new_driver()
    packet = "40000902ca09"

    times = (1.0, 1.1, 6.0, 100.0, 1000.0)
    samples = samples_of(feed(driver, *(bthome(packet, heard_s=time_s) for time_s in times)))

    assert [sample.taken_s for sample in samples] == [1.0]


def test_packet_ids_begin_again_after_255() -> None:
    driver = new_driver()

    adverts = [bthome(f"4000{n % 256:02x}01{n % 100:02x}", heard_s=1.0 + n) for n in range(600)]

    assert len(samples_of(feed(driver, *adverts))) == 600


def test_equal_values_without_a_packet_id_are_a_sample_again_after_a_while() -> None:
    driver = new_driver()

    times = [1.0 + second for second in range(round(2 * REPEAT_S) + 1)]
    samples = samples_of(feed(driver, *(bthome("4002ca09", heard_s=each) for each in times)))

    assert [sample.taken_s for sample in samples] == [1.0, 1.0 + REPEAT_S, 1.0 + 2 * REPEAT_S]


def test_a_press_that_is_repeated_is_one_and_a_later_one_is_another() -> None:
    driver = new_driver()
    press = "443a01"

    times = (1.0, 1.5, 2.0, 2.0 + EVENT_REPEAT_S)
    samples = samples_of(feed(driver, *(bthome(press, heard_s=each) for each in times)))

    assert [(sample.taken_s, sample.values["button"]) for sample in samples] == [
        (1.0, "press"),
        (2.0 + EVENT_REPEAT_S, "press"),
    ]


def test_packets_that_take_turns_are_each_one_sample() -> None:
    driver = new_driver()
    turns = ["4002ca09", "400c020c", "400161"]

    adverts = [bthome(turns[n % 3], heard_s=1.0 + n * 0.1) for n in range(30)]

    assert len(samples_of(feed(driver, *adverts))) == 3


def test_a_sensor_that_speaks_two_formats_is_one_device_for_each() -> None:
    """BlueZ hands out the newest service data of each UUID together, whichever just came."""
    driver = new_driver()
    plant = full_uuid("fd50")  # HHCCJCY10: moisture, temperature, light, battery, conductivity

    def heard(packet_id: int, moisture: int, heard_s: float) -> Advert:
        newest = bthome(f"4000{packet_id:02x}02ca09", heard_s=heard_s)
        other = bytes([moisture]) + bytes.fromhex("00c8" + "000000" + "64" + "0000")
        return dataclasses.replace(newest, service_data={**newest.service_data, plant: other})

    events = feed(driver, heard(1, 40, 1.0), heard(2, 40, 100.0), heard(2, 41, 200.0))

    assert [(sample.device, sample.taken_s) for sample in samples_of(events)] == [
        ("bthome_18b2", 1.0),
        ("xiaomi_18b2", 1.0),
        ("bthome_18b2", 100.0),  # the other is left over
        ("xiaomi_18b2", 200.0),
    ]


def test_what_an_advert_carries_for_others_makes_no_new_packet() -> None:
    driver = new_driver()
    packet = bthome("40000902ca09")

    adverts = [
        dataclasses.replace(packet, manufacturer_data={0xFFFF: bytes([waiting, 0])})
        for waiting in range(10)
    ]

    assert len(samples_of(feed(driver, *adverts))) == 1


# Keys


def test_a_sensor_whose_key_is_not_known_is_shown_once_and_has_no_values() -> None:
    driver = new_driver()

    events = feed(
        driver,
        *(bthome(sealed(n), address=SHELLY, heard_s=float(n)) for n in range(1, 20)),
    )

    (seen,) = seen_of(events)
    assert seen.description.problem == "needs_key"
    (log,) = [event for event in events if isinstance(event, DeviceLog)]
    assert "bind_key" in log.text
    assert samples_of(events) == []
    assert faults_of(events) == ["needs_key"] * 19


def test_a_wrong_key_is_shown_once_after_some_adverts() -> None:
    driver = new_driver({SHELLY: bytes(16)})

    each = [
        feed(driver, bthome(sealed(n), address=SHELLY, heard_s=float(n)))
        for n in range(1, WRONG_KEY_AFTER + 5)
    ]

    told = [seen for events in each for seen in seen_of(events)]
    assert [seen.description.problem for seen in told] == ["wrong_key"]
    assert seen_of(each[WRONG_KEY_AFTER - 1])
    assert not samples_of(event for events in each for event in events)
    logs = [event for events in each for event in events if isinstance(event, DeviceLog)]
    assert len(logs) == 1


@pytest.mark.parametrize("key", [b"", b"short", bytes(12), bytes(32)])
def test_a_key_of_a_wrong_length_is_a_wrong_key(
    key: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    driver = new_driver({SHELLY: key})

    events = feed(
        driver, *(bthome(sealed(n), address=SHELLY, heard_s=float(n)) for n in range(1, 9))
    )

    assert samples_of(events) == []
    assert seen_of(events)[-1].description.problem == ("wrong_key" if key else "needs_key")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 1


def test_one_advert_of_somebody_else_is_no_problem() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY})

    feed(driver, bthome(sealed(200), address=SHELLY, heard_s=1.0))
    forged = feed(driver, bthome(sealed(300, key=bytes(16)), address=SHELLY, heard_s=2.0))
    genuine = feed(driver, bthome(sealed(201), address=SHELLY, heard_s=3.0))

    assert faults_of(forged) == ["not_decrypted"]
    assert seen_of(forged) == []
    assert len(samples_of(genuine)) == 1


def test_a_problem_that_is_over_is_told() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY})
    for number in range(WRONG_KEY_AFTER):
        advert = bthome(sealed(number, key=bytes(16)), address=SHELLY, heard_s=float(number))
        feed(driver, advert)

    events = feed(driver, bthome(sealed(1000), address=SHELLY, heard_s=10.0))

    assert [seen.description.problem for seen in seen_of(events)][-1] == ""
    assert len(samples_of(events)) == 1


def test_a_counter_that_was_heard_or_is_lower_is_refused() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY})

    feed(driver, bthome(EXAMPLE, address=SHELLY, heard_s=1.0))
    equal = feed(driver, bthome(EXAMPLE, address=SHELLY, heard_s=1000.0))
    recorded = [sealed(EXAMPLE_COUNTER - 1), sealed(5), sealed(99), sealed(100)]
    replayed = feed(driver, *(bthome(each, address=SHELLY, heard_s=2.0) for each in recorded))
    next_one = feed(driver, bthome(sealed(EXAMPLE_COUNTER + 1), address=SHELLY, heard_s=3.0))

    assert equal == []
    assert faults_of(replayed) == ["replayed"] * 4
    assert samples_of(replayed) == []
    assert len(samples_of(next_one)) == 1


def test_a_counter_begins_again_after_a_change_of_batteries() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY})
    for second in range(20):  # it is heard each second, and so counts as silent after a minute
        feed(driver, bthome(sealed(5000 + second), address=SHELLY, heard_s=float(second)))

    too_soon = feed(driver, bthome(sealed(1), address=SHELLY, heard_s=60.0))
    too_high = feed(driver, bthome(sealed(1000), address=SHELLY, heard_s=90.0))
    after = feed(driver, bthome(sealed(400), address=SHELLY, heard_s=91.0))
    following = feed(driver, bthome(sealed(401), address=SHELLY, heard_s=92.0))

    assert faults_of([*too_soon, *too_high]) == ["replayed"] * 2
    assert len(samples_of([*after, *following])) == 2


def test_a_sensor_with_a_key_may_not_speak_plainly() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY})

    first = feed(driver, bthome("400161", address=SHELLY))
    feed(driver, bthome(EXAMPLE, address=SHELLY, heard_s=2.0))
    second = feed(driver, bthome("400162", address=SHELLY, heard_s=3.0))

    assert faults_of(first) == faults_of(second) == ["downgrade"]
    assert samples_of([*first, *second]) == []


def test_a_sensor_with_a_key_may_not_change_to_a_family_without() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY})
    ruuvi = bytes.fromhex("0512fc5394c37c0004fffc040cac364200cdcbb8334c884f")

    events = feed(driver, Advert(SHELLY, "", -60, {0x0499: ruuvi}, {}, (), 1.0))

    assert faults_of(events) == ["downgrade"]
    assert samples_of(events) == []


XIAOMI = "A4:C1:38:02:83:F4"
XIAOMI_KEY = bytes.fromhex("e9ea895fac7cca6d30532432a516f3a8")


def mibeacon(counter: int, humidity: int = 467) -> Advert:
    """Seal a frame of a LYWSD03MMC, MiBeacon 5, as xiaomi-ble opens it."""
    extension = (counter >> 8).to_bytes(3, "little")
    mac = bytes.fromhex(XIAOMI.replace(":", ""))[::-1]
    head = bytes.fromhex("58585b05") + bytes([counter & 0xFF])
    nonce = mac + head[2:5] + extension
    plain = bytes.fromhex("061002") + humidity.to_bytes(2, "little")
    box = AESCCM(XIAOMI_KEY, tag_length=4).encrypt(nonce, plain, b"\x11")
    frame = head + mac + box[:-4] + extension + box[-4:]
    return Advert(XIAOMI, "", -60, {}, {full_uuid("fe95"): frame}, (), 1.0)


def test_xiaomi_frames_that_were_recorded_are_refused_too() -> None:
    driver = new_driver({XIAOMI: XIAOMI_KEY})

    fresh = feed(driver, mibeacon(0x2650), mibeacon(0x2651, 470), mibeacon(0x2700, 480))
    replayed = feed(driver, mibeacon(0x2650), mibeacon(0x26FF, 490))

    assert [sample.values["humidity"] for sample in samples_of(fresh)] == [46, 47, 48]
    assert samples_of(replayed) == []
    assert faults_of(replayed) == ["replayed"]  # the first is a repetition of what was just heard


def test_xiaomi_frames_without_objects_are_no_downgrade_and_with_them_they_are() -> None:
    driver = new_driver({XIAOMI: XIAOMI_KEY})
    plain = bytes.fromhex("50305b0503f4830238c1a40d10041001ea01")  # LYWSD03MMC before binding
    empty = bytes.fromhex("30585b0502f4830238c1a408")

    def heard(frame: bytes) -> Advert:
        return Advert(XIAOMI, "", -60, {}, {full_uuid("fe95"): frame}, (), 1.0)

    assert feed(driver, heard(empty)) == []
    assert faults_of(feed(driver, heard(plain))) == ["downgrade"]


# Who falls silent


def test_a_silent_sensor_leaves_and_comes_back() -> None:
    driver = new_driver()
    for second in range(30):
        feed(driver, bthome(f"4000{second:02x}02ca09", heard_s=float(second)))

    present = driver.tick(85.0)
    gone = driver.tick(95.0)
    back = feed(driver, bthome("40001d02ca09", heard_s=100.0))  # a repetition is a sign of life

    assert present == []
    assert gone == [Gone("bthome_18b2", "silent")]
    assert driver.tick(101.0) == []
    assert [type(event) for event in back] == [Seen]


def test_a_pause_of_the_scanner_is_nobodys_silence() -> None:
    driver = new_driver()
    for second in range(30):
        feed(driver, bthome(f"4000{second:02x}02ca09", heard_s=float(second)))

    driver.paused(40.0)
    while_paused = driver.deadline_s, driver.tick(500.0)
    driver.resumed(1000.0)
    soon, later = driver.tick(1045.0), driver.tick(1055.0)

    assert while_paused == (None, [])
    assert soon == []
    assert later == [Gone("bthome_18b2", "silent")]


def test_replays_do_not_keep_a_sensor_alive() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY})
    newest = bthome(sealed(1030), address=SHELLY, heard_s=30.0)
    adverts = [bthome(sealed(1000 + n), address=SHELLY, heard_s=float(n)) for n in range(30)]
    feed(driver, *adverts, newest)

    feed(driver, *(dataclasses.replace(newest, heard_s=each) for each in (50.0, 70.0, 90.0)))

    assert driver.tick(91.0) == [Gone("bthome_80a5", "silent")]


def test_whoever_is_there_leaves_with_the_radio() -> None:
    driver = new_driver()
    feed(driver, bthome("400161"))

    assert driver.close(2.0) == [Gone("bthome_18b2", "closed")]


# Who is not known


IPHONE = Advert(ADDRESS, "", -60, {0x004C: bytes.fromhex("10050b1c8a4cd1")}, {}, (), 1.0)
BEACON = Advert(ADDRESS, "tile", -60, {}, {full_uuid("feed"): b"\x02\x00"}, (full_uuid("feed"),), 1)
NOKIA = Advert(ADDRESS, "", -60, {0x0001: bytes.fromhex("010103c730640000")}, {}, (), 1.0)
NORDIC = Advert(ADDRESS, "", -60, {0x0059: bytes(10)}, {}, (), 1.0)


@pytest.mark.parametrize("advert", [IPHONE, BEACON, NOKIA, NORDIC])
def test_what_no_family_claims_is_only_counted(advert: Advert) -> None:
    driver = new_driver()

    assert feed(driver, advert, advert) == []
    assert driver.unknown == 2
    assert not driver.knows(advert)
    assert driver.needs(advert) is None


@pytest.mark.parametrize("vector", ALL, ids=ids)
def test_each_vector_is_claimed_by_its_family(vector: AdvertVector) -> None:
    assert [family.name for family in families_of(vector.advert)] == [vector.family]


def test_a_library_is_loaded_when_the_family_is_heard() -> None:
    driver = new_driver()
    advert = bthome("400161")

    before = driver.needs(advert)
    assert before is not None
    driver.load(before)

    assert driver.needs(advert) is None
    assert driver.knows(advert)


def test_no_library_is_imported_before_a_family_is_heard() -> None:
    modules = sorted(family.module for family in FAMILIES)
    script = (
        "import sys, gateway.drivers.adverts; "
        f"assert not {{*{modules}, 'habluetooth', 'bleak', 'cryptography'}} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_library_that_is_missing_is_a_fault_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ruuvitag_ble", None)
    driver = new_driver()
    ruuvi = bytes.fromhex("0512fc5394c37c0004fffc040cac364200cdcbb8334c884f")
    advert = Advert(ADDRESS, "", -60, {0x0499: ruuvi}, {}, (), 1.0)

    events = feed(driver, advert, advert)

    assert faults_of(events) == ["library_missing"] * 2
    assert all("edge-gateway[ble-devices]" in e.detail for e in events if isinstance(e, Fault))
    assert samples_of(feed(driver, bthome("400161")))


def test_a_library_that_does_not_fit_is_a_fault_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ruuvitag_ble", ModuleType("ruuvitag_ble"))  # lacks its parser
    driver = new_driver()
    ruuvi = bytes.fromhex("0512fc5394c37c0004fffc040cac364200cdcbb8334c884f")
    advert = Advert(ADDRESS, "", -60, {0x0499: ruuvi}, {}, (), 1.0)

    events = feed(driver, advert, advert)

    assert faults_of(events) == ["library_unusable"] * 2
    assert samples_of(feed(driver, bthome("400161")))


# Hostile ones


def test_a_parser_that_fails_is_a_fault_with_one_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = new_driver()
    adverts = [
        Advert(ADDRESS, "", -60, {0x0499: b"\x05" + bytes([n])}, {}, (), 1.0) for n in range(5)
    ]

    events = feed(driver, *adverts)  # data format 5 has 24 bytes; the library raises ValueError

    assert faults_of(events) == ["ruuvitag_parser"] * 5
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_a_sensor_that_invents_quantities_has_an_end() -> None:
    driver = new_driver()

    events = feed(driver, bthome("40" + "0161" * 100))

    (seen,) = seen_of(events)
    assert len(seen.description.sensors) == MAX_SENSORS
    assert faults_of(events) == ["too_many_sensors"]
    assert len(samples_of(events)[0].values) == MAX_SENSORS


def random_address(number: int) -> str:
    text = f"{number:012X}"
    return ":".join(text[at : at + 2] for at in range(0, 12, 2))


def test_addresses_that_somebody_invents_become_few_devices_and_push_nobody_out() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY})
    feed(driver, bthome(sealed(1), address=SHELLY), bthome("400161"))

    events = []
    for number in range(20_000):
        address = random_address(number * 0x10001)
        events += feed(driver, bthome("400162", address=address, heard_s=1.0 + number / 1000))

    assert len(seen_of(events)) <= NEWCOMERS + 20
    assert set(faults_of(events)) == {"too_many_devices"}
    still = feed(driver, bthome(sealed(2), address=SHELLY), bthome("400163"))
    assert [sample.seq for sample in samples_of(still)] == [1, 1]


def test_a_configured_sensor_is_met_in_any_crowd() -> None:
    driver = new_driver({SHELLY: SHELLY_KEY}, {ADDRESS: "Cold Room"})
    for number in range(NEWCOMERS + 10):
        feed(driver, bthome("400162", address=random_address(number)))

    events = feed(driver, bthome(sealed(1), address=SHELLY), bthome("400161"))

    assert len(samples_of(events)) == 2


def test_the_longest_silent_one_makes_room_and_its_numbers_never_come_again() -> None:
    driver = new_driver()
    for number in range(MAX_DEVICES):
        time_s = number * 1.0
        feed(driver, bthome("400162", address=random_address(number), heard_s=time_s))
    driver.tick(100_000.0)

    (one_more,) = samples_of(
        feed(driver, bthome("400162", address=random_address(MAX_DEVICES), heard_s=100_001.0))
    )
    (again,) = samples_of(
        feed(driver, bthome("400163", address=random_address(0), heard_s=100_002.0))
    )

    assert one_more.device == "bthome_0200"
    assert (again.device, again.seq) == ("bthome_0000", 0)
    assert again.boot != RUN


def test_nobody_who_is_there_makes_room() -> None:
    driver = new_driver()
    for number in range(MAX_DEVICES):
        feed(driver, bthome("400162", address=random_address(number), heard_s=float(number)))

    events = feed(driver, bthome("400162", address="FF:FF:FF:FF:FF:FF", heard_s=1100.0))

    assert faults_of(events) == ["too_many_devices"]
    assert len(driver.devices) == MAX_DEVICES
