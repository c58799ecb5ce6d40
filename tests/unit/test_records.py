import json
import math
from decimal import Decimal
from pathlib import Path
from struct import Struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.frames import Frame
from gateway.protocol.messages import Channel, MessageType, Read, Stream, decode
from gateway.protocol.records import (
    MONO_FIELD,
    RecordLayout,
    Scaling,
    unpack_records,
)
from tests.support.effort import examples

_FILE = json.loads(
    (Path(__file__).parents[1] / "vectors" / "records.json").read_text(encoding="utf-8")
)
H_I = Stream(0, "x", "hI", (Channel("a", "", 0, ""), Channel("b", "", 0, "")))


def stream_of(said: dict[str, Any]) -> Stream:
    stream = decode(Frame(MessageType.STREAM, 0, json.dumps(said).encode()))
    assert isinstance(stream, Stream)
    return stream


def read_of(records: bytes, count: int) -> Read:
    return Read(0, 1, 0, 0, 0, count, records)


@pytest.mark.parametrize("vector", _FILE["vectors"], ids=lambda v: v["name"])
def test_records_mean_what_the_vectors_say(vector: dict[str, Any]) -> None:
    stream = stream_of(vector["stream"])
    layouts = {stream.number: RecordLayout(stream)}
    scaling = Scaling(stream, [channel.key for channel in stream.channels])
    raw = b"".join(bytes.fromhex(record["bytes"]) for record in vector["records"])

    records, unknown_stream = unpack_records(read_of(raw, len(vector["records"])), layouts)

    assert unknown_stream is None
    for record, expected in zip(records, vector["records"], strict=True):
        assert record is not None
        assert record[MONO_FIELD] == expected["mono_ms"]
        values = scaling.values(record)
        assert values == expected["values"]
        assert json.dumps(values) == json.dumps({key: expected["values"][key] for key in values})


@pytest.mark.parametrize("vector", _FILE["bad"], ids=lambda v: v["name"])
def test_records_of_a_wrong_structure_are_given_up_and_counted(vector: dict[str, Any]) -> None:
    read = read_of(bytes.fromhex(vector["records"]), vector["count"])

    records, unknown_stream = unpack_records(read, {0: RecordLayout(H_I)})

    assert unknown_stream is None
    assert len(records) == vector["count"]
    assert sum(record is not None for record in records) == vector["good"]


def test_a_record_of_a_stream_nobody_described_ends_the_list() -> None:
    known = Struct("<BBIhI").pack(12, 0, 5, 1, 2)
    strange = Struct("<BBIh").pack(8, 9, 5, 1)

    records, unknown_stream = unpack_records(
        read_of(known + strange + known, 3), {0: RecordLayout(H_I)}
    )

    assert records == [(12, 0, 5, 1, 2)]
    assert unknown_stream == 9


def test_a_record_of_a_stream_given_up_is_unreadable_and_the_next_stands() -> None:
    known = Struct("<BBIhI").pack(12, 0, 5, 1, 2)
    strange = Struct("<BBIh").pack(8, 9, 5, 1)

    records, unknown_stream = unpack_records(
        read_of(strange + known, 2), {0: RecordLayout(H_I)}, unreadable={9}
    )

    assert records == [None, (12, 0, 5, 1, 2)]
    assert unknown_stream is None


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(st.binary(max_size=400), st.integers(0, 255))
def test_any_bytes_unpack_to_at_most_what_the_header_counts(raw: bytes, count: int) -> None:
    layouts = {number: RecordLayout(H_I) for number in range(0, 256, 2)}

    records, unknown_stream = unpack_records(read_of(raw, count), layouts)

    assert len(records) == count or (unknown_stream is not None and len(records) < count)


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-18, 18))
def test_scaled_integers_are_the_nearest_double_or_the_exact_integer(
    number: int, exponent: int
) -> None:
    stream = Stream(0, "x", "q", (Channel("a", "", exponent, ""),))

    value = Scaling(stream, ["a"]).values((14, 0, 0, number))["a"]

    exact = Decimal(number).scaleb(exponent)
    assert value == (int(exact) if exponent >= 0 else float(exact))
    assert isinstance(value, int if exponent >= 0 else float)


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(st.binary(min_size=12, max_size=12), st.none() | st.integers(-18, 18))
def test_floats_of_any_bit_pattern_give_finite_values_or_none(
    raw: bytes, exponent: int | None
) -> None:
    channels = (Channel("a", "", exponent, ""), Channel("b", "", exponent, ""))
    layout, scaling = (
        RecordLayout(Stream(0, "x", "fd", channels)),
        Scaling(Stream(0, "x", "fd", channels), ["a", "b"]),
    )

    values = scaling.values(layout.unpack_from(bytes(6) + raw, 0))

    assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())
