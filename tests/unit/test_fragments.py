"""Cutting frames into fragments and joining them, as both sides do it."""

import json
from base64 import b64encode
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.fragments import LEAST_MTU, MAX_FRAGMENTED, Joiner, cut

_FILE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "fragments.json").read_text(encoding="utf-8")
)
_FRAMES = st.binary(min_size=6, max_size=MAX_FRAGMENTED)
_MTUS = st.integers(LEAST_MTU, 517)
_COUNTERS = st.integers(0, 63)


def _line(frame: bytes) -> bytes:
    return b"~" + b64encode(frame) + b"\n"


@pytest.mark.parametrize("vector", _FILE["joining"], ids=lambda v: v["name"])
def test_fragments_are_joined_as_the_vector_says(vector: dict[str, Any]) -> None:
    joiner = Joiner()

    fed = [joiner.feed(bytes.fromhex(fragment)) for fragment in vector["fragments"]]

    assert [line.decode() for line in fed if line] == [f"{line}\n" for line in vector["lines"]]
    assert (joiner.dropped, joiner.strays) == (vector["dropped"], vector["strays"])
    assert joiner.held == 0


@pytest.mark.parametrize("vector", _FILE["cutting"], ids=lambda v: v["name"])
def test_a_line_is_cut_as_the_vector_says(vector: dict[str, Any]) -> None:
    line = vector["line"].encode() + b"\n"

    fragments = cut(line, vector["mtu"] - 4, vector["counter"])

    assert [fragment.hex() for fragment in fragments] == vector["fragments"]


@given(_FRAMES, _MTUS, _COUNTERS)
def test_what_was_cut_is_joined_at_any_mtu(frame: bytes, mtu: int, counter: int) -> None:
    joiner = Joiner()

    fragments = cut(_line(frame), mtu - 4, counter)
    joined = [joiner.feed(fragment) for fragment in fragments]

    assert max(map(len, fragments)) <= mtu - 3
    assert joined == [None] * (len(fragments) - 1) + [_line(frame)]
    assert (joiner.dropped, joiner.strays, joiner.held) == (0, 0, 0)


@given(st.lists(st.binary(max_size=600), max_size=50))
def test_any_bytes_in_any_order_never_raise_and_never_grow(fragments: list[bytes]) -> None:
    joiner = Joiner()

    for fragment in fragments:
        line = joiner.feed(fragment)
        assert line is None or len(line) <= len(_line(bytes(MAX_FRAGMENTED)))
        assert joiner.held <= MAX_FRAGMENTED

    assert joiner.dropped + joiner.strays <= 2 * len(fragments)


def test_a_million_bytes_of_one_frame_hold_no_more_than_a_frame_may_have() -> None:
    joiner = Joiner()

    joiner.feed(b"\x80")
    for counter in range(1, 5000):
        joiner.feed(bytes((counter & 63,)) + bytes(200))
        assert joiner.held <= MAX_FRAGMENTED

    assert joiner.dropped == 1


@given(
    st.lists(st.binary(min_size=6, max_size=60), min_size=1, max_size=12),
    _COUNTERS,
    st.data(),
)
def test_lost_repeated_or_swapped_fragments_cost_only_their_frames(
    frames: list[bytes], counter: int, data: st.DataObject
) -> None:
    sent: list[tuple[int, int, bytes]] = []
    for number, frame in enumerate(frames):
        fragments = cut(_line(frame), LEAST_MTU - 4, counter)
        sent += [(number, place, fragment) for place, fragment in enumerate(fragments)]
        counter += len(fragments)
    arrived = list(sent)
    for _ in range(data.draw(st.integers(0, 6), label="mishaps")):
        if not arrived:
            break
        at = data.draw(st.integers(0, len(arrived) - 1), label="at")
        match data.draw(st.sampled_from(["lost", "repeated", "swapped"]), label="mishap"):
            case "lost":
                del arrived[at]
            case "repeated":
                arrived.insert(data.draw(st.integers(0, len(arrived)), label="to"), arrived[at])
            case _:
                other = data.draw(st.integers(0, len(arrived) - 1), label="with")
                arrived[at], arrived[other] = arrived[other], arrived[at]
    joiner = Joiner()

    joined = [line for *_, fragment in arrived if (line := joiner.feed(fragment)) is not None]

    # at most 48 fragments: the counter tells any two of them apart, so nothing is joined wrong
    assert set(joined) <= {_line(frame) for frame in frames}
    for number, frame in enumerate(frames):
        if _came_whole(number, [entry for entry in sent if entry[0] == number], arrived):
            assert _line(frame) in joined


def _came_whole(
    number: int, fragments: list[tuple[int, int, bytes]], arrived: list[tuple[int, int, bytes]]
) -> bool:
    """Whether the fragments of a frame came side by side, in order, somewhere."""
    places = [at for at, entry in enumerate(arrived) if entry[0] == number]
    return [arrived[at] for at in places] == fragments and all(
        later == earlier + 1 for earlier, later in pairwise(places)
    )


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b'{"ack":7}\n', _line(b"12345"), _line(bytes(513)), b"~A\n"],
    ids=["nothing", "newline", "text", "too small", "too large", "no base64"],
)
def test_what_is_no_frame_is_not_cut(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        cut(line, 19, 0)
