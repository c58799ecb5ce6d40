import json
import random
from base64 import b64encode
from itertools import pairwise
from pathlib import Path
from struct import pack
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import Clock
from gateway.drivers.base import StreamDriver
from gateway.drivers.log_budget import LOG_BURST
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.model import (
    DeviceLog,
    Event,
    Fault,
    Gone,
    LogLevel,
    Readings,
    Sample,
    Seen,
    Sensor,
    TakesCommands,
)
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.frames import encode_frame
from gateway.protocol.messages import Channel, Hello, Log, Message, Read, Stream, encode
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandEnded, CommandReturned
from tests.support.effort import examples

VECTORS = Path(__file__).parents[1] / "vectors"
COLUMNS = (Sensor("temperature", "°C"), Sensor("humidity", "%"))
FAULT_KINDS = {
    # of frames and boards
    "bad_frame",
    "torn_frame",
    "bad_message",
    "unknown_type",
    "bad_record",
    "undescribed",
    "wrong_epoch",
    "unsupported_protocol",
    "duplicate_id",
    "epoch_reused",
    "echo",
    # of lines
    "line_too_long",
    "noise",
    "log_flood",
    # of JSON lines
    "bad_json",
    "bad_crc",
}
"""What noise can cause; a link's counters hold one entry a kind."""


def line(message: Message) -> bytes:
    return encode_frame(encode(message))


JOIN = line(Hello(1, "b1", 7, 0, 0, streams=1)) + line(
    Stream(0, "climate", "h", (Channel("temperature", "°C", -2, "temperature"),))
)


def read_line(first_seq: int, *values: int) -> bytes:
    records = b"".join(pack("<BBIh", 8, 0, 1000, value) for value in values)
    return line(Read(0, 7, first_seq, 1000, 0, len(values), records))


def make(
    line_format: LineFormat | None = None, book: DeliveryBook | None = None
) -> SerialLineDriver:
    return SerialLineDriver(
        "port-1",
        "",
        line_format or LineFormat(),
        book=book or DeliveryBook(),
        clock=Clock(lambda: 0.0, lambda: 1_790_000_000.0),
        run=17,
        session_id="5e55",
    )


@pytest.fixture
def driver() -> SerialLineDriver:
    """A driver whose first line, which may be torn, is past."""
    driver = make()
    driver.feed(b"\n", 0.0)
    driver.feed(b"boot\n", 0.0)
    return driver


def samples(events: list[Event]) -> list[Sample]:
    return [
        record
        for event in events
        if isinstance(event, Readings)
        for record in event.records
        if isinstance(record, Sample)
    ]


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events if isinstance(event, Fault)]


def logs(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, DeviceLog)]


def plug_in(driver: StreamDriver) -> bytes:
    return driver.data_to_send()


def test_it_is_a_stream_driver_that_waits_to_be_spoken_to() -> None:
    driver = make()

    assert plug_in(driver) == b""
    assert driver.deadline_s is None


# ---- what a line is


def test_a_board_is_recognised_by_its_frames(driver: SerialLineDriver) -> None:
    events = driver.feed(JOIN + read_line(0, 2150, 2160), 1.0)

    assert [type(event) for event in events] == [Seen, TakesCommands, Readings]
    assert [sample.values for sample in samples(events)] == [
        {"temperature": 21.5},
        {"temperature": 21.6},
    ]


def test_a_print_in_front_of_a_frame_costs_nothing(driver: SerialLineDriver) -> None:
    driver.feed(JOIN, 1.0)

    events = driver.feed(b"t=21.5 ~ " + read_line(0, 2150), 1.0)

    assert len(samples(events)) == 1
    assert not kinds(events)


def test_json_is_recognised_without_configuration(driver: SerialLineDriver) -> None:
    events = driver.feed(b'{"temperature":21.5}\n', 1.0)

    assert [type(event) for event in events] == [Seen, Readings]
    assert samples(events)[0].values == {"temperature": 21.5}
    assert samples(events)[0].device == "port-1"


def test_json_may_hold_a_tilde(driver: SerialLineDriver) -> None:
    events = driver.feed(b'{"id":"a~bcdefghijk","temperature":21.5}\n', 1.0)

    assert samples(events)[0].device == "a_bcdefghijk"


def test_json_of_a_board_that_has_joined_is_what_it_prints(driver: SerialLineDriver) -> None:
    driver.feed(JOIN, 1.0)

    events = driver.feed(b'{"temperature":99}\n', 1.0)

    assert events == [DeviceLog("b1", LogLevel.INFO, '{"temperature":99}')]


