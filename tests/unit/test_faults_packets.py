"""Packets as the specification draws them: MQTT 5.0, OASIS Standard, 7 March 2019."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulate.faults.packets import MAX_PACKET, Packet, PacketKind, PacketSplitter

CONNECT_311 = bytes.fromhex("10 10 0004 4d515454 04 02 003c 0004 74657374")
CONNECT_5 = bytes.fromhex("10 11 0004 4d515454 05 02 003c 00 0004 74657374")
CONNACK_311 = bytes.fromhex("20 02 00 00")
PUBLISH_QOS_0 = bytes.fromhex("30 05 0003 612f62")  # topic a/b (figure 3-9), no payload
PUBLISH_QOS_1_311 = bytes.fromhex("32 09 0003 612f62 000a 6869")  # packet id 10, "hi"
PUBLISH_QOS_1_5 = bytes.fromhex("32 0d 0003 612f62 000a 03 230001 6869")  # a topic alias
PUBACK = bytes.fromhex("40 02 000a")
PUBACK_5 = bytes.fromhex("40 03 000a 10")  # reason: no matching subscribers
SUBSCRIBE = bytes.fromhex("82 08 000a 0003 612f62 01")
PINGREQ = bytes.fromhex("c0 00")
TLS_HELLO = bytes.fromhex("16 03 01 00 05 01 00 00 01 00")

STREAM = [CONNECT_5, SUBSCRIBE, PUBLISH_QOS_1_5, PUBLISH_QOS_0, PINGREQ, PUBACK_5]


def packet(raw: bytes) -> Packet:
    (found,) = PacketSplitter().feed(raw)
    assert isinstance(found, Packet)
    assert found.raw == raw
    return found


@pytest.mark.parametrize(
    ("raw", "kind", "packet_id"),
    [
        (CONNECT_311, PacketKind.CONNECT, None),
        (CONNACK_311, PacketKind.CONNACK, None),
        (PUBLISH_QOS_0, PacketKind.PUBLISH, None),
        (PUBLISH_QOS_1_311, PacketKind.PUBLISH, 10),
        (PUBLISH_QOS_1_5, PacketKind.PUBLISH, 10),
        (PUBACK, PacketKind.PUBACK, 10),
        (PUBACK_5, PacketKind.PUBACK, 10),
        (SUBSCRIBE, PacketKind.SUBSCRIBE, 10),
        (PINGREQ, PacketKind.PINGREQ, None),
    ],
)
def test_a_packet_tells_its_kind_and_its_id(
    raw: bytes, kind: PacketKind, packet_id: int | None
) -> None:
    assert packet(raw).kind is kind
    assert packet(raw).packet_id == packet_id


@pytest.mark.parametrize(
    ("raw", "level", "payload"),
    [
        (PUBLISH_QOS_0, 4, b""),
        (PUBLISH_QOS_1_311, 4, b"hi"),
        (PUBLISH_QOS_1_5, 5, b"hi"),
    ],
)
def test_a_publish_tells_its_topic_and_payload(raw: bytes, level: int, payload: bytes) -> None:
    assert packet(raw).publication(level) == ("a/b", payload)


def test_a_connect_tells_the_version_it_wants() -> None:
    assert packet(CONNECT_311).protocol_level == 4
    assert packet(CONNECT_5).protocol_level == 5


@given(st.lists(st.integers(0, sum(map(len, STREAM)))))
def test_packets_are_found_however_they_are_cut_up(cuts: list[int]) -> None:
    wire = b"".join(STREAM)
    splitter = PacketSplitter()

    found = [
        part
        for start, end in pairwise([0, *sorted(cuts), len(wire)])
        for part in splitter.feed(wire[start:end])
    ]

    assert [part.raw for part in found if isinstance(part, Packet)] == STREAM
    assert len(found) == len(STREAM)


@given(st.lists(st.binary(max_size=40)))
def test_whatever_comes_passes_whole_and_in_order(pieces: list[bytes]) -> None:
    splitter = PacketSplitter()

    passed = b"".join(
        part.raw if isinstance(part, Packet) else part
        for piece in pieces
        for part in splitter.feed(piece)
    )

    assert b"".join(pieces).startswith(passed)


@pytest.mark.parametrize("first", [TLS_HELLO, b"GET /mqtt HTTP/1.1\r\n", b"\x00\x00"])
def test_what_is_no_mqtt_passes_at_once_and_for_ever(first: bytes) -> None:
    splitter = PacketSplitter()

    assert splitter.feed(first) == [first]
    assert splitter.feed(PUBACK) == [PUBACK]


def test_a_length_that_does_not_end_is_no_mqtt() -> None:
    splitter = PacketSplitter()

    assert splitter.feed(b"\x30\xff\xff") == []
    assert splitter.feed(b"\xff\xff\x01") == [b"\x30\xff\xff\xff\xff\x01"]


def test_a_large_packet_passes_in_pieces_and_the_next_one_is_seen() -> None:
    size = MAX_PACKET + 1
    length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])  # 1.5.5: seven bits each
    large = b"\x30" + length + b"\x00\x01x" + bytes(size - 3)
    splitter = PacketSplitter()

    found = [
        part
        for start in range(0, len(large), 65_536)
        for part in splitter.feed(large[start : start + 65_536])
    ]
    after = splitter.feed(PUBACK)

    assert b"".join(part for part in found if isinstance(part, bytes)) == large
    assert [part.raw for part in after if isinstance(part, Packet)] == [PUBACK]
