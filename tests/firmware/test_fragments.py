"""board/fragments.py against the vectors both sides share, under each interpreter."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firmware.hosts import Host
from tests.firmware.under_test import load

fragments = load("board.fragments")

VECTORS_PATH = Path(__file__).parents[1] / "vectors" / "fragments.json"
VECTORS: Any = json.loads(VECTORS_PATH.read_text(encoding="utf-8"))

EVERY_VECTOR = f"""
from binascii import hexlify, unhexlify
from board.fragments import Fragments

with open({str(VECTORS_PATH)!r}) as file:
    vectors = json.load(file)

def joined(row):
    made = Fragments()
    lines = [made.feed(unhexlify(fragment)) for fragment in row["fragments"]]
    lines = [line.decode().rstrip() for line in lines if line]
    return lines == row["lines"], made.dropped - row["dropped"], made.strays - row["strays"]

def cut(row):
    made = Fragments()
    for _ in range(row["counter"]):
        made.start(b"~CAD3mACJ")
        made.fragment(19)
        made.advance()
    made.start(row["line"].encode())
    found = []
    while True:
        fragment = made.fragment(row["mtu"] - 4)
        if fragment is None:
            return found == row["fragments"]
        found.append(hexlify(fragment).decode())
        made.advance()

wrong = [row["name"] for row in vectors["joining"] if joined(row) != (True, 0, 0)]
wrong += [row["name"] for row in vectors["cutting"] if not cut(row)]
say([wrong, len(vectors["joining"]), len(vectors["cutting"])])
"""


def test_every_vector_is_joined_and_cut(host: Host) -> None:
    wrong, joining, cutting = host.said(EVERY_VECTOR)

    assert wrong == []
    assert joining == len(VECTORS["joining"]) >= 20
    assert cutting == len(VECTORS["cutting"]) >= 7


def cut(line: bytes, room: int) -> list[bytes]:
    made = fragments.Fragments()
    made.start(line)
    found = []
    while (fragment := made.fragment(room)) is not None:
        found.append(bytes(fragment))
        made.advance()
    return found


def line_of(frame: bytes) -> bytes:
    made = fragments.Fragments()
    line: bytes = made.feed(b"\xc0" + frame)
    return line


ANY_FRAGMENT = st.binary(max_size=520) | st.builds(
    lambda header, body: bytes((header,)) + body, st.integers(0, 255), st.binary(max_size=40)
)


@given(st.lists(ANY_FRAGMENT, max_size=60))
def test_whatever_comes_in_whatever_order_never_raises_and_never_grows(
    heard: list[bytes],
) -> None:
    made = fragments.Fragments()

    lines = [line for fragment in heard if (line := made.feed(fragment))]

    assert len(made.joined) <= 512  # what a frame under way may hold
    assert all(len(line) <= 686 for line in lines)  # 512 bytes in base64, "~" and a newline
    assert made.dropped + made.strays + len(lines) <= 2 * len(heard)


@given(st.lists(st.binary(min_size=6, max_size=300), min_size=1), st.integers(19, 513))
def test_what_is_cut_is_joined_again(frames: list[bytes], room: int) -> None:
    sender, receiver = fragments.Fragments(), fragments.Fragments()
    arrived = []

    for frame in frames:
        sender.start(line_of(frame))
        while (fragment := sender.fragment(room)) is not None:
            assert len(fragment) <= room + 1
            arrived.append(receiver.feed(bytes(fragment)))
            sender.advance()

    assert [line for line in arrived if line] == [line_of(frame) for frame in frames]
    assert (receiver.dropped, receiver.strays) == (0, 0)


@given(st.binary(min_size=60, max_size=300), st.data())
def test_a_lost_fragment_costs_its_frame_and_no_other(frame: bytes, data: st.DataObject) -> None:
    pieces = cut(line_of(frame), 19)
    lost = data.draw(st.integers(0, len(pieces) - 1))
    receiver = fragments.Fragments()

    first = [receiver.feed(piece) for piece in pieces[:lost] + pieces[lost + 1 :]]
    second = [receiver.feed(piece) for piece in pieces]

    assert not any(first)
    assert [line for line in second if line] == [line_of(frame)]


def test_a_frame_that_was_stopped_is_not_sent_on() -> None:
    made = fragments.Fragments()
    made.start(line_of(bytes(60)))
    made.fragment(19)
    made.advance()

    made.stop()

    assert made.fragment(19) is None
    assert cut(line_of(bytes(6)), 19) == [b"\xc0" + bytes(6)]


@pytest.mark.parametrize("room", [19, 243])
def test_a_fragment_that_was_not_taken_is_the_same_again(room: int) -> None:
    made = fragments.Fragments()
    made.start(line_of(bytes(range(50))))

    assert bytes(made.fragment(room)) == bytes(made.fragment(room))
