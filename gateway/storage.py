"""What outlives the process: the outbox and its store, the registry's state, the boards' keys."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.devices.writer import RegistryWriter
from gateway.errors import StoreError
from gateway.links.threads import Call
from gateway.progress import Progress
from gateway.protocol.delivery import DeliveryBook
from gateway.status import Status
from gateway.store.jobs import Limits
from gateway.store.keeper import Keeper, KeeperOptions
from gateway.store.keys import KeyStore
from gateway.store.ledger import Entry
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.store.state import StateStore
from gateway.store.store import Store
from gateway.timekeeper import TimeKeeper

_log = logging.getLogger(__name__)

KEYS_S: Final = 5.0
"""Time a slow disk has for the boards' keys; until they are there boards with one are only read."""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Where things are, and how much of them."""

    outbox: OutboxOptions
    keeper: KeeperOptions
    limits: Limits
    outbox_path: Path
    state_path: Path
    keys_path: Path
    keys_credential: Path | None


class Storage:
    """Memory and disk of a gateway; `claim`, `open`, run its tasks, `close`, in that order."""

    def __init__(
        self,
        options: StorageOptions,
        status: Status,
        timekeeper: TimeKeeper,
        progress: Progress,
    ) -> None:
        self.book = DeliveryBook()
        """How far each board's samples are known to be safe."""
        self.outbox = Outbox(options.outbox, status.counts, timekeeper.clock)
        self.state = StateStore(options.state_path, status.state, progress=progress)
        self.keys = KeyStore(options.keys_path, options.keys_credential)
        self.registry = RegistryWriter(self.state)
        self.keeper = Keeper(
            Store(options.outbox_path, options.limits),
            self.outbox,
            options.keeper,
            clock=timekeeper.clock,
            time_base=timekeeper.base,
            status=status.store,
            watermarks=self.book.changed,
            recall=self._recall,
            progress=progress,
        )

    async def claim(self) -> None:
        """Learn how far each board is, and their keys, before the first speaks, if possible."""
        try:
            await self.keeper.open_ledger()
        except StoreError as exc:
            _log.error("%s; going on without it, and trying again", exc)
        with suppress(TimeoutError):  # they are used as soon as they are there
            async with asyncio.timeout(KEYS_S):
                await Call(self.keys.load).result()

    async def open(self) -> None:
        """Take up what was kept of devices, commands and rollouts."""
        await self.state.open()
        self.registry.start()

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Keep from now on what is to be kept."""
        tasks.create_task(self.keeper.run(), name="store")
        tasks.create_task(self.state.run(), name="state")

    async def close(self) -> None:
        """Write what is left, and write no more."""
        await self.keeper.close()
        await self.state.close()

    def tell_what_is_left(self) -> None:
        """Log what the next run will find, and what nobody will."""
        outbox = self.outbox
        if left := sum(len(parcel.records) for parcel in outbox.unsaved.values()):
            _log.error(
                "stopped with %d samples that neither the broker nor the disk has; boards with our "
                "firmware keep theirs, others are lost",
                left,
            )
        if outbox.on_disk or outbox.in_memory > left:
            _log.info("%d samples wait on disk", outbox.size - left)

    def _recall(self, entries: Sequence[Entry]) -> None:
        """Take up how far each board's samples are known to be safe."""
        for entry in entries:
            # What is stored is safe, too, and known to the moment; watermarks are noted seldom.
            safe_next = max(entry.safe_next, entry.stored_next)
            self.book.restore(entry.device, entry.boot, safe_next, entry.claimed_next)
