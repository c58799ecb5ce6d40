"""What the broker sends us, and who takes it; pure."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

_log = logging.getLogger(__name__)

MAX_PENDING: Final = 100
"""Messages the broker may have sent that are not confirmed yet (MQTT 5: Receive Maximum)."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message for the gateway; the broker keeps it until `done` was called."""

    topic: str
    """The whole topic."""
    payload: bytes
    is_retained: bool
    """Whether it was there before we subscribed, rather than published now."""
    is_again: bool
    """Whether it may have been delivered before: the broker had no confirmation of it."""
    packet_id: int
    """Tells messages of one session apart that are not confirmed; 0 for one that needs none."""
    done: Callable[[], None]
    """Confirms it, at any time in the loop's thread; in vain once the connection is lost."""
    response_topic: str = ""
    """Where its sender wants the answer, MQTT 5."""
    correlation: bytes | None = None
    """What the answer must carry, MQTT 5."""
    expires_s: float | None = None
    """What is left of its life, MQTT 5; None for no end."""


Handler: TypeAlias = Callable[[Incoming], None]


def _ignore() -> None:
    """Do nothing."""


def _ignore_drop(_topic: str, _reason: str) -> None:
    """Do nothing."""


class Listener(NamedTuple):
    """Who hears what comes on a connection."""

    take: Handler
    begin_session: Callable[[], None] = _ignore
    """Called before the first message if the broker remembers nothing, not even packet ids."""
    drop: Callable[[str, str], None] = _ignore_drop
    """Called with topic and reason for a message that cannot be read, and is confirmed."""


class Inbox:
    """Which topics are subscribed to, and who takes what arrives on them."""

    def __init__(self, counts: Counter[str]) -> None:
        """Count in `counts` what becomes of messages, as `messages_...`: README.md lists them."""
        self._counts = counts
        self._handlers: list[tuple[tuple[str, ...], Handler]] = []

    @property
    def filters(self) -> list[str]:
        """All topic filters, in the order in which they were added."""
        return [each for filters, _ in self._handlers for each in filters]

    def add(self, filters: Sequence[str], handler: Handler) -> None:
        """Have `handler` take what matches one of the whole `filters`; the first to match does.

        It must not block, and calls `done` once the message needs no repetition.
        """
        self._handlers.append((tuple(filters), handler))

    def take(self, message: Incoming) -> None:
        """Hand a message to whom it is for.

        What strangers send must not end the gateway, nor come again and again because it did: an
        error of a handler is logged, once with its traceback, and the message confirmed.
        """
        for filters, handler in self._handlers:
            if any(matches(each, message.topic) for each in filters):
                self._counts["messages_taken"] += 1
                try:
                    handler(message)
                except Exception as exc:  # noqa: BLE001 - a request's border: see above
                    self._failed(message, exc)
                return
        self._counts["messages_unwanted"] += 1  # a subscription of an earlier version's session
        message.done()

    def drop(self, topic: str, reason: str) -> None:
        """Note a message that could not be read; what it asked for is not done."""
        if not self._counts["messages_unreadable"]:
            _log.warning(
                "a message on %.200r cannot be read, and has no effect: %s (further ones are only "
                "counted)",
                topic,
                reason,
            )
        self._counts["messages_unreadable"] += 1

    def _failed(self, message: Incoming, error: Exception) -> None:
        if not self._counts["messages_failed"]:
            _log.error("%s: cannot be taken", message.topic, exc_info=error)
        self._counts["messages_failed"] += 1
        message.done()


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a topic matches a filter. Source: MQTT 5, section 4.7."""
    wanted, given = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given) or level not in {"+", given[index]}:
            return False
    return len(wanted) == len(given)
