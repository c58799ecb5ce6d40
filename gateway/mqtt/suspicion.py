"""Finds out which message it is that makes a broker hang up; pure.

MQTT 5 brokers say how large a packet may be, and why they refuse one. MQTT 3.1.1 has no words for
it: the broker closes the connection, and a message that is sent again and again would block all
others for ever.
"""

import logging
from collections.abc import Iterable
from typing import TypeAlias

from gateway.model import Gap
from gateway.mqtt.messages import Message

_log = logging.getLogger(__name__)

STRIKES = 3
"""Losses with one and the same message alone in flight, until it is held guilty."""

SMALLEST_LIMIT_BYTES = 1024
"""Never conclude that a smaller message is too large: then the broker has another reason, and an
ordinary sample (some 150 bytes) must not be given up for it."""


CALM_AFTER = 1000
"""Messages acknowledged in a row until all is forgotten, should a suspect never be seen again (its
samples may have been dropped): more than the devices that take turns between two losses."""

_Key: TypeAlias = tuple[str, int, int]
"""A message is known by its oldest record, which stays the first one until it is acknowledged. What
shares the message with it changes with every attempt, as newer samples join. Previews of a device
have one name: each connection begins with a newer one."""


class Suspicion:
    """Watches what is in flight when connections are lost."""

    def __init__(self) -> None:
        self.limit_bytes: int | None = None
        """Largest packet this broker seems to take; None while nothing speaks against any size."""
        self.is_cautious = False
        """Whether messages shall be sent one at a time, so that it shows which one is guilty."""
        self._suspects: dict[_Key, int] = {}
        """What was in flight when a connection was lost; when cautious, how often it was alone."""
        self._acknowledged = 0
        """Messages since the last loss."""

    def connection_lost(self, in_flight: Iterable[Message]) -> str | None:
        """Note what the broker had been sent and not acknowledged when the connection ended.

        Return the device whose message is guilty of something else than its size: it should rest.
        """
        self._acknowledged = 0
        messages = {_key(message): message for message in in_flight}
        if not self.is_cautious:
            self.is_cautious = not self._suspects.keys().isdisjoint(messages)
            self._suspects = dict.fromkeys(messages, 0)
            return None
        if len(messages) != 1:
            return None
        ((key, message),) = messages.items()
        self._suspects[key] = self._suspects.get(key, 0) + 1
        if self._suspects[key] < STRIKES:
            return None
        return self._condemn(key, message)

    def acknowledged(self, message: Message) -> None:
        """Note that the broker took a message: it is not to blame."""
        self._acknowledged += 1
        if self._acknowledged >= CALM_AFTER:
            self._suspects.clear()
        self._clear(_key(message))

    def _clear(self, key: _Key) -> None:
        self._suspects.pop(key, None)
        if not self._suspects:
            self.is_cautious = False

    def _condemn(self, key: _Key, message: Message) -> str | None:
        size_bytes = message.packet_bytes
        if size_bytes <= SMALLEST_LIMIT_BYTES:
            _log.warning("the broker hung up %d times on %s", STRIKES, message.topic)
            self._clear(key)
            return message.records[0].device
        self._suspects[key] = 0
        limit = size_bytes - 1 if len(message.records) == 1 else size_bytes // 2
        self.limit_bytes = max(limit, SMALLEST_LIMIT_BYTES)
        _log.warning(
            "the broker hung up %d times on %d bytes: messages have at most %d from now on",
            STRIKES,
            size_bytes,
            self.limit_bytes,
        )
        return None


def _key(message: Message) -> _Key:
    record = message.records[0]
    if message.is_preview:
        return (record.device, -1, -1)
    seq = record.first_seq if isinstance(record, Gap) else record.seq
    return (record.device, record.boot, seq)
