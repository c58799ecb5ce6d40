import json
from collections.abc import Iterator

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from gateway.clock import Clock
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.errors import LinkError
from gateway.links.replay import Chunk, encode_chunk, parse_capture, replay
from gateway.model import DeviceLog, Event, Fault, Gone, Readings, Sample
from gateway.protocol.delivery import DeliveryBook
from tests.support.effort import examples
from tests.support.line_driver import NumberDriver

ESP32_BOOT = (
    b'35,"humidity":4'  # the gateway opened the port in the middle of a line
    b"ets Jul 29 2019 12:21:46\r\n\r\n"
    b"rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n"
    b"configsip: 0, SPIWP:0xee\r\n"
    b"clk_drv:0x00,q_drv:0x00,d_drv:0x00,cs0_drv:0x00,hd_drv:0x00,wp_drv:0x00\r\n"
    b"mode:DIO, clock div:2\r\n"
    b"load:0x3fff0030,len:1448\r\n"
    b"entry 0x400805cc\r\n"
    b"\x00\xff\xfe\x80\xf0\n"  # while the chip sets its own baud rate
    b'{"temperature":21.5,"humidity":40}\r\n'
    b'{"temperature":21.6,"humidity":40}\r\n'
)
"""What an ESP32 with an Arduino sketch says when it is switched on; text of its ROM."""


def test_chunks_come_back_as_they_were_written() -> None:
    chunks = [
        Chunk(0.0, "in", b'{"t":1}\n'),
        Chunk(0.25, "out", b'{"ack":1}\n'),
        Chunk(1.5, "in", bytes(range(256))),
        Chunk(1.5, "in", b""),
    ]

    assert list(parse_capture(b"".join(map(encode_chunk, chunks)))) == chunks


def test_a_capture_can_be_read_by_people_and_by_other_programs() -> None:
    line = encode_chunk(Chunk(12.345678, "in", b'{"temperature":21.5}\n'))

    assert line == b'{"t_s": 12.345678, "dir": "in", "text": "{\\"temperature\\":21.5}\\n"}\n'
    assert json.loads(encode_chunk(Chunk(0, "out", b"\xff")))["base64"] == "/w=="


def test_plain_bytes_are_taken_for_what_the_board_said() -> None:
    plain = b"1\n2\n" * 1000

    chunks = list(parse_capture(plain))

    assert b"".join(chunk.content for chunk in chunks) == plain
    assert {chunk.direction for chunk in chunks} == {"in"}


def test_a_torn_last_line_is_dropped_and_a_damaged_one_is_named() -> None:
    whole = encode_chunk(Chunk(0.0, "in", b"1\n"))

    assert len(list(parse_capture(whole + whole[:20]))) == 1
    with pytest.raises(LinkError, match="line 2 "):
        list(parse_capture(whole + whole[:20] + b"\n" + whole))
    with pytest.raises(LinkError, match="line 2 "):
        list(parse_capture(whole + whole.replace(b'"in"', b'"up"')))


@seed(4)
@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=200))
def test_any_file_can_be_replayed(capture: bytes) -> None:
    assert b"".join(chunk.content for chunk in parse_capture(capture)) == capture


def test_a_driver_is_fed_what_came_from_the_board_at_its_time() -> None:
    chunks = [Chunk(0.5, "in", b"1"), Chunk(0.7, "out", b"2\n"), Chunk(0.9, "in", b"3\n")]
    driver = NumberDriver()

    said = list(replay(chunks, driver))

    (readings_s, readings), gone = said
    assert readings_s == 0.9
    assert isinstance(readings, Readings)
    assert readings.records == (Sample("board", 1, 13, 0.9, {"n": 13}),)
    assert gone == (0.9, Gone("board", "closed"))


def test_deadlines_between_two_chunks_are_kept() -> None:
    driver = NumberDriver()
    driver.deadline_s = 3.0
    driver.is_silent_at_tick = True

    said = list(replay([Chunk(1.0, "in", b"1\n"), Chunk(9.0, "in", b"2\n")], driver))

    assert driver.ticks == [3.0]
    assert [(t_s, type(event)) for t_s, event in said] == [
        (1.0, Readings),
        (3.0, Gone),
        (9.0, Readings),
        (9.0, Gone),
    ]


def test_a_driver_that_leaves_its_deadline_does_not_stop_the_replay() -> None:
    driver = NumberDriver()
    driver.deadline_s = driver.next_deadline_s = 1.0

    list(replay([Chunk(5.0, "in", b""), Chunk(6.0, "in", b"")], driver))

    assert len(driver.ticks) == 2


@pytest.mark.parametrize("step", [1, 7, 1024])
def test_the_boot_noise_of_an_esp32_hides_no_reading(step: int) -> None:
    driver = SerialLineDriver(
        port_name="usb-port",
        device_name="",
        line_format=LineFormat(),
        book=DeliveryBook(),
        clock=Clock(),
        run=1,
        session_id="test",
    )
    chunks = (
        Chunk(place / 11_520, "in", ESP32_BOOT[place : place + step])
        for place in range(0, len(ESP32_BOOT), step)
    )

    events = [event for _, event in replay(chunks, driver)]

    assert list(temperatures(events)) == [21.5, 21.6]
    assert [event.kind for event in events if isinstance(event, Fault)] == ["noise"]
    logged = [event.text for event in events if isinstance(event, DeviceLog)]
    assert any("rst:0x1 (POWERON_RESET)" in text for text in logged)


def temperatures(events: list[Event]) -> Iterator[object]:
    for event in events:
        if isinstance(event, Readings):
            for record in event.records:
                assert isinstance(record, Sample)
                yield record.values["temperature"]
