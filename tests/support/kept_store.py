"""An outbox with its keeper on files of its own, and what became of each number a device used."""

import asyncio
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.clock import Clock, TimeBase
from gateway.errors import StoreError
from gateway.model import BatchKind, GapCause, Readings, Record, Sample, Value
from gateway.status import StoreStatus
from gateway.store.keeper import Keeper, KeeperOptions, Watermark
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.store.store import Store

if TYPE_CHECKING:
    from gateway.store.ledger import Entry

TIMEOUT_S = 30.0

Number: TypeAlias = tuple[str, int, int]
"""Device, boot and number: the id of a sample."""

Fate: TypeAlias = GapCause | tuple[float, Mapping[str, Value]]
"""Lost, or taken at a time (UTC) with values."""


def fates(records: Iterable[Record], offset_s: float) -> list[tuple[Number, Fate]]:
    """Return what the records say of each number, in their order."""
    found: list[tuple[Number, Fate]] = []
    for record in records:
        if isinstance(record, Sample):
            unix_s = round(record.taken_s + offset_s, 3)
            number = (record.device, record.boot, record.seq)
            found.append((number, (unix_s, dict(record.values))))
        else:
            found += [
                ((record.device, record.boot, seq), record.cause)
                for seq in range(record.first_seq, record.last_seq + 1)
            ]
    return found


@dataclass
class KeptStore:
    """The store in `folder`, with all that the daemon puts around it."""

    folder: Path
    options: KeeperOptions = field(default_factory=lambda: KeeperOptions(spill_after_s=0.02))
    boot_id: str = "first"
    base: TimeBase = field(default_factory=lambda: TimeBase(1_700_000_000.0, "synced"))
    max_records: int = 100_000

    def __post_init__(self) -> None:
        clock = Clock(boot_id=self.boot_id)
        self.clock = clock
        self.status = StoreStatus()
        self.counts: Counter[str] = Counter()
        self.safe: set[Number] = set()
        """Numbers whose source was told so."""
        self.delivered: dict[Number, Fate] = {}
        """What the broker has, in the order in which it got it."""
        self.moved: list[Watermark] = []
        """Watermarks of sessions that moved since the keeper asked."""
        self.recalled: list[Entry] = []
        """What the ledger knew."""
        self.outbox = Outbox(
            OutboxOptions(
                max_records=self.max_records,
                live_s=self.options.spill_after_s,
                drain_rate=1e6,
                always_stores=self.options.always_stores,
            ),
            self.counts,
            clock,
        )
        self.store = Store(self.path, self.options.limits)
        self.keeper = Keeper(
            self.store,
            self.outbox,
            self.options,
            clock=clock,
            time_base=lambda: self.base,
            status=self.status,
            watermarks=self._watermarks,
            recall=self.recalled.extend,
        )

    @property
    def path(self) -> Path:
        return self.folder / "outbox.db"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KeptStore"]:
        """Run the keeper until the store is open or fails; stop it in order."""
        with suppress(StoreError):  # it is tried again
            await self.keeper.open_ledger()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.keeper.run())
            try:
                await until(lambda: self.status.state in {"ok", "failing"} or running.done())
                yield self
            finally:
                running.cancel()
                await asyncio.wait([running])
                await self.keeper.close()

    def _watermarks(self) -> Sequence[Watermark]:
        moved, self.moved = self.moved, []
        return moved

    def put(self, records: Sequence[Record]) -> None:
        """Send what a port brought."""
        numbers = {number for number, _ in fates(records, 0.0)}
        self.outbox.put(Readings(records[0].device, records, lambda: self.safe.update(numbers)))

    async def put_and_store(self, readings: Iterable[Sequence[Record]]) -> None:
        """Put readings, and return when all of them are on disk."""
        for records in readings:
            self.put(records)
        await until(lambda: not self.outbox.unsaved)

    async def deliver(self, records: int | None = None, held: Sequence[str] = ()) -> None:
        """Be the broker: take about so many records, or all there are; none of held devices."""
        for device in held:
            self.outbox.hold(device)
        await self._deliver(records)
        for device in held:
            self.outbox.release(device)

    async def _deliver(self, records: int | None) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            left = self.outbox.size if records is None else records
            while self.outbox.size and (left > 0 or records is None):
                batch = await self.outbox.take()
                if batch.kind is BatchKind.PREVIEW:
                    continue
                left -= len(batch.records)
                base = batch.time_base or self.base
                for number, fate in fates(batch.records, base.offset_s):
                    assert number not in self.delivered, f"{number} twice"
                    self.delivered[number] = fate
                self.outbox.delivered(batch)

    async def forget(self) -> None:
        """Return when what is delivered is gone from the disk; nothing else is being stored."""
        commits = self.status.commits
        await until(lambda: not self.outbox.settled and self.status.commits > commits)

    def copy(self, into: Path) -> None:
        """Copy the files as a kill would leave them now."""
        into.mkdir(parents=True)
        for part in self.folder.iterdir():
            if part.name.startswith("outbox.") and part.suffix != ".lock":
                shutil.copyfile(part, into / part.name)

    def checkpoint(self, mode: str) -> None:
        """Let SQLite copy its WAL into the database."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as a condition holds of which nobody tells."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.002)
