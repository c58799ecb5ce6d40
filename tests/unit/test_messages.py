import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol import message_values, update_values
from gateway.protocol.frames import Frame, encode_frame, open_frame
from gateway.protocol.messages import (
    Ack,
    ActuatorReport,
    BadMessage,
    Bye,
    Channel,
    Command,
    Hello,
    HelloRequest,
    Log,
    Message,
    MessageType,
    Ping,
    Pong,
    Read,
    Response,
    Stream,
    StreamRequest,
    UnknownMessage,
    UpdateAbort,
    UpdateBegin,
    UpdateData,
    UpdateDataAck,
    UpdateEnd,
    UpdateNeed,
    UpdateState,
    Welcome,
    decode,
    encode,
)
from gateway.protocol.update_values import BoardUpdateState, DataStatus, UpdateKind, Want
from tests.support.effort import examples

_FILE = json.loads(
    (Path(__file__).parents[1] / "vectors" / "messages.json").read_text(encoding="utf-8")
)
VECTORS: list[dict[str, Any]] = _FILE["vectors"]


def payload_of(vector: dict[str, Any]) -> bytes:
    return vector["json"].encode() if "json" in vector else bytes.fromhex(vector["payload"])


def message_of(vector: dict[str, Any]) -> Message:
    fields = dict(vector["fields"])
    match vector["message"]:
        case "Stream":
            fields["channels"] = tuple(Channel(*row) for row in fields["channels"])
        case "Hello":
            fields["capabilities"] = tuple(fields["capabilities"])
        case "ActuatorReport":
            fields["options"] = tuple(fields["options"])
        case "Read":
            fields["records"] = bytes.fromhex(fields["records"])
    if vector["message"].startswith("Update"):
        return message_of_an_update(vector["message"], fields)
    message: Message = getattr(message_values, vector["message"])(**fields)
    return message


def message_of_an_update(name: str, fields: dict[str, Any]) -> Message:
    match name:
        case "UpdateBegin":
            fields["kind"] = UpdateKind(fields["kind"])
            for key in ("manifest_hash", "mac"):
                fields[key] = bytes.fromhex(fields[key])
        case "UpdateNeed":
            fields["want"], fields["files"] = Want(fields["want"]), tuple(fields["files"])
        case "UpdateData":
            fields["data"] = bytes.fromhex(fields["data"])
        case "UpdateDataAck":
            fields["status"] = DataStatus(fields["status"])
        case "UpdateState":
            fields["state"] = BoardUpdateState(fields["state"])
    message: Message = getattr(update_values, name)(**fields)
    return message


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_message_decodes_as_the_vector_says(vector: dict[str, Any]) -> None:
    frame = open_frame(vector["line"].encode())

    assert frame == Frame(vector["type"], vector["mid"], payload_of(vector))
    assert decode(frame) == message_of(vector)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_message_encodes_to_what_the_vector_says(vector: dict[str, Any]) -> None:
    frame = encode(message_of(vector), vector["mid"])

    assert frame.type == vector["type"]
    if "json" in vector:
        assert decode(frame) == message_of(vector)
    elif vector.get("canonical", True):
        assert encode_frame(frame).decode() == vector["line"] + "\n"


@pytest.mark.parametrize("vector", _FILE["bad"], ids=lambda v: v["name"])
def test_a_payload_that_breaks_the_rules_is_a_bad_message(vector: dict[str, Any]) -> None:
    outcome = decode(Frame(vector["type"], 0, payload_of(vector)))

    assert isinstance(outcome, BadMessage)
    assert outcome.type == vector["type"]
    assert 0 < len(outcome.reason) < 100


@pytest.mark.parametrize("vector", _FILE["unknown"], ids=lambda v: v["name"])
def test_unknown_types_are_told_apart_from_bad_ones(vector: dict[str, Any]) -> None:
    outcome = decode(Frame(vector["type"], 0, payload_of(vector)))

    assert outcome == UnknownMessage(vector["type"], vector["size"])


def test_every_message_has_a_vector() -> None:
    covered = {vector["type"] for vector in VECTORS}

    assert covered == {kind.value for kind in MessageType}


