"""The keys of a board's channels depend on all its streams: they are known before its records."""

import os
import select
import time
from typing import Any

from gateway.clock import Clock
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.model import Readings, Sample, Seen
from gateway.protocol.delivery import DeliveryBook
from tests.firmware.board_process import TIMEOUT_S, Bench, BoardProcess
from tests.firmware.hosts import Host
from tests.firmware.model_gateway import (
    HELLO,
    LOG,
    READ,
    STREAM,
    drain,
    line_of,
    welcome_line,
)
from tests.firmware.session_bench import CLIMATE, DOOR, board

BUS = {"i2c": 0, "sda": 21, "scl": 22}
CLIMATE_SENSOR = {"kind": "bme280", "name": "climate", "bus": BUS, "interval_ms": 50}
AIR_SENSOR = {"kind": "sht3x", "name": "air", "bus": BUS, "interval_ms": 50}
COUNTER = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 10}
BAD_CLIMATE = {**CLIMATE_SENSOR, "oversampling": 3}


def streams_before_records(line: BoardProcess) -> list[int]:
    """Return the numbers of the streams described before the first READ."""
    kinds = [frame.kind for frame in line.heard]
    return [frame.json["i"] for frame in line.heard[: kinds.index(READ)] if frame.kind == STREAM]


def test_all_streams_are_counted_and_described_before_the_first_record(every_bench: Bench) -> None:
    every_bench.configure(sensors=[CLIMATE_SENSOR, AIR_SENSOR])

    with every_bench.board() as line:
        line.await_records(6)

    assert {frame.json["ns"] for frame in line.of_kind(HELLO)} == {2}
    assert streams_before_records(line) == [0, 1]
    names = {frame.json["i"]: frame.json["n"] for frame in line.of_kind(STREAM)}
    assert names == {0: "climate", 1: "air"}
    assert {record[1] for record in line.gateway.records} == {0, 1}


def test_the_keys_of_two_sensors_that_share_one_never_change(bench: Bench) -> None:
    slow = {**AIR_SENSOR, "interval_ms": 900}
    bench.configure(sensors=[CLIMATE_SENSOR, slow])
    driver = SerialLineDriver(
        "port", "", LineFormat(), book=DeliveryBook(), clock=Clock(), run=1, session_id="s"
    )
    described: list[list[str]] = []
    keys: list[set[str]] = []

    with bench.board() as line:
        while len(keys) < 30 or {"air_temperature", "air_humidity"} not in keys:
            assert select.select([line.read_fd], [], [], TIMEOUT_S)[0], keys
            events = driver.feed(os.read(line.read_fd, 4096), time.monotonic())
            for event in events:
                if isinstance(event, Seen):
                    described.append([sensor.key for sensor in event.description.sensors])
                elif isinstance(event, Readings):
                    assert all(isinstance(record, Sample) for record in event.records)
                    keys += [set(r.values) for r in event.records if isinstance(r, Sample)]
                    if event.on_safe:
                        event.on_safe()
            line.send(driver.data_to_send())

    assert described[0] == [
        "climate_temperature",
        "climate_humidity",
        "pressure",
        "air_temperature",
        "air_humidity",
    ]
    assert all(each == described[0] for each in described)
    assert {frozenset(each) for each in keys} == {
        frozenset({"climate_temperature", "climate_humidity", "pressure"}),
        frozenset({"air_temperature", "air_humidity"}),
    }


def test_a_sensor_that_cannot_be_made_keeps_its_place_if_its_kind_tells_the_channels(
    bench: Bench,
) -> None:
    bench.configure(sensors=[BAD_CLIMATE, AIR_SENSOR])

    with bench.board() as line:
        line.await_records(3)

    assert line.of_kind(HELLO)[0].json["ns"] == 2
    assert streams_before_records(line) == [0, 1]
    assert {record[1] for record in line.gateway.records} == {1}


def test_a_sensor_nobody_knows_is_not_waited_for(bench: Bench) -> None:
    bench.configure(sensors=[{"kind": "flux_capacitor"}, COUNTER])

    with bench.board() as line:
        line.await_records(20)
        line.until(lambda: line.of_kind(LOG))

    assert line.of_kind(HELLO)[0].json["ns"] == 1
    assert streams_before_records(line) == [1]
    assert {record[1] for record in line.gateway.records} == {1}


def test_a_stream_that_is_not_known_is_neither_counted_nor_described_until_it_is() -> None:
    streams: list[Any] = [None, DOOR]
    session = board(streams=streams)
    (hello,) = drain(session, 0)
    session.on_line(welcome_line(), 1)

    described = [frame.json["i"] for frame in drain(session, 1)]
    for number in (b"\0", b"\1", b"\2"):
        session.on_line(line_of(0x06, number), 2)
    asked = [frame.json["i"] for frame in drain(session, 2)]
    streams[0] = CLIMATE
    session.describe(0)
    late = [frame.json["n"] for frame in drain(session, 3)]

    assert hello.json["ns"] == 1
    assert (described, asked, late) == ([1], [1], ["climate"])


LEAVING = """
from board import leaving
from board.ring import Ring
from board.supervisor import Supervisor

class App:
    ending = "reset"
    ports = ()
    ring = Ring(512)
    def tick(self):
        self.supervisor.check()

class Sensor:
    reads = 0
    async def run(self):
        while True:
            try:
                await asyncio.sleep_ms(5)
                self.reads += 1
            except asyncio.CancelledError:
                if not self.watch.was_overdue:
                    raise

async def main():
    app = App()
    app.supervisor = Supervisor(None)
    sensor = Sensor()
    app.sensors = [sensor]
    task = asyncio.create_task(sensor.run())
    sensor.watch = app.supervisor.watch("slow", 1000, task)
    await asyncio.sleep_ms(20)
    sensor.watch.was_overdue = True  # it was given up a moment ago
    await leaving.leave(app)
    reads = sensor.reads
    await asyncio.sleep_ms(50)
    say([task.done(), sensor.reads == reads, len(app.supervisor.watches)])

asyncio.run(main())
"""


def test_a_sensor_that_was_overdue_stops_too_when_the_board_leaves(host: Host) -> None:
    assert host.said(LEAVING) == [True, True, 0]
