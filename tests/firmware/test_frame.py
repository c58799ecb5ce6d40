"""board/frame.py against the vectors both sides share."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firmware.under_test import load

frame = load("board.frame")

VECTORS: Any = json.loads(
    (Path(__file__).parents[1] / "vectors" / "frames.json").read_text(encoding="utf-8")
)


def named(rows: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in rows]


def sealed(kind: int, mid: int, payload: bytes) -> bytes:
    buffer = bytearray(len(payload) + 6)
    buffer[: len(payload) + 2] = bytes((kind, mid)) + payload
    line: bytes = frame.seal(buffer, len(payload) + 2)
    return line


@pytest.mark.parametrize("row", named(VECTORS["vectors"]))
def test_a_vector_is_opened(row: dict[str, Any]) -> None:
    opened = frame.open_line(row["line"].encode())

    assert opened == (row["type"], row["mid"], bytes.fromhex(row["payload"]))


@pytest.mark.parametrize(
    "row", named([row for row in VECTORS["vectors"] if row["line"].rfind("~") == 0])
)
def test_a_vector_is_sealed(row: dict[str, Any]) -> None:
    line = sealed(row["type"], row["mid"], bytes.fromhex(row["payload"]))

    assert line == row["line"].encode() + b"\n"


@pytest.mark.parametrize("row", named(VECTORS["bad"]))
def test_a_bad_vector_is_text(row: dict[str, Any]) -> None:
    assert frame.open_line(row["line"].encode("latin-1")) is None


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_the_end_of_the_line_may_be_there(ending: bytes) -> None:
    assert frame.open_line(b"~CAD3mACJ" + ending) == (8, 0, b"")


@given(st.binary(max_size=400))
def test_noise_never_raises(noise: bytes) -> None:
    assert frame.open_line(b"~" + noise) is None


@given(st.binary(max_size=290), st.integers(0, 255), st.integers(0, 255))
def test_what_was_sealed_is_opened(payload: bytes, kind: int, mid: int) -> None:
    assert frame.open_line(sealed(kind, mid, payload)) == (kind, mid, payload)


@given(st.binary(max_size=60), st.data())
def test_a_flipped_bit_never_changes_what_is_read(payload: bytes, data: st.DataObject) -> None:
    line = bytearray(sealed(1, 2, payload))
    line[data.draw(st.integers(1, len(line) - 2))] ^= 1 << data.draw(st.integers(0, 7))

    opened = frame.open_line(bytes(line))

    assert opened in (None, (1, 2, payload))  # base64's unused last bits mean nothing


@pytest.mark.parametrize("characters", [256, 400])
def test_payload_room_fills_a_line(characters: int) -> None:
    room = frame.payload_room(characters)

    assert len(sealed(1, 0, bytes(room))) <= characters
    assert len(sealed(1, 0, bytes(room + 1))) > characters


def test_a_text_is_clipped_between_characters() -> None:
    assert frame.clip("zu heiß", 20) == b"zu hei\xc3\x9f"
    assert frame.clip("zu heiß", 7) == b"zu hei"
    assert frame.clip("ßab", 0) == b""
