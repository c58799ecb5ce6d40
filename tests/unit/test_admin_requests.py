"""Admin requests: what they mean, and what is said of wrong ones."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.errors import RequestError
from gateway.requests.admin import (
    MAX_PAYLOAD_BYTES,
    REQUESTS,
    OptionsRequest,
    PermitJoinRequest,
    RemoveRequest,
    RenameRequest,
    read_admin,
    text_keys,
    transaction_of,
)
from gateway.requests.response_topic import refusal_of
from tests.support.effort import examples


def error_of(verb: str, payload: bytes) -> str:
    with pytest.raises(RequestError) as told:
        read_admin(verb, payload)
    return str(told.value)


@pytest.mark.parametrize("verb", [v for v in REQUESTS if "device" not in REQUESTS[v].model_fields])
@pytest.mark.parametrize("payload", [b"", b"{}", b' {"transaction": "t1"}\n'])
def test_a_request_about_the_gateway_needs_no_payload(verb: str, payload: bytes) -> None:
    asked = read_admin(verb, payload)

    assert type(asked) is REQUESTS[verb]
    assert asked.transaction == ("t1" if b"t1" in payload else None)


@pytest.mark.parametrize(
    ("verb", "said", "asked"),
    [
        (
            "rename",
            {"device": "a", "to": "Grüne Ecke"},
            RenameRequest(device="a", to="Grüne Ecke"),
        ),
        ("remove", {"device": "a"}, RemoveRequest(device="a", block=False)),
        ("remove", {"device": "a", "block": True}, RemoveRequest(device="a", block=True)),
        ("permit_join", {}, PermitJoinRequest(seconds=None)),
        ("permit_join", {"seconds": 0}, PermitJoinRequest(seconds=0)),
        ("permit_join", {"seconds": 12.5}, PermitJoinRequest(seconds=12.5)),
        ("options", {"device": "a"}, OptionsRequest(device="a")),
        (
            "options",
            {"device": "a", "interval_ms": {"climate": 5000, "battery": None}},
            OptionsRequest(device="a", interval_ms={"climate": 5000, "battery": None}),
        ),
    ],
)
def test_a_request_says_what_is_wanted(verb: str, said: dict[str, Any], asked: BaseModel) -> None:
    assert read_admin(verb, json.dumps(said).encode()) == asked


@pytest.mark.parametrize(
    ("verb", "said", "error"),
    [
        (
            "rename",
            {"device": "a", "too": "b"},
            'to: missing; unknown key "too": did you mean "to"?',
        ),
        ("reload", {"x": 1}, 'unknown key "x"; known: transaction'),
        ("rename", {"device": "a"}, "to: missing"),
        ("rename", {"device": "a", "to": 5}, "to: expected a text, got 5"),
        ("rename", {"device": "", "to": "b"}, "device: expected to have at least 1 character"),
        ("rename", {"device": "a", "to": "b" * 65}, "to: expected to have at most 64 characters"),
        ("remove", {"device": "a", "block": 1}, "block: expected true or false, got 1"),
        ("permit_join", {"seconds": "5"}, 'seconds: expected a number, got "5"'),
        ("permit_join", {"seconds": True}, "seconds: expected a number, got true"),
        ("permit_join", {"seconds": 3601}, "seconds: expected to be less than or equal to 3600"),
        ("permit_join", {"seconds": -1}, "seconds: expected to be greater than or equal to 0"),
        (
            "options",
            {"device": "a", "interval_ms": {"climate": 0}},
            "interval_ms.climate: expected to be greater than or equal to 1, got 0",
        ),
        (
            "options",
            {"device": "a", "interval_ms": {"climate": 2.5}},
            "interval_ms.climate: expected a whole number, got 2.5",
        ),
        (
            "options",
            {"device": "a", "interval_ms": {"\u202eclimate": 5}},
            "interval_ms: no stream is called ?climate",
        ),
        ("reload", {"transaction": True}, "transaction: expected a text, got true"),
        ("reload", {"transaction": {"a": 1}}, "transaction: expected a text, got an object"),
        ("reload", {"transaction": "x" * 65}, "transaction: expected to have at most 64"),
        ("devices", {"limit": 201}, "limit: expected to be less than or equal to 200, got 201"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(verb: str, said: dict[str, Any], error: str) -> None:
    assert error_of(verb, json.dumps(said).encode()).startswith(error)


def test_a_verb_there_is_not_is_told_with_those_there_are() -> None:
    assert error_of("renam", b"") == "unknown request `renam`: did you mean `rename`?"
    assert error_of("zz\n", b"").startswith("unknown request `zz?`: there are devices, device, ")


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"[]", "expected a JSON object, got a list of 0"),
        (b"null", "expected a JSON object, got null"),
        (b"\xff{}", "expected JSON in UTF-8"),
        (b"{", 'expected a JSON object, got "{"'),
        (b'{"transaction": 1, "transaction": 2}', 'the key "transaction" is there twice'),
        (b'{"transaction": NaN}', "NaN is not JSON"),
        (b'{"transaction": 1e999}', "a number is too large"),
        (b'{"transaction": 1' + b"0" * 30 + b"}", "a number is too large"),
        (b'{"transaction": ' + b"[" * 1900 + b"]" * 1900 + b"}", "nested too deeply"),
        (b" " * (MAX_PAYLOAD_BYTES - 1) + b"{}", "expected at most 4096 bytes, got 4097"),
        (b" " * (MAX_PAYLOAD_BYTES + 1), "expected at most 4096 bytes, got 4097"),
        (rb'{"transaction": "\ud800"}', "expected JSON in UTF-8"),
    ],
)
def test_what_is_no_object_is_told_for_what_it_is(payload: bytes, error: str) -> None:
    assert error_of("reload", payload).startswith(error)


@pytest.mark.parametrize("named", ["t-1", 7, -7, 2.5, "é" * 64])
def test_the_transaction_is_known_however_wrong_the_rest_is(named: str | float) -> None:
    payload = json.dumps({"transaction": named, "nonsense": [1]}).encode()

    error_of("reload", payload)
    assert transaction_of(payload) == named


@pytest.mark.parametrize("payload", [b"", b"[", b'{"transaction": [1]}', b'{"transaction": ""}'])
def test_a_transaction_that_cannot_be_read_is_none(payload: bytes) -> None:
    assert transaction_of(payload) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
KEYS = st.sampled_from(["device", "to", "block", "seconds", "interval_ms", "limit", "x"])
PAYLOADS = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(KEYS, JSON, max_size=4).map(lambda value: json.dumps(value).encode())
)
"""Most of them are wrong in one way or another."""


@settings(max_examples=examples(500))
@given(verb=st.sampled_from([*REQUESTS, "renme"]), payload=PAYLOADS)
def test_any_payload_is_a_valid_request_or_told_as_wrong(verb: str, payload: bytes) -> None:
    asked, error = None, ""
    try:
        asked = read_admin(verb, payload)
    except RequestError as exc:
        error = str(exc)

    if asked is None:
        assert 0 < len(error) < 500
        assert error.isprintable()
    else:
        assert asked.transaction == transaction_of(payload)
        assert REQUESTS[verb].model_validate(asked.model_dump()) == asked


def test_what_is_typed_for_a_text_stays_text() -> None:
    assert text_keys("rename") == {"device", "to", "transaction"}
    assert text_keys("permit_join") == {"transaction"}


@pytest.mark.parametrize(
    ("topic", "is_fine"),
    [
        ("their/answers", True),
        ("edge/attic/response/abc", True),
        ("edge/attics", True),
        ("edge/attic/greenhouse/state", False),
        ("edge/attic", False),
        ("homeassistant/device/x/config", False),
        ("a/+/b", False),
        ("a/#", False),
        ("$SYS/x", False),
        ("a\x00b", False),
        ("", False),
        ("a" * 513, False),
        ("a/" * 99 + "a", True),
        ("a/" * 100 + "a", False),
        ("grün/\U0001f41d", True),
        ("a\ufeff", False),
        ("a\ufdd0", False),
        ("a\uffff", False),
        ("a\U0010fffe", False),
        ("a\ud800", False),
    ],
)
def test_nobody_has_the_gateway_write_its_own_topics(topic: str, is_fine: bool) -> None:
    assert (not refusal_of(topic, "edge/attic", ("homeassistant",))) is is_fine
