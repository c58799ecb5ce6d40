import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.frames import (
    MAX_FRAME_ON_256,
    BadFrame,
    Frame,
    FrameFault,
    encode_frame,
    line_size,
    open_frame,
)
from tests.support.effort import examples

_FILE = json.loads(
    (Path(__file__).parents[1] / "vectors" / "frames.json").read_text(encoding="utf-8")
)
FRAMES = st.builds(Frame, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=400))


@pytest.mark.parametrize("vector", _FILE["vectors"], ids=lambda v: v["name"])
def test_frame_opens_as_the_vector_says(vector: dict[str, Any]) -> None:
    frame = open_frame(vector["line"].encode())

    assert frame == Frame(vector["type"], vector["mid"], bytes.fromhex(vector["payload"]))


@pytest.mark.parametrize("vector", _FILE["vectors"], ids=lambda v: v["name"])
def test_frame_encodes_as_the_vector_says(vector: dict[str, Any]) -> None:
    line = encode_frame(Frame(vector["type"], vector["mid"], bytes.fromhex(vector["payload"])))

    text_in_front, _, frame = vector["line"].rpartition("~")
    assert line.decode() == "~" + frame + "\n"
    assert "~" not in text_in_front or vector["name"] == "tildes in front"


@pytest.mark.parametrize("vector", _FILE["bad"], ids=lambda v: v["name"])
def test_what_is_no_frame_is_told_by_its_fault(vector: dict[str, Any]) -> None:
    outcome = open_frame(vector["line"].encode())

    fault = vector["fault"]
    assert outcome == (None if fault is None else BadFrame(FrameFault(fault)))


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(FRAMES)
def test_frame_round_trips(frame: Frame) -> None:
    line = encode_frame(frame)

    assert line.endswith(b"\n")
    assert len(line) == line_size(len(frame.payload) + 6)
    assert open_frame(line[:-1]) == frame


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_frame_or_a_fault_or_text(noise: bytes, marked: bool) -> None:
    line = b"~" + noise if marked else noise

    outcome = open_frame(line)

    assert (outcome is None) == (b"~" not in line)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_never_gives_another_frame(seed: int) -> None:
    rng = random.Random(seed)
    frame = Frame(0x10, 1, rng.randbytes(100))
    line = bytearray(encode_frame(frame)[:-1])

    for position in range(1, len(line)):
        line[position] ^= 1 << rng.randrange(8)
        outcome = open_frame(bytes(line))
        # the last character before padding has bits that carry nothing: there it is the same frame
        assert outcome == frame or not isinstance(outcome, Frame), f"seed {seed}"
        line = bytearray(encode_frame(frame)[:-1])


def test_the_largest_frame_for_a_uart_makes_a_line_of_at_most_256_characters() -> None:
    assert line_size(MAX_FRAME_ON_256) <= 256
    assert line_size(MAX_FRAME_ON_256 + 1) > 256
