"""The ledger of retained topics, in the state database."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.errors import StoreError
from gateway.store import registry
from gateway.store.state import StateStore

_log = logging.getLogger(__name__)

PATIENCE_S: Final = 5.0
"""After so long without a commit topics count as noted: a failing disk must not hold up readings.
What is retained then, and removed before the disk works again, may be left behind by a crash."""


class StoredTopics:
    """Notes topics before something is retained there; one change at a time has all that wait."""

    def __init__(self, state: StateStore) -> None:
        """Nothing is noted before `start`."""
        self._state = state
        self._pending: dict[str, Callable[[], None] | None] = {}
        """Whom to tell of each topic that is to be noted; None for one that is to be forgotten."""
        self._writing: dict[str, Callable[[], None] | None] = {}
        self._valve: asyncio.TimerHandle | None = None
        self._has_started = self._is_scheduled = self._is_told = False

    def start(self) -> None:
        """Begin, in the loop, once the state database is open, or known not to be."""
        self._has_started = True
        self._write()

    def note(self, topic: str, on_noted: Callable[[], None]) -> None:
        """Note a topic; `on_noted` is called later, once something may be retained there."""
        self._pending[topic] = on_noted
        self._write_soon()

    def forget(self, topic: str) -> None:
        """Forget a topic: the broker holds nothing there any more."""
        self._pending[topic] = None
        self._write_soon()

    def _write_soon(self) -> None:
        """Write at the end of this turn of the loop: a new device brings some topics at once."""
        if self._has_started and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._is_scheduled = False
        if not self._pending:
            return
        if self._valve is None:
            delay_s = 0.0 if self._state.is_failing else PATIENCE_S
            self._valve = asyncio.get_running_loop().call_later(delay_s, self._let_pass)
        if self._writing:
            return
        self._writing, self._pending = self._pending, {}
        noted = [topic for topic, on_noted in self._writing.items() if on_noted is not None]
        forgotten = [topic for topic, on_noted in self._writing.items() if on_noted is None]
        change = [*registry.note_topics(noted), *registry.drop_topics(forgotten)]
        self._state.submit(change, self._on_written)

    def _on_written(self, error: StoreError | None) -> None:
        written, self._writing = self._writing, {}
        if error is not None:  # too much waits for the disk; or the gateway ends
            self._pending = {**written, **self._pending}
            asyncio.get_running_loop().call_later(PATIENCE_S, self._write)
            return
        self._is_told = False
        if self._valve is not None:
            self._valve.cancel()
            self._valve = None
        for on_noted in written.values():
            if on_noted is not None:
                on_noted()
        self._write()

    def _let_pass(self) -> None:
        """Let things be retained that are not noted yet: the disk fails or is very slow."""
        self._valve = None
        for topics in (self._writing, self._pending):
            for topic, on_noted in [*topics.items()]:
                if on_noted is not None and on_noted is not _told:
                    topics[topic] = _told
                    if not self._is_told:
                        _log.warning("topics are retained before they are noted: the disk is slow")
                        self._is_told = True
                    on_noted()


def _told() -> None:
    """Do nothing: whoever asked was told already."""
