"""Finds out that a broker hangs up on messages above some size; pure.

MQTT 5 brokers say how large a packet may be. MQTT 3.1.1 has no word for it: the broker closes the
connection, and a message that is sent again and again would block all others for ever.
"""

import logging
from collections.abc import Iterable

from gateway.model import Gap
from gateway.mqtt.messages import Message

_log = logging.getLogger(__name__)

STRIKES = 3
"""Losses in a row with one and the same message alone in flight, until its size is held guilty."""

SMALLEST_LIMIT_BYTES = 1024
"""Never conclude that a smaller message is too large: then the broker has another trouble, and an
ordinary sample (some 150 bytes) must not be given up for it."""


class Suspicion:
    """Watches what is in flight when connections are lost."""

    def __init__(self) -> None:
        self.limit_bytes: int | None = None
        """Largest packet this broker seems to take; None while nothing speaks against any size."""
        self.is_cautious = False
        """Whether messages shall be sent one at a time, so that it shows which one is guilty."""
        self._suspects: set[tuple[str, int, int]] = set()
        self._strikes = 0

    def connection_lost(self, in_flight: Iterable[Message]) -> None:
        """Note what the broker had been sent and not acknowledged when the connection ended."""
        messages = {_key(message): message for message in in_flight}
        again = self._suspects & messages.keys()
        self._suspects = set(messages)
        if not again:
            self._strikes = 0
        elif not self.is_cautious:
            self.is_cautious = True
        elif len(messages) == 1:
            self._strikes += 1
            if self._strikes >= STRIKES:
                self._strikes = 0
                self._limit_to_less_than(next(iter(messages.values())))

    def acknowledged(self, message: Message) -> None:
        """Note that the broker took a message: it is not to blame."""
        self._suspects.discard(_key(message))
        if not self._suspects:
            self.is_cautious = False
            self._strikes = 0

    def _limit_to_less_than(self, message: Message) -> None:
        size_bytes = message.packet_bytes
        limit = size_bytes - 1 if len(message.records) == 1 else size_bytes // 2
        if size_bytes <= SMALLEST_LIMIT_BYTES:
            return
        self.limit_bytes = max(limit, SMALLEST_LIMIT_BYTES)
        _log.warning(
            "the broker hung up %d times on a message of %d bytes: it gets at most %d from now on",
            STRIKES,
            size_bytes,
            self.limit_bytes,
        )


def _key(message: Message) -> tuple[str, int, int]:
    """Name a message by its oldest record, which stays the first one until it is acknowledged.

    What shares the message with it changes with every attempt, as newer samples join.
    """
    record = message.records[0]
    seq = record.first_seq if isinstance(record, Gap) else record.seq
    return (record.device, record.boot, seq)
