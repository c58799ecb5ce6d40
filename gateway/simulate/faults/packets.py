"""MQTT packets in a stream of bytes, for who stands in between; pure, for versions 3.1.1 and 5.

Source: MQTT 5.0, 2.1 (fixed header), 1.5.5 (variable byte integer), 3.1.2.2 and 3.3.2.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

MAX_PACKET = 1 << 20
"""Larger packets pass in pieces and are not looked at, so that none fills the memory."""

_MAX_LENGTH_BYTES = 4
_HAS_PROPERTIES = 5
"""The protocol level of MQTT 5."""


class PacketKind(IntEnum):
    """MQTT's control packet types."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


_FLAGS = {PacketKind.PUBREL: 2, PacketKind.SUBSCRIBE: 2, PacketKind.UNSUBSCRIBE: 2}
"""Flags other than 0; those of PUBLISH vary."""

_IDENTIFIED = range(PacketKind.PUBACK, PacketKind.PINGREQ)
"""Kinds that begin with a packet id."""


class Publication(NamedTuple):
    """What a PUBLISH carries."""

    topic: str
    """Empty where the sender used an alias."""
    payload: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """One whole packet."""

    raw: bytes
    """As it was on the wire."""
    body_at: int
    """Where the fixed header ends."""

    @property
    def kind(self) -> PacketKind:
        """What it is."""
        return PacketKind(self.raw[0] >> 4)

    @property
    def qos(self) -> int:
        """Quality of service of a PUBLISH."""
        return self.raw[0] >> 1 & 3

    @property
    def packet_id(self) -> int | None:
        """The packet id; None for packets without."""
        at = self.body_at
        if self.kind is PacketKind.PUBLISH:
            if not self.qos:
                return None
            at += 2 + self._u16(at)
        elif self.kind not in _IDENTIFIED:
            return None
        return self._u16(at)

    @property
    def protocol_level(self) -> int:
        """What a CONNECT asks for: 4 is MQTT 3.1.1, 5 is MQTT 5."""
        at = self.body_at + 2 + self._u16(self.body_at)
        return int.from_bytes(self.raw[at : at + 1])

    def publication(self, protocol_level: int) -> Publication:
        """Return what a PUBLISH of a connection of this level carries."""
        topic_at = self.body_at + 2
        at = topic_at + self._u16(self.body_at)
        topic = self.raw[topic_at:at].decode(errors="replace")
        if self.qos:
            at += 2
        if protocol_level >= _HAS_PROPERTIES and (number := _number(self.raw, at)) is not None:
            length, at = number
            at += length
        return Publication(topic, self.raw[at:])

    def _u16(self, at: int) -> int:
        return int.from_bytes(self.raw[at : at + 2])


class PacketSplitter:
    """Cuts one direction of a connection into packets.

    What is no MQTT, such as TLS, passes as bytes, and so does all that follows it.
    """

    def __init__(self) -> None:
        self._partial = b""
        self._passing = 0
        """Bytes of a large packet that are still to come."""
        self._is_opaque = False

    def feed(self, data: bytes) -> list[Packet | bytes]:
        """Take what arrived; return what is complete, with bytes that are none of our business."""
        data = self._partial + data
        found: list[Packet | bytes] = []
        at = 0
        while at < len(data) and (part := self._part(data, at)) is not None:
            found.append(part)
            at += len(part.raw if isinstance(part, Packet) else part)
        self._partial = data[at:]
        return found

    def _part(self, data: bytes, at: int) -> Packet | bytes | None:
        if self._passing:
            piece = data[at : at + self._passing]
            self._passing -= len(piece)
            return piece
        if self._is_opaque or not _may_begin_packet(data[at]):
            self._is_opaque = True
            return data[at:]
        if (number := _number(data, at + 1)) is None:
            self._is_opaque = len(data) - at > _MAX_LENGTH_BYTES
            return data[at:] if self._is_opaque else None
        length, body_at = number
        end = body_at + length
        if length > MAX_PACKET:
            self._passing = max(0, end - len(data))
            return data[at:end]
        return Packet(data[at:end], body_at - at) if end <= len(data) else None


def _may_begin_packet(first: int) -> bool:
    kind, flags = first >> 4, first & 15
    if kind == PacketKind.PUBLISH:
        return True
    return kind != 0 and flags == _FLAGS.get(PacketKind(kind), 0)


def _number(data: bytes, at: int) -> tuple[int, int] | None:
    """Return the variable byte integer at `at` and where it ends; None if it does not end."""
    value = 0
    for place, byte in enumerate(data[at : at + _MAX_LENGTH_BYTES]):
        value |= (byte & 127) << 7 * place
        if byte < 128:  # noqa: PLR2004 the highest bit says that another byte follows
            return value, at + place + 1
    return None
