"""Keeps devices, and the ledger of retained topics, in the state database."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import StoreError
from gateway.store import registry
from gateway.store.state_changes import Change

_log = logging.getLogger(__name__)

PATIENCE_S: Final = 5.0
"""After so long without a commit topics count as noted: a failing disk must not hold up readings.
What is retained then, and removed before the disk works again, may be left behind by a crash."""


class State(Protocol):
    """The state database."""

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt to write failed."""

    def submit(
        self, change: Change, on_done: Callable[[StoreError | None], None] | None = None
    ) -> None:
        """Queue a change; `on_done` is called once, with an error if it is given up."""


class RegistryWriter:
    """One change at a time has all that is new: never is a topic kept, and its device not."""

    def __init__(self, state: State, patience_s: float = PATIENCE_S) -> None:
        """Nothing is written before `start`."""
        self.entry_of: Callable[[str], registry.Entry | None] = lambda _key: None
        """Returns what is to be kept of a device; None for one that is to be forgotten."""
        self._state = state
        self._patience_s = patience_s
        self._devices: dict[str, None] = {}
        self._topics: dict[str, Callable[[], None] | None] = {}
        """Whom to tell of each topic that is to be noted; None for one that is to be forgotten."""
        self._devices_under_way: dict[str, None] = {}
        self._topics_under_way: dict[str, Callable[[], None] | None] = {}
        self._written = asyncio.Event()
        self._valve: asyncio.TimerHandle | None = None
        self._has_started = self._is_scheduled = self._is_writing = self._is_told = False

    @property
    def is_idle(self) -> bool:
        """Whether all is written."""
        return not (self._is_writing or self._devices or self._topics)

    def start(self) -> None:
        """Begin, in the loop, once the state database is open, or known not to be."""
        self._has_started = True
        self._write()

    def save(self, key: str) -> None:
        """Keep a device as it will be at the end of this turn of the loop, or forget it."""
        self._devices[key] = None
        self._write_soon()

    def note(self, topic: str, on_noted: Callable[[], None]) -> None:
        """Note a topic; `on_noted` is called later, once something may be retained there."""
        self._topics[topic] = on_noted
        self._write_soon()

    def forget(self, topic: str) -> None:
        """Forget a topic: the broker holds nothing there any more."""
        self._topics[topic] = None
        self._write_soon()

    async def wait_written(self) -> None:
        """Wait until all is on the disk.

        Raises:
            StoreError: it is not within PATIENCE_S.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                while not self.is_idle:
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            raise StoreError(f"not on the disk within {self._patience_s:g} s") from None

    def _write_soon(self) -> None:
        if self._has_started and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._is_scheduled = False
        if self._topics and self._valve is None:
            delay_s = 0.0 if self._state.is_failing else self._patience_s
            self._valve = asyncio.get_running_loop().call_later(delay_s, self._let_pass)
        if self._is_writing or not (self._devices or self._topics):
            return
        self._is_writing = True
        devices, self._devices = self._devices, {}
        topics, self._topics = self._topics, {}
        self._devices_under_way, self._topics_under_way = devices, topics
        entries = {key: self.entry_of(key) for key in devices}
        change = [
            *registry.put_devices({k: entry for k, entry in entries.items() if entry is not None}),
            *registry.drop_devices(key for key, entry in entries.items() if entry is None),
            *registry.note_topics(topic for topic, told in topics.items() if told is not None),
            *registry.drop_topics(topic for topic, told in topics.items() if told is None),
        ]
        self._state.submit(change, self._on_written)

    def _on_written(self, error: StoreError | None) -> None:
        self._is_writing = False
        topics, self._topics_under_way = self._topics_under_way, {}
        if error is not None:  # too much waits for the disk; or the gateway ends
            self._devices = {**self._devices_under_way, **self._devices}
            self._topics = {**topics, **self._topics}
            asyncio.get_running_loop().call_later(self._patience_s, self._write)
            return
        self._is_told = False
        if self._valve is not None:
            self._valve.cancel()
            self._valve = None
        for on_noted in topics.values():
            if on_noted is not None:
                on_noted()
        self._written.set()
        self._write()

    def _let_pass(self) -> None:
        """Let things be retained that are not noted yet: the disk fails or is very slow."""
        self._valve = None
        for topics in (self._topics_under_way, self._topics):
            for topic, on_noted in [*topics.items()]:
                if on_noted is not None and on_noted is not _told:
                    topics[topic] = _told
                    if not self._is_told:
                        _log.warning(
                            "topics are retained before they are noted: the disk is slow, or fails"
                        )
                        self._is_told = True
                    on_noted()


def _told() -> None:
    """Do nothing: whoever asked was told already."""