@pytest.mark.parametrize(
    "text",
    [
        "Connecting to wifi ...",
        "ets Jun  8 2016 00:22:57",
        "rst:0x1 (POWERON_RESET),boot:0x13",
        "~~~ ready ~~~",
        "21.5,40",
        "zu heiß",
    ],
)
def test_any_other_text_is_a_log_line(driver: SerialLineDriver, text: str) -> None:
    assert driver.feed(text.encode() + b"\r\n", 1.0) == [DeviceLog("", LogLevel.INFO, text)]


def test_a_log_line_belongs_to_the_device_that_speaks_on_the_port(driver: SerialLineDriver) -> None:
    driver.feed(b'{"id":"porch","t":1}\n', 1.0)

    (event,) = driver.feed(b"\x1b[31mhot\x1b[0m\n", 1.0)

    assert event == DeviceLog("porch", LogLevel.INFO, "[31mhot [0m")


def test_a_log_line_of_two_devices_belongs_to_neither(driver: SerialLineDriver) -> None:
    driver.feed(b'{"id":"porch","t":1}\n{"id":"hall","t":1}\n', 1.0)

    assert driver.feed(b"hot\n", 1.0) == [DeviceLog("", LogLevel.INFO, "hot")]


def test_csv_is_read_where_it_is_configured() -> None:
    driver = make(LineFormat("csv", COLUMNS))
    driver.feed(b"5,40\n", 0.0)  # torn: half a number is a number

    events = driver.feed(b"21.5,40\nstarting\n" + JOIN, 1.0)

    assert samples(events)[0].values == {"temperature": 21.5, "humidity": 40}
    assert logs(events)[0] == "starting"
    assert not any(isinstance(event, Seen) and event.description.device == "b1" for event in events)


def test_key_value_is_read_where_it_is_configured() -> None:
    driver = make(LineFormat("key_value", COLUMNS, " "))
    driver.feed(b"erature=5\n", 0.0)

    events = driver.feed(b"temperature=21.5 humidity=40\n", 1.0)

    assert samples(events)[0].values == {"temperature": 21.5, "humidity": 40}


def test_a_port_configured_for_boards_takes_no_json() -> None:
    driver = make(LineFormat("board"))
    driver.feed(b"\nx\n", 0.0)

    assert samples(driver.feed(b'{"temperature":21.5}\n' + JOIN + read_line(0, 1), 1.0)) == [
        Sample("b1", 7, 0, 1.0, {"temperature": 0.01})
    ]


def test_a_port_configured_for_json_takes_no_frames() -> None:
    driver = make(LineFormat("json", COLUMNS))
    driver.feed(b"\nx\n", 0.0)

    events = driver.feed(JOIN + b'{"temperature":21.5}\n', 1.0)

    seen = [event.description for event in events if isinstance(event, Seen)]
    assert [description.device for description in seen] == ["port-1"]
    assert seen[0].sensors[0].unit == "°C"


# ---- the first line


@pytest.mark.parametrize(
    "torn",
    [
        b'erature":21.5}\n',
        b"AAAAAAAAAAAA==\n",
        b"~AAAAAAAAAAAA\n",
        b"\xff\x80\x00\n",
        b'{"a":1}}\n',
    ],
)
def test_a_first_line_that_is_torn_is_no_fault(torn: bytes) -> None:
    assert make().feed(torn, 0.0) == []


def test_a_first_line_that_is_whole_is_used() -> None:
    assert [type(event) for event in make().feed(JOIN, 0.0)] == [Seen, TakesCommands]
    assert samples(make().feed(b'{"temperature":21.5}\n', 0.0))


# ---- bad input


def test_a_damaged_frame_is_a_fault_and_no_log(driver: SerialLineDriver) -> None:
    damaged = bytearray(read_line(0, 1, 2, 3))
    damaged[20] ^= 1

    events = driver.feed(JOIN + bytes(damaged), 1.0)

    assert kinds(events) == ["bad_frame"]
    assert logs(events) == []


def test_a_frame_that_lost_its_mark_is_a_fault_and_no_log(driver: SerialLineDriver) -> None:
    driver.feed(JOIN, 1.0)

    assert kinds(driver.feed(read_line(0, 1, 2, 3)[1:], 1.0)) == ["torn_frame"]


@pytest.mark.parametrize(
    "noise", [b"\x00\x00\x00", b"ab\x00cd", b"\xf0\x80\x98\xff" * 5, b"\x80" * 200]
)
def test_binary_noise_is_a_fault_and_no_log(driver: SerialLineDriver, noise: bytes) -> None:
    events = driver.feed(noise + b"\n", 1.0)

    assert kinds(events) == ["noise"]
    assert logs(events) == []
    assert all(event.detail.isascii() for event in events if isinstance(event, Fault))


