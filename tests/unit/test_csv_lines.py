import math
from collections.abc import Iterable

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from gateway.drivers.csv_lines import CsvLines
from gateway.drivers.text_device import MAX_SENSORS
from gateway.model import Event, Fault, Readings, Sample, Seen, Sensor
from tests.support.effort import examples

RUN = 77
COLUMNS = (Sensor("temperature", "°C", "temperature"), Sensor("humidity", "%", "humidity"))


def csv(columns: tuple[Sensor, ...] = COLUMNS, separator: str = ",") -> CsvLines:
    """A CSV reader past its first line."""
    lines = CsvLines("usb-port", "Green House", RUN, columns=columns, separator=separator)
    lines.parse(b"torn", 0.0, [])
    return lines


def pairs(columns: tuple[Sensor, ...] = (), separator: str = " ") -> CsvLines:
    """A key=value reader past its first line."""
    lines = CsvLines("usb-port", None, RUN, columns=columns, separator=separator, kind="key_value")
    lines.parse(b"torn", 0.0, [])
    return lines


def said(lines: CsvLines, line: bytes) -> list[Event]:
    out: list[Event] = []
    lines.parse(line, 1.0, out)
    return out


def samples_of(events: Iterable[Event]) -> list[Sample]:
    records = [r for event in events if isinstance(event, Readings) for r in event.records]
    return [record for record in records if isinstance(record, Sample)]


def faults_of(events: Iterable[Event]) -> list[str]:
    return [event.kind for event in events if isinstance(event, Fault)]


# Columns


def test_the_columns_of_a_line_become_values_in_their_order() -> None:
    events = said(csv(), b"21.50, 40")

    seen, readings = events
    assert isinstance(seen, Seen)
    assert isinstance(readings, Readings)
    assert seen.description.sensors == COLUMNS
    assert (seen.description.device, seen.description.name) == ("green_house", "Green House")
    values = {"temperature": 21.5, "humidity": 40}
    assert readings == Readings("green_house", (Sample("green_house", RUN, 0, 1.0, values),))


def test_a_device_called_as_a_topic_of_the_gateway_has_another_topic() -> None:
    lines = CsvLines("usb-port", "Request", RUN, columns=COLUMNS)
    lines.parse(b"torn", 0.0, [])

    seen, readings = said(lines, b"21.5,40")

    assert isinstance(seen, Seen)
    assert (seen.description.device, seen.description.name) == ("request_device", "Request")
    assert isinstance(readings, Readings)
    assert readings.device == "request_device"


def test_a_device_is_described_once_with_all_its_columns() -> None:
    lines = csv()

    events = said(lines, b"1,") + said(lines, b"2,3") + said(lines, b",4")

    assert [type(event) for event in events] == [Seen, Readings, Readings, Readings]
    assert [sample.seq for sample in samples_of(events)] == [0, 1, 2]


def test_the_first_line_after_opening_is_never_used() -> None:
    lines = CsvLines("usb-port", None, RUN, columns=COLUMNS)

    torn = said(lines, b"1.50,40")  # the tail of 21.50,40
    whole = said(lines, b"21.50,40")

    assert torn == []
    assert [sample.values for sample in samples_of(whole)] == [
        {"temperature": 21.5, "humidity": 40}
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"7", 7),
        (b"-7", -7),
        (b"+7", 7),
        (b"007", 7),
        (b"7.", 7.0),
        (b".5", 0.5),
        (b"-1.5e-3", -0.0015),
        (b"2E3", 2000.0),
        (b"9223372036854775807", 2**63 - 1),
        (b"true", True),
        (b"False", False),
    ],
)
def test_numbers_and_booleans_are_taken_as_they_are(text: bytes, value: float) -> None:
    (sample,) = samples_of(said(csv(), text + b",1"))

    assert sample.values["temperature"] == value
    assert type(sample.values["temperature"]) is type(value)


@pytest.mark.parametrize("text", [b"", b" ", b"nan", b"NaN", b"null", b"None"])
def test_a_quantity_that_could_not_be_measured_is_left_out_and_no_fault(text: bytes) -> None:
    events = said(csv(), text + b",40")

    assert [sample.values for sample in samples_of(events)] == [{"humidity": 40}]
    assert faults_of(events) == []


