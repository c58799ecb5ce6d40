"""What paho's packets carry besides topic and payload."""

import struct
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from paho.mqtt import MQTTException
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.mqtt.incoming import MAX_PENDING, Incoming

Version: TypeAlias = Literal["5", "3.1.1"]

MAX_INCOMING_BYTES = 64 * 1024
"""Largest packet the broker may send: nothing the gateway subscribes to is larger. MQTT 5 tells it
so; with 3.1.1 larger ones come, and are dropped."""

HEAD_BYTES = 2 + 65_535 + 2
"""Of a PUBLISH: a topic with its length, and the packet identifier."""

SESSION_EXPIRY_S = 60
"""How long the broker keeps for us what arrives while we are away (MQTT 5 only): a gateway that is
restarted gets it, one that comes back an hour later does not switch a pump that was meant then."""

UNREADABLE: Final = (MQTTException, ValueError, LookupError, struct.error)
"""What paho raises at a PUBLISH that it cannot read."""


def connect_properties(version: Version) -> Properties | None:
    """Return what CONNECT asks for."""
    if version != "5":
        return None
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_INCOMING_BYTES
    properties.ReceiveMaximum = MAX_PENDING
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    return properties


def publish_properties(correlation: bytes | None) -> Properties | None:
    """Return what an answer carries along; None without."""
    if correlation is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.CorrelationData = correlation
    return properties


def subscriptions(
    filters: Sequence[str], version: Version
) -> list[tuple[str, SubscribeOptions]] | list[tuple[str, int]]:
    """Return the filters as paho wants them, with QoS 1."""
    if version == "5":
        return [(each, SubscribeOptions(qos=1)) for each in filters]
    return [(each, 1) for each in filters]


def incoming(message: MQTTMessage, confirm: Callable[[], None]) -> Incoming | None:
    """Return what arrived; None if its topic is no text, which no broker lets through."""
    try:
        topic = message.topic
    except UnicodeDecodeError:
        return None
    properties = message.properties
    expires_s: int | None = getattr(properties, "MessageExpiryInterval", None)
    return Incoming(
        topic,
        bytes(message.payload),
        is_retained=message.retain,
        is_again=message.dup,
        packet_id=message.mid if message.qos else 0,
        done=confirm,
        response_topic=getattr(properties, "ResponseTopic", ""),
        correlation=getattr(properties, "CorrelationData", None),
        expires_s=None if expires_s is None else float(expires_s),
    )


def publish_head(command: int, packet: bytes) -> tuple[str, int]:
    """Return topic and packet identifier of a PUBLISH that paho cannot read; 0 if it has none.

    Raises:
        ValueError: that is no PUBLISH at all: it is the broker's fault.
    """
    qos = (command >> 1) & 3
    size = int.from_bytes(packet[:2], "big")
    behind = packet[2 + size : 4 + size]
    if qos > 1 or (qos and len(behind) < 2):  # noqa: PLR2004 - bytes of an identifier
        raise ValueError("a PUBLISH without packet identifier, or of a QoS not asked for")
    topic = packet[2 : 2 + size].decode(errors="replace")
    return topic, int.from_bytes(behind, "big") if qos else 0