def test_lines_that_are_too_long_are_counted(driver: SerialLineDriver) -> None:
    assert kinds(driver.feed(b"x" * 9000 + b"\n" + b"y" * 9000 + b"\nok\n", 1.0)) == [
        "line_too_long",
        "line_too_long",
    ]


def test_a_flood_of_log_lines_is_cut_and_counted(driver: SerialLineDriver) -> None:
    events = driver.feed(b"hello\n" * 1000, 1.0)

    assert len(logs(events)) <= LOG_BURST
    assert len(logs(events)) + kinds(events).count("log_flood") == 1000
    assert len(logs(driver.feed(b"hello\n" * 1000, 2.0))) == 20


def test_log_frames_and_log_lines_share_one_budget(driver: SerialLineDriver) -> None:
    driver.feed(JOIN, 10.0)
    frames = b"".join(line(Log(4, f"oops {number}")) for number in range(1000))

    events = driver.feed(frames, 10.0)

    assert logs(events) == [f"oops {number}" for number in range(LOG_BURST)]
    assert kinds(events) == ["log_flood"] * (1000 - LOG_BURST)
    assert kinds(driver.feed(b"hello\n", 10.0)) == ["log_flood"]
    assert len(logs(driver.feed(b"hello\n" * 10 + frames, 11.0))) == 20


@pytest.mark.parametrize("seed", range(5))
def test_noise_at_full_rate_gives_faults_of_few_kinds_and_no_samples(seed: int) -> None:
    rng = random.Random(seed)
    driver = make()
    found: set[str] = set()

    for number in range(300):
        events = driver.feed(rng.randbytes(1024), number / 100)
        assert not samples(events), f"seed {seed}"
        found |= set(kinds(events))
        assert len(driver.data_to_send()) < 1500

    assert found <= FAULT_KINDS, f"seed {seed}"


def test_hostile_payloads_are_faults(driver: SerialLineDriver) -> None:
    driver.feed(JOIN, 1.0)
    for vector in json.loads((VECTORS / "messages.json").read_text(encoding="utf-8"))["bad"]:
        payload = vector["json"].encode() if "json" in vector else bytes.fromhex(vector["payload"])
        body = bytes((vector["type"], 0)) + payload
        frame = b64encode(body + crc32(body).to_bytes(4, "little"))

        events = driver.feed(b"~" + frame + b"\n", 1.0)

        assert kinds(events) == ["bad_message"], vector["name"]
        assert [type(event) for event in events] == [Fault]


WIRE = (
    b"ets Jun  8 2016\r\n"
    + JOIN
    + read_line(0, 1, 2)
    + b"\n~~~ print\nnoise \x00\xff\n"
    + read_line(1, 2, 3)
    + b'{"a":1}\n'
    + b"z" * 9000
    + b"\n"
    + read_line(3, 4)
)


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(st.lists(st.integers(0, len(WIRE)), max_size=40))
def test_events_do_not_depend_on_the_chunking(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WIRE)]
    whole, torn = make(), make()

    expected = whole.feed(WIRE, 1.0)
    events = [event for a, b in pairwise(edges) for event in torn.feed(WIRE[a:b], 1.0)]

    assert samples(events) == samples(expected)
    assert sorted(kinds(events)) == sorted(kinds(expected))
    assert logs(events) == logs(expected)
    assert torn.data_to_send()


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [JOIN, read_line(0, 1), read_line(5, 1), b'{"t":1,"seq":5}\n', b"{", b"~"]
            ),
        ),
        max_size=20,
    ),
    st.sampled_from(["auto", "board", "json", "csv", "key_value"]),
)
def test_whatever_comes_is_events(parts: list[bytes], kind: str) -> None:
    driver = make(LineFormat(kind, COLUMNS))  # type: ignore[arg-type]  # Hypothesis samples a str

    for number, part in enumerate(parts):
        for event in driver.feed(part + b"\n", number / 10):
            assert isinstance(event, Readings | Seen | DeviceLog | Gone | TakesCommands | Fault)
        driver.tick(number / 10)
        driver.data_to_send()

    driver.close(100.0)


# ---- the way back


