"""Lines of a serial port in words, without a port."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.traffic import Entry, Kind, Origin, Traffic
from gateway.protocol import messages as m
from gateway.protocol.frames import encode_frame

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "messages.json").read_text())

CLIMATE = m.Stream(
    0,
    "climate",
    "hH",
    (
        m.Channel("temperature", "°C", -2, "temperature"),
        m.Channel("humidity", "%", -1, "humidity"),
    ),
)


def line(message: m.Message) -> bytes:
    return encode_frame(m.encode(message))


def only(entries: list[Entry]) -> Entry:
    (entry,) = entries
    return entry


def read(records: bytes, count: int, *, flags: int = 0, lost: int = 0) -> m.Read:
    return m.Read(flags, 7, 120, 10_000, lost, count, records)


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_every_message_is_told_with_who_sent_it(vector: dict[str, str]) -> None:
    entry = only(Traffic().feed(vector["line"].encode() + b"\n"))

    assert entry.kind is Kind.FRAME
    assert entry.origin is (Origin.BOARD if vector["direction"] == "b>g" else Origin.GATEWAY)
    assert type(entry.message).__name__ == vector["message"]
    assert entry.summary
    assert entry.summary.isprintable()


def test_values_are_told_with_the_names_and_units_of_their_stream() -> None:
    # 2150 and 452 at mono 9,000 ms; -200 and 65,535 at 10,000 ms, little endian.
    records = bytes.fromhex("0a00282300006608c401") + bytes.fromhex("0a001027000038ffffff")
    traffic = Traffic()

    traffic.feed(line(CLIMATE))
    entry = only(traffic.feed(line(read(records, 2, flags=2, lost=3))))

    assert entry.summary == (
        "epoch 7 seq 120..121 (oldest) lost 3; climate: "
        "temperature=21.5 °C humidity=45.2 % | temperature=-2.0 °C humidity=6553.5 %"
    )
    assert [(r.seq, r.age_s) for r in entry.readings] == [(120, 1.0), (121, 0.0)]
    assert entry.readings[0].values == {"temperature": 21.5, "humidity": 45.2}


def test_records_of_a_stream_nobody_described_are_counted() -> None:
    entry = only(Traffic().feed(line(read(bytes.fromhex("0a00282300006608c401"), 1))))

    assert entry.summary == "epoch 7 seq 120, 1 of a stream that is not described yet"
    assert entry.readings == ()


def test_streams_are_forgotten_when_another_board_says_hello() -> None:
    traffic = Traffic()

    traffic.feed(line(CLIMATE) + line(m.Hello(1, "other", 1, 0, 0)))
    entry = only(traffic.feed(line(read(bytes.fromhex("0a00282300006608c401"), 1))))

    assert entry.readings == ()


@pytest.mark.parametrize(
    ("text", "kind", "name", "summary"),
    [
        (b"~AAAA", Kind.FAULT, "too_short", "~AAAA"),
        (b"~CAD3mACK", Kind.FAULT, "bad_crc", "~CAD3mACK"),
        (b"a ~ b", Kind.FAULT, "not_base64", "a ~ b"),
        (b'{"a":', Kind.FAULT, "bad_json", '{"a":'),
        (b"rst:0x1 (POWERON_RESET)", Kind.TEXT, "text", "rst:0x1 (POWERON_RESET)"),
        ("grüße 温度".encode(), Kind.TEXT, "text", "grüße 温度"),
        (b"red \x1b[31malert", Kind.TEXT, "text", r"red \x1b[31malert"),
        (b"\xff\xfe\x00\x01\x80", Kind.NOISE, "noise", r"\xff\xfe\x00\x01\x80"),
        (b'{"t":21.5,"air":{"h":45}}', Kind.JSON, "json", "t=21.5 air_h=45"),
        (b'{"seq":5,"t":1}', Kind.JSON, "json", "seq 5 t=1"),
        (b'{"id":"Attic","t":1}', Kind.JSON, "json", "attic: t=1"),
    ],
)
def test_other_lines_are_told_as_what_they_are(
    text: bytes, kind: Kind, name: str, summary: str
) -> None:
    traffic = Traffic()
    traffic.feed(b'{"t":1}\n')  # a first line may be torn, and is forgiven

    entry = only(traffic.feed(text + b"\r\n"))

    assert (entry.kind, entry.name, entry.summary) == (kind, name, summary)
    assert entry.origin is Origin.BOARD


def test_an_acknowledgement_comes_from_the_gateway() -> None:
    entry = only(Traffic().feed(b'{"ack":5}\n'))

    assert (entry.origin, entry.name) == (Origin.GATEWAY, "ack")


def test_text_in_front_of_a_frame_is_shown_with_it() -> None:
    entry = only(Traffic().feed(b"hello " + line(m.Ping(5))))

    assert entry.summary == 'board\'s clock 5 ms (behind "hello ")'


def test_a_frame_of_unknown_type_or_content_is_a_fault_with_its_reason() -> None:
    traffic = Traffic()

    unknown = only(traffic.feed(encode_frame(m.encode(m.Ping(5))._replace(type=0x77))))
    bad = only(traffic.feed(encode_frame(m.encode(m.Ping(5))._replace(payload=b"x"))))

    assert (unknown.name, unknown.summary) == ("unknown_type", "type 0x77 with 4 bytes")
    assert (bad.name, bad.summary) == ("bad_message", "PING: too short")


def test_a_line_without_end_is_dropped_and_told_once() -> None:
    traffic = Traffic()

    entries = traffic.feed(b"x" * 9000) + traffic.feed(b"x" * 9000) + traffic.feed(b"\nok\n")

    assert [entry.name for entry in entries] == ["too_long", "text"]


@given(data=st.lists(st.binary(max_size=200), max_size=10))
def test_nothing_on_a_wire_ever_raises_or_reaches_the_terminal_raw(data: list[bytes]) -> None:
    traffic = Traffic()

    entries = [entry for chunk in data for entry in traffic.feed(chunk + b"\n")]

    assert all(entry.summary.isprintable() for entry in entries)
    assert all(len(entry.summary) <= 310 for entry in entries)


@given(name=st.text(max_size=32), text=st.text(max_size=100))
def test_what_boards_call_themselves_cannot_harm_a_terminal(name: str, text: str) -> None:
    hello = m.Hello(1, "id", 1, 0, 0, name=name, crash=text)

    entries = Traffic().feed(line(hello) + line(m.Log(2, text)))

    assert len(entries) == 2
    assert all(entry.summary.isprintable() for entry in entries)
