"""Which topics are to have a retained message of ours, and which of them are noted for clearing."""

import asyncio
from collections.abc import Callable, Container, Iterable
from typing import Protocol


class TopicLedger(Protocol):
    """Where topics are noted, durably: what was ever retained can be cleared, after any crash."""

    def note(self, topic: str, on_noted: Callable[[], None]) -> None:
        """Note a topic; `on_noted` is called once something may be retained there."""

    def forget(self, topic: str) -> None:
        """Forget a topic: the broker holds nothing there any more."""


class Retained:
    """Nothing is retained on a topic before the ledger has it, nor on one that nobody claims.

    Claimed is a topic on which something is retained that is no document: the newest sample of a
    device, or what an earlier run of the gateway left there and still holds.
    """

    def __init__(self, ledger: TopicLedger | None = None) -> None:
        """Without a ledger everything may be retained at once."""
        self._ledger = ledger
        self._noted: set[str] = set()
        self._noting: set[str] = set()
        self._claimed: set[str] = set()
        self._clearing: set[str] = set()
        self._changed = asyncio.Event()
        self.on_noted: Callable[[str], None] = _ignore

    def load(self, topics: Iterable[str]) -> None:
        """Take up what the ledger has from earlier runs."""
        self._noted.update(topics)

    def claim(self, topic: str) -> None:
        """Let something be retained on a topic that is no document."""
        self._claimed.add(topic)
        self.note(topic)

    def is_claimed(self, topic: str) -> bool:
        """Tell whether something other than a document may be retained on a topic."""
        return self._ledger is None or topic in self._claimed

    def note(self, topic: str) -> None:
        """Have a topic noted, unless it is; `on_noted` is called when it is."""
        if self._ledger is not None and topic not in self._noted and topic not in self._noting:
            self._noting.add(topic)
            self._ledger.note(topic, lambda: self._on_noted(topic))

    def is_noted(self, topic: str) -> bool:
        """Tell whether something may be retained on a topic."""
        return self._ledger is None or topic in self._noted

    def clear(self, topic: str) -> None:
        """Note that the broker is to hold nothing on a topic; an empty message is under way."""
        self._claimed.discard(topic)
        self._clearing.add(topic)

    def cleared(self, topic: str) -> None:
        """Note that the broker has answered to the empty message, whatever it said."""
        self._clearing.discard(topic)
        if topic in self._noted:
            self.on_noted(topic)
        self._changed.set()

    def is_clearing(self, topic: str) -> bool:
        """Tell whether an empty message is under way."""
        return topic in self._clearing

    def forget(self, topic: str) -> None:
        """Let a topic leave the ledger: the broker holds nothing there, and will not again."""
        if topic in self._noted and topic not in self._claimed:
            self._noted.discard(topic)
            if self._ledger is not None:
                self._ledger.forget(topic)

    def not_cleared(self, topic: str) -> None:
        """Note that a document takes the place of the empty message."""
        self._clearing.discard(topic)

    def topics(self) -> list[str]:
        """Return all topics that are noted, or about to be."""
        return sorted(self._noted | self._noting)

    def strangers(self, documents: Container[str]) -> list[str]:
        """Return the topics of the ledger that are neither claimed nor a document's."""
        return [
            topic
            for topic in sorted(self._noted)
            if topic not in self._claimed and topic not in documents
        ]

    async def wait(self, topic: str) -> None:
        """Wait until a message may be retained on a topic, or nobody claims it any more."""
        while self.is_claimed(topic) and not self._is_ready(topic):
            self.note(topic)
            self._changed.clear()
            await self._changed.wait()

    async def wait_noted(self, topic: str) -> None:
        """Wait until a topic is noted."""
        while not self.is_noted(topic):
            self.note(topic)
            self._changed.clear()
            await self._changed.wait()

    def keeps(self, topic: str) -> bool:
        """Tell whether a sample that is being sent is to be retained on its topic."""
        return self._ledger is None or (topic in self._claimed and self._is_ready(topic))

    def _is_ready(self, topic: str) -> bool:
        if self._ledger is None:
            return True
        # An empty message that comes behind a sample would take it along.
        return topic in self._noted and topic not in self._clearing

    def _on_noted(self, topic: str) -> None:
        self._noting.discard(topic)
        self._noted.add(topic)
        self._changed.set()
        self.on_noted(topic)


def _ignore(_topic: str) -> None:
    """Do nothing."""
