import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.frames import Frame, encode_frame, open_frame
from gateway.protocol.sealed import (
    OVERHEAD,
    SEALED,
    Direction,
    Opened,
    SealFault,
    key_id,
    open_sealed,
    rotated,
    seal,
)
from tests.support.effort import examples

_FILE = json.loads(
    (Path(__file__).parents[1] / "vectors" / "sealed.json").read_text(encoding="utf-8")
)
KEY = bytes(range(32))
SESSION = bytes(range(8))


def frame_of(line: str) -> Frame:
    frame = open_frame(line.encode())
    assert isinstance(frame, Frame)
    return frame


@pytest.mark.parametrize("vector", _FILE["vectors"], ids=lambda v: v["name"])
def test_a_frame_is_sealed_as_the_vector_says(vector: dict[str, Any]) -> None:
    frame = Frame(vector["type"], vector["mid"], bytes.fromhex(vector["body"]))

    sealed = seal(
        frame,
        bytes.fromhex(vector["key"]),
        bytes.fromhex(vector["session"]),
        Direction(vector["direction"]),
        vector["counter"],
    )

    assert sealed.payload.hex() == vector["payload"]
    assert encode_frame(sealed).decode() == vector["line"] + "\n"


@pytest.mark.parametrize("vector", _FILE["vectors"], ids=lambda v: v["name"])
def test_a_sealed_frame_opens_as_the_vector_says(vector: dict[str, Any]) -> None:
    opened = open_sealed(
        frame_of(vector["line"]),
        bytes.fromhex(vector["key"]),
        bytes.fromhex(vector["session"]),
        Direction(vector["direction"]),
        vector["counter"] - 1,
    )

    body = bytes.fromhex(vector["body"])
    assert opened == Opened(Frame(vector["type"], vector["mid"], body), vector["counter"])


@pytest.mark.parametrize("vector", _FILE["bad"], ids=lambda v: v["name"])
def test_what_is_not_taken_is_told_by_its_fault(vector: dict[str, Any]) -> None:
    outcome = open_sealed(
        frame_of(vector["line"]),
        bytes.fromhex(vector["key"]),
        bytes.fromhex(vector["session"]),
        Direction(vector["direction"]),
        vector["last_counter"],
    )

    assert outcome is SealFault(vector["fault"])


@pytest.mark.parametrize("vector", _FILE["key_ids"], ids=lambda v: v["name"])
def test_a_key_is_named_as_the_vector_says(vector: dict[str, Any]) -> None:
    assert key_id(bytes.fromhex(vector["key"])) == vector["id"]


@pytest.mark.parametrize("vector", _FILE["rotations"], ids=lambda v: v["name"])
def test_the_next_key_is_as_the_vector_says(vector: dict[str, Any]) -> None:
    new_key = rotated(bytes.fromhex(vector["key"]), bytes.fromhex(vector["salt"]))

    assert new_key.hex() == vector["new_key"]


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(
    st.integers(0, 0x7F), st.integers(0, 255), st.binary(max_size=200), st.integers(1, 2**32 - 1)
)
def test_what_was_sealed_opens_once(kind: int, mid: int, body: bytes, counter: int) -> None:
    frame = Frame(kind, mid, body)

    sealed = seal(frame, KEY, SESSION, Direction.TO_BOARD, counter)

    assert len(sealed.payload) == len(body) + OVERHEAD
    opened = open_sealed(sealed, KEY, SESSION, Direction.TO_BOARD, counter - 1)
    assert opened == Opened(frame, counter)
    again = open_sealed(sealed, KEY, SESSION, Direction.TO_BOARD, counter)
    assert again is SealFault.OLD_COUNTER


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(st.data(), st.binary(max_size=40))
def test_no_flipped_bit_passes(data: st.DataObject, body: bytes) -> None:
    sealed = seal(Frame(0x20, 7, body), KEY, SESSION, Direction.TO_BOARD, 5)
    raw = bytes((sealed.type, sealed.mid)) + sealed.payload
    bit = data.draw(st.integers(0, 8 * len(raw) - 1).filter(lambda each: each != 7))

    flipped = bytearray(raw)
    flipped[bit // 8] ^= 1 << bit % 8

    changed = Frame(flipped[0], flipped[1], bytes(flipped[2:]))
    assert changed.type & SEALED
    outcome = open_sealed(changed, KEY, SESSION, Direction.TO_BOARD, 0)
    assert outcome is SealFault.BAD_TAG