@pytest.mark.parametrize(
    "text",
    [
        b"2x.5",
        b"1_0",
        b"inf",
        b"-inf",
        b"1e999",
        b"0x1F",
        b"1.2.3",
        b"--1",
        b"9223372036854775808",
        b"1" * 5000,
        b"1" + b"0" * 39 + b"e400",
        b"word",
        b"\x00",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_damaged_number_is_a_fault_and_never_a_value(text: bytes) -> None:
    events = said(csv(), text + b",40")

    assert faults_of(events) == ["bad_number"]
    assert [sample.values for sample in samples_of(events)] == [{"humidity": 40}]


@pytest.mark.parametrize("line", [b"1", b"1,2,3", b""])
def test_a_line_of_another_width_is_refused(line: bytes) -> None:
    lines = csv()

    assert not lines.matches(line)
    assert faults_of(said(lines, line)) == ["bad_columns"]


def test_a_column_with_a_reserved_key_is_passed_over() -> None:
    events = said(csv((Sensor("time"), Sensor("t"))), b"12:03:55,21.5")

    assert [sample.values for sample in samples_of(events)] == [{"t": 21.5}]
    assert faults_of(events) == []


@pytest.mark.parametrize(("separator", "line"), [(";", b"1;2"), ("\t", b"1\t2"), (" ", b" 1   2 ")])
def test_other_separators(separator: str, line: bytes) -> None:
    lines = csv(separator=separator)

    assert lines.matches(line)
    (sample,) = samples_of(said(lines, line))
    assert sample.values == {"temperature": 1, "humidity": 2}


@pytest.mark.parametrize(
    ("line", "is_csv"),
    [
        (b"21.5,40", True),
        (b"nan,40", True),
        (b"Hello, world", False),
        (b"temperature,humidity", False),
        (b"rst:0x1 (POWERON),boot:0x13", False),
        (b"21.5,\xff", False),
        (b",", False),
    ],
)
def test_only_lines_with_a_number_in_them_are_csv(line: bytes, is_csv: bool) -> None:
    assert csv().matches(line) is is_csv


def test_a_single_column_matches_numbers_only() -> None:
    lines = csv((Sensor("light"),))

    assert lines.matches(b"512")
    assert not lines.matches(b"ets Jul 29 2019 12:21:46")


# Pairs


def test_keys_name_their_values_and_columns_add_units() -> None:
    lines = pairs((Sensor("t", "°C", "temperature"),))

    events = said(lines, b"t=21.5 Door=open n=3")

    assert isinstance(events[0], Seen)
    assert events[0].description.sensors == (
        Sensor("t", "°C", "temperature"),
        Sensor("door"),
        Sensor("n"),
    )
    assert [sample.values for sample in samples_of(events)] == [{"t": 21.5, "door": "open", "n": 3}]


def test_a_word_where_a_number_came_before_is_damage() -> None:
    lines = pairs()
    said(lines, b"t=21.5 door=open")

    events = said(lines, b"t=x1.5 door=closed")

    assert faults_of(events) == ["bad_number"]
    assert [sample.values for sample in samples_of(events)] == [{"door": "closed"}]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"a=1 a=2", "duplicate_key"),
        (b"a=1 A=2", "duplicate_key"),
        (b" ".join(b"k%d=1" % i for i in range(MAX_SENSORS + 1)), "too_many_keys"),
        (b"a=1 b=\xff", "bad_text"),
    ],
    ids=["twice", "twice as a slug", "too many", "not ASCII"],
)
def test_a_line_that_could_be_misread_is_refused(line: bytes, kind: str) -> None:
    events = said(pairs(), line)

    assert faults_of(events) == [kind]
    assert samples_of(events) == []


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (b"time=5", "reserved_key"),
        (b"b", "bad_pair"),
        (b"=5", "bad_pair"),
        (b"1b=5", "bad_pair"),
        (b"b=1e999", "bad_number"),
        (b"b=" + b"x" * 65, "bad_number"),
    ],
)
def test_a_pair_that_cannot_be_used_is_skipped(part: bytes, kind: str) -> None:
    events = said(pairs(), b"a=1 " + part + b" c=3")

    assert faults_of(events) == [kind]
    assert [sample.values for sample in samples_of(events)] == [{"a": 1, "c": 3}]


def test_a_board_that_invents_keys_grows_no_further_than_the_limit() -> None:
    lines = pairs()
    for i in range(MAX_SENSORS):
        said(lines, b"k%d=1" % i)

    events = said(lines, b"k0=5 new=1")

    assert faults_of(events) == ["too_many_sensors"]
    assert [sample.values for sample in samples_of(events)] == [{"k0": 5}]


def test_a_line_whose_only_key_finds_no_room_gives_no_sample() -> None:
    lines = pairs()
    for i in range(MAX_SENSORS):
        said(lines, b"k%d=1" % i)

    assert samples_of(said(lines, b"new=1")) == []


@pytest.mark.parametrize(
    ("line", "matches"),
    [
        (b"t=21.5 h=40", True),
        (b"t=", True),
        (b"I (1234) wifi: state=5", False),
        (b"", False),
        (b"=5", False),
    ],
)
def test_only_lines_that_begin_with_a_pair_are_key_value(line: bytes, matches: bool) -> None:
    assert pairs().matches(line) is matches


# Properties


@seed(3)
@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_numbers_are_exactly_what_was_printed(numbers: list[float]) -> None:
    line = ",".join(map(repr, numbers)).encode()

    (sample,) = samples_of(said(csv(), line))

    assert list(sample.values.values()) == numbers


@seed(3)
@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_raise(chunks: list[bytes]) -> None:
    for lines in csv(), csv(separator=" "), pairs(), pairs(separator=","):
        for chunk in chunks:
            lines.matches(chunk)
            for sample in samples_of(said(lines, chunk)):
                assert sample.values
                assert not any(
                    isinstance(value, float) and not math.isfinite(value)
                    for value in sample.values.values()
                )