def test_acknowledgements_of_frames_and_of_json_go_out(driver: SerialLineDriver) -> None:
    called: list[None] = []
    driver.on_output = lambda: called.append(None)

    events = driver.feed(b'{"temperature":21.5,"seq":5}\n', 1.0)
    (readings,) = [event for event in events if isinstance(event, Readings)]
    assert driver.data_to_send() == b""
    assert readings.on_safe is not None
    readings.on_safe()

    assert called == [None]
    assert driver.data_to_send() == b'{"ack":5}\n'
    events = driver.feed(JOIN + read_line(0, 1), 1.0)
    driver.data_to_send()
    (readings,) = [event for event in events if isinstance(event, Readings)]
    assert readings.on_safe is not None
    readings.on_safe()
    assert len(called) == 2
    assert driver.data_to_send().startswith(b"~")


def test_samples_of_the_next_opening_have_another_boot() -> None:
    book = DeliveryBook()

    boots: list[int] = []
    for _ in range(3):
        driver = make(book=book)
        boots += [sample.boot for sample in samples(driver.feed(b'{"temperature":21.5}\n', 0.0))]
        driver.close(0.0)

    assert len(set(boots)) == len(boots) == 3


def test_a_held_board_gets_no_credit(driver: SerialLineDriver) -> None:
    driver.feed(JOIN, 1.0)
    driver.data_to_send()

    driver.hold(paused=True)

    assert driver.data_to_send().startswith(b"~")


def test_a_silent_board_is_gone_at_the_deadline(driver: SerialLineDriver) -> None:
    driver.feed(JOIN, 1.0)

    assert driver.deadline_s == 16.0
    assert driver.tick(16.0) == [Gone("b1", "silent")]
    assert driver.deadline_s is None


def test_a_command_reaches_the_board_and_ends_with_the_link(driver: SerialLineDriver) -> None:
    ended: list[CommandEnded | CommandReturned] = []
    driver.feed(JOIN, 1.0)
    driver.data_to_send()

    driver.command(Order("c.1", "identify", None, 6.0, "b1", ""), 1.0, ended.append)

    assert driver.data_to_send().startswith(b"~")
    assert driver.close(3.0) == [Gone("b1", "closed")]
    assert ended == [CommandReturned("c.1", was_sent=True)]


def test_text_devices_go_with_the_link(driver: SerialLineDriver) -> None:
    driver.feed(b'{"id":"porch","t":1}\n{"id":"hall","t":1}\n', 1.0)

    assert driver.close(2.0) == [Gone("porch", "closed"), Gone("hall", "closed")]


NUMBERED = b'{"id":"porch","ep":1,"seq":5,"t":%d}\n'


def test_of_two_ports_with_one_json_id_the_second_is_refused_until_the_first_closes() -> None:
    book = DeliveryBook()
    first, second = make(book=book), make(book=book)

    (taken,) = samples(first.feed(NUMBERED % 1, 1.0))
    refused = second.feed(NUMBERED % 99 * 2, 1.0)
    answer = second.data_to_send()
    still_taken = samples(first.feed(b'{"id":"porch","ep":1,"seq":6,"t":2}\n', 2.0))
    first.close(3.0)
    (moved,) = samples(second.feed(NUMBERED % 99, 4.0))

    assert (taken.values, len(still_taken)) == ({"t": 1}, 1)
    assert [type(event) for event in refused] == [Fault, Fault]
    assert kinds(refused) == ["duplicate_id", "duplicate_id"]
    assert answer == b""
    assert moved.values == {"t": 99}


def test_of_two_ports_with_one_csv_name_the_second_is_refused_until_the_first_closes() -> None:
    book = DeliveryBook()
    line_format = LineFormat("csv", (Sensor("t"), Sensor("h")))
    first, second = make(line_format, book), make(line_format, book)

    for driver in first, second:
        driver.feed(b"\ntorn,1\n", 0.0)
    assert len(samples(first.feed(b"1,2\n", 1.0))) == 1
    assert kinds(second.feed(b"3,4\n", 1.0)) == ["duplicate_id"]
    first.close(2.0)

    assert len(samples(second.feed(b"3,4\n", 3.0))) == 1


def test_a_json_line_cannot_take_the_id_of_a_board_on_another_port() -> None:
    book = DeliveryBook()
    board, other = make(book=book), make(book=book)
    board.feed(b"\n" + JOIN, 1.0)

    assert other.feed(b'{"id":"b1","t":1}\n', 1.0) == [
        Fault("duplicate_id", "b1 speaks on another port")
    ]

    assert [sample.device for sample in samples(board.feed(read_line(0, 2150), 2.0))] == ["b1"]


def test_a_board_may_print_json_under_its_own_id_before_it_joins(driver: SerialLineDriver) -> None:
    driver.feed(b'{"id":"b1","t":1}\n', 1.0)

    events = driver.feed(JOIN + read_line(0, 2150), 2.0)

    assert kinds(events) == []
    assert len(samples(events)) == 1