KEYS = [
    *"psickant",
    "id",
    "ep",
    "sq",
    "un",
    "ak",
    "mf",
    "ns",
    "caps",
    "trial",
    "utc",
    "hb",
    "range",
    "ks",
    "ki",
    "kc",
    "ka",
    "ch",
    "rb",
    "mh",
]
U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
WORD = st.text(st.characters(codec="utf-8"), max_size=64)
NUMBER = st.one_of(
    st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False, width=32)
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, WORD),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORD, inner, max_size=3)),
    max_leaves=8,
)
HELLO = st.builds(
    lambda counts, **rest: Hello(next_seq=counts[0], unacked=counts[1], acked=counts[2], **rest),
    counts=st.lists(U32, min_size=3, max_size=3).map(lambda n: sorted(n, reverse=True)),
    protocol=st.integers(1, 255),
    id=NAME,
    epoch=U16,
    name=WORD,
    firmware=WORD,
    runtime=WORD,
    crash=st.text(st.characters(codec="utf-8"), max_size=2048),
    largest_frame=st.integers(64, 0xFFFF),
    streams=st.integers(0, 255),
    actuators=U8,
    trial=st.booleans(),
    capabilities=st.lists(NAME, max_size=32).map(tuple),
    nonce=U32,
    rollback=WORD,
    bytecode=U8,
    config_hash=st.text("0123456789abcdef", min_size=8, max_size=8),
    key_id=st.text("0123456789abcdef", min_size=8, max_size=8),
    key_session=st.text("0123456789abcdef", min_size=16, max_size=16),
    key_counter=U32,
    wants_proof=st.booleans(),
)
BYTES32 = st.binary(min_size=32, max_size=32)
NEED = st.integers(0, 200).flatmap(
    lambda count: st.builds(
        UpdateNeed,
        st.sampled_from(Want),
        st.sets(st.integers(0, count - 1)).map(sorted).map(tuple) if count else st.just(()),
        st.just(count),
    )
)
STREAM = st.text("bBhHiIqQfd", min_size=1, max_size=31).flatmap(
    lambda letters: st.builds(
        Stream,
        number=st.integers(0, 254),
        name=NAME,
        format=st.just(letters),
        channels=st.lists(
            st.builds(
                Channel,
                NAME,
                st.text(st.characters(codec="utf-8"), max_size=32),
                st.none() | st.integers(-18, 18),
                WORD,
            ),
            min_size=len(letters),
            max_size=len(letters),
        ).map(tuple),
    )
)
ACK = st.builds(
    lambda next_seq, more, **rest: Ack(
        next_seq=next_seq,
        got_seq=None if more is None else min(next_seq + more, 0xFFFFFFFF),
        **rest,
    ),
    next_seq=U32,
    more=st.none() | U16,
    epoch=U16,
    credit=U8,
    flags=U8,
)
MESSAGES = st.one_of(
    HELLO,
    st.builds(Welcome, NAME, U32, st.integers(0, 999), U16, U32, U8, st.floats(0.1, 3600)),
    st.just(HelloRequest()),
    st.builds(Ping, U32),
    st.builds(Pong, U32, U32, st.integers(0, 999)),
    STREAM,
    st.builds(StreamRequest, U8),
    st.builds(
        ActuatorReport,
        key=NAME,
        name=NAME,
        kind=st.sampled_from(["switch", "number", "button", "select", "text"]),
        options=st.lists(NAME, max_size=64).map(tuple),
        state=st.one_of(st.none(), st.booleans(), NUMBER, WORD),
    ),
    st.builds(Read, U8, U16, st.integers(0, 2**32 - 256), U32, U16, U8, st.binary(max_size=300)),
    ACK,
    st.builds(Command, NAME, JSON, st.integers(1, 86_400_000), NAME),
    st.builds(Response, NAME, JSON),
    st.builds(Response, NAME, st.none(), st.text(st.characters(codec="utf-8"), min_size=1)),
    st.builds(Log, U8, WORD),
    st.builds(Bye, U32),
    st.builds(
        UpdateBegin, st.sampled_from(UpdateKind), U8, st.integers(1, 2**32 - 1), BYTES32, BYTES32
    ),
    NEED,
    st.builds(UpdateData, U16, U32, st.binary(max_size=300)),
    st.builds(UpdateDataAck, U16, U32, st.sampled_from(DataStatus)),
    st.just(UpdateEnd()),
    st.builds(UpdateAbort, NAME),
    st.builds(UpdateState, st.sampled_from(BoardUpdateState), WORD, WORD),
)


@settings(max_examples=examples(500), deadline=None, derandomize=True)
@given(MESSAGES, U8)
def test_every_message_round_trips(message: Message, mid: int) -> None:
    frame = encode(message, mid)

    assert frame.mid == mid
    assert decode(frame) == message


@settings(max_examples=examples(500), deadline=None, derandomize=True)
@given(U8, st.binary(max_size=100))
def test_decoding_any_bytes_gives_a_value(kind: int, payload: bytes) -> None:
    outcome = decode(Frame(kind, 0, payload))

    assert dataclasses.is_dataclass(outcome) or isinstance(outcome, Read)


@settings(max_examples=examples(150), deadline=None, derandomize=True)
@given(
    st.sampled_from([1, 2, 5, 7, 0x20, 0x21, 0x45, 0x46]),
    st.dictionaries(
        st.sampled_from(KEYS),
        JSON,
    ),
)
def test_decoding_any_json_gives_a_value(kind: int, said: dict[str, Any]) -> None:
    outcome = decode(Frame(kind, 0, json.dumps(said).encode()))

    assert dataclasses.is_dataclass(outcome)


@pytest.mark.parametrize("kind", [1, 2, 5, 7, 0x20, 0x21, 0x45, 0x46])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_as_deep_as_a_line_allows_is_refused(kind: int, opening: str) -> None:
    payload = (opening * (6144 // len(opening))).encode()

    assert isinstance(decode(Frame(kind, 0, payload)), BadMessage)
