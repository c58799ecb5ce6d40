"""board/broadcast.py: what an advert holds, under each interpreter."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.hosts import Host

BOARD = """
import struct
from binascii import hexlify, unhexlify
from board import clock, log
from board.broadcast import Broadcast

logged = []
log.attach(lambda level, text: logged.append(text))

class Radio:
    def config(self, name):
        return (0, unhexlify("5448e68f80a5"))

class Link:
    radio = Radio()
    central = None
    service = bytes((17, 7)) + bytes(16)
    adverts = []
    def advertise(self, advert, response):
        assert len(advert) <= 31 and len(response) <= 31
        self.adverts.append([hexlify(advert).decode(), hexlify(response).decode()])

class Ring:
    count = seq = 0
    def next_seq(self):
        return self.seq

class Sensor:
    failures = 0
    def __init__(self, number):
        self.number = number
        self.record = None

class App:
    epoch = 7
    ring = Ring()
    sensors = []
    streams = []

app = App()
link = Link()

# A sensor of this form that said this.
def add(form, channels, values):
    sensor = Sensor(len(app.sensors))
    app.sensors.append(sensor)
    app.streams.append(("it", form, channels))
    measure(sensor, form, values)
    return sensor

def measure(sensor, form, values):
    sensor.record = struct.pack("<BBI" + form, 6 + struct.calcsize("<" + form), 0, 5, *values)
    app.ring.seq += 1
    app.ring.count += 1

TEMPERATURE = [["t", "°C", -2, "temperature"]]

# What is told next, as time has passed.
def told(broadcast):
    before = len(link.adverts)
    clock.shift_ms += 1000
    broadcast.tick(app)
    return link.adverts[before:]
"""

SERVICE = "1107" + "00" * 16
WAITING: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "waiting.json").read_text()
)


@pytest.mark.parametrize("vector", WAITING["vectors"], ids=lambda each: str(each["name"]))
def test_what_waits_is_told_as_the_vector_says(host: Host, vector: dict[str, Any]) -> None:
    script = f"""
app.ring.count = {vector["samples"]}
link.central = {None if vector["is_connectable"] else 1}
say(told(Broadcast(app, link, "shed", b"", {vector["is_brief"]}))[0][0])
"""
    told = host.said(BOARD + script)

    assert told[:18] == "020106" + "05ffffff" + vector["data"]


def test_the_first_advert_of_all_says_that_the_board_sleeps(host: Host) -> None:
    script = """
made = Broadcast(app, link, "shed", b"", True)
made.tick(app)
made.tick(app)
say(link.adverts)
"""
    ((first, _),) = host.said(BOARD + script)

    assert first == "020106" + "05ffffff0003" + SERVICE


def test_readings_stand_beside_what_waits_and_the_service_in_the_scan_response(host: Host) -> None:
    script = """
made = Broadcast(app, link, "shed", b"", False)
first = told(made)
add("h", TEMPERATURE, (2506,))
second = told(made)
third = told(made)
link.central = 1
fourth = told(made)
say([first, second, third, fourth])
"""
    first, second, third, fourth = host.said(BOARD + script)

    response = SERVICE + "0509" + b"shed".hex()
    assert first == [["020106" + "05ffffff0001" + SERVICE, response]]
    readings = "0916d2fc40" + "0001" + "02ca09"
    assert second == [["020106" + "05ffffff0101" + readings, response]]
    assert third == []  # nothing is new
    assert fourth == [["020106" + "05ffffff0100" + readings, response]]


def test_a_sensor_that_fails_is_left_out_until_it_works(host: Host) -> None:
    script = """
made = Broadcast(app, link, "shed", b"", True)
one = add("h", TEMPERATURE, (100,))
other = add("h", TEMPERATURE, (200,))
both = told(made)
one.failures = 1
measure(other, "h", (300,))
less = told(made)
one.failures = 0
measure(one, "h", (400,))
say([advert[0][0][-18:] for advert in (both, less, told(made))])
"""
    both, less, again = host.said(BOARD + script)

    assert both.endswith("44" + "0001" + "026400" + "02c800")
    assert less.endswith("44" + "0002" + "022c01")
    assert again.endswith("44" + "0003" + "029001" + "022c01")


def test_without_a_usable_key_nothing_is_told_of_readings(host: Host) -> None:
    script = """
made = Broadcast(app, link, "shed", None, True)
add("h", TEMPERATURE, (2506,))
free = told(made)[0][0]
link.central = 1
say([free, told(made)[0][0]])
"""
    free, connected = host.said(BOARD + script)

    assert free == "020106" + "05ffffff0103" + SERVICE
    assert connected == "020106" + "05ffffff0102"


def test_where_the_counter_cannot_be_kept_nothing_is_told_of_readings(host: Host) -> None:
    script = """
import os
os.mkdir("ble.json.new")
made = Broadcast(app, link, "shed", bytes(16), False)
sensor = add("h", TEMPERATURE, (2506,))
adverts = told(made)
measure(sensor, "h", (2507,))
adverts += told(made)
say([[advert[0] for advert in adverts], len(logged), logged[0][:10]])
"""
    adverts, count, text = host.said(BOARD + script)

    assert all("d2fc" not in advert for advert in adverts)
    assert (count, text) == (1, "no adverts")


def test_an_encrypted_advert_has_the_counter_of_its_record(host: Host) -> None:
    script = """
import json
with open("ble.json", "w") as file:
    json.dump({"epoch": 7, "base": 1000, "end": 5096}, file)
app.ring.seq = 50  # the epoch goes on
made = Broadcast(app, link, "shed", bytes(16), False)
sensor = add("h", TEMPERATURE, (2506,))
adverts = told(made)
measure(sensor, "h", (2506,))
measure(sensor, "h", (2506,))
adverts += told(made)
say([advert[0][-24:] for advert in adverts])
"""
    adverts: list[Any] = host.said(BOARD + script)

    counters = [int.from_bytes(bytes.fromhex(advert)[-8:-4], "little") for advert in adverts]
    assert counters == [1051, 1053]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("hothouse", "0909" + b"hothouse".hex()),
        ("eleven byte", "0c09" + b"eleven byte".hex()),
        ("twelve bytes", "0c08" + b"twelve byte".hex()),
        ("Gewächshäuser", "0c08" + "Gewächshä"[:9].encode().hex()),
    ],
)
def test_a_long_name_is_shortened_between_characters(host: Host, name: str, wanted: str) -> None:
    script = f"""
made = Broadcast(app, link, {name!r}, b"", False)
say(told(made)[0][1])
"""
    assert host.said(BOARD + script) == SERVICE + wanted
