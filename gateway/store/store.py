"""The store on disk: database, ledger and lock; synchronous, used from one thread."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from gateway import files
from gateway.clock import TimeBase
from gateway.errors import ConfigError, StoreBusyError, StoreDamagedError, StoreError
from gateway.model import Gap
from gateway.store import recovery, retention, versions
from gateway.store.database import MIGRATIONS, Database, Stock, remove, roll_back
from gateway.store.ledger import Entry, Ledger
from gateway.store.obstacles import obstacle
from gateway.store.outstanding import Epoch, Marks, Outstanding
from gateway.store.parcels import Parcel
from gateway.store.rows import Moment, Row, parcel_of, row_of

_log = logging.getLogger(__name__)

_SHRINK_BYTES = 4 << 20
"""An empty file that is larger than this is made small when it is opened."""


_MOVED_S = 0.01
"""An offset to UTC that moved by less is not stored again."""

_LONG_BYTES = 32 << 20
"""Salvaging more than this takes so long that its progress is told."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept for a broker that stays away."""

    max_bytes: int = 256 << 20
    max_age_s: float = 30 * 86400.0


class Opened(NamedTuple):
    """What a store holds when it begins its work."""

    stock: list[Stock]
    last_n: int
    size_bytes: int
    epochs: frozenset[Epoch]


class Settled(NamedTuple):
    """Numbers of one epoch the broker has; `n` is None if they were never stored."""

    device: str
    boot: int
    first_seq: int
    last_seq: int
    n: int | None


class Drop(NamedTuple):
    """What retention may drop and must spare."""

    cursors: Mapping[str, int]
    """Of each device with rows that are only on disk: up to which number they are not."""
    before_n: int
    """So is everything from this number on."""
    unix_s: float | None
    """The time now, if it is known: what is too old goes."""


@dataclass(slots=True)
class Job:
    """What one commit does."""

    moment: Moment
    parcels: Sequence[Parcel] = ()
    settled: Sequence[Settled] = ()
    """Empty once the store has noted them: that lasts, even if the rest fails."""
    drop: Drop | None = None
    watermarks: Sequence[tuple[str, int, int, int]] = field(default_factory=tuple)
    """Device, boot, safe_next and claimed_next of sessions that moved."""


class Committed(NamedTuple):
    """What a commit came to."""

    size_bytes: int
    oldest_unix_s: float | None
    """When the oldest stored record was taken, as far as is known; None when there is none."""
    epochs: frozenset[Epoch] | None
    """Epochs with something stored; None if they are the same as before."""
    dropped: list[retention.Dropped]
    """Given up, for want of room or because of its age."""


class Store:
    """Keeps parcels until the broker has them.

    Every method may raise StoreError (try again later) and StoreDamagedError (call `rebuild`).
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self._limits = limits
        self._database: Database | None = None
        self._ledger: Ledger | None = None
        self._lock: int | None = None
        self._outstanding = Outstanding()
        self._unwritten: dict[Epoch, Marks] = {}
        self._deletable: set[int] = set()
        self._bases: dict[int, TimeBase] = {}
        self._epochs: frozenset[Epoch] = frozenset()
        self._read_n: dict[str, int] = {}
        """Up to which row devices were read back; a `Drop` made meanwhile does not know it yet."""
        self._has_begun = False
        """Whether the database was opened, and is known to hold all it should."""
        self._has_failed = False
        """Whether the last commit did."""

    def open_ledger(self) -> list[Entry]:
        """Claim the files for this process, and return what is known of each epoch.

        Raises:
            ConfigError: another process has claimed them.
        """
        ledger_path = self.path.with_suffix(".ledger")
        try:
            files.make_folder(self.path.parent)
            self._claim()
            self._ledger = Ledger.open(ledger_path)
        except OSError as exc:
            self._release()
            told = f"{exc.filename or self.path}: {exc.strerror or exc}"
            raise StoreError(obstacle(self.path, ledger_path) or told) from exc
        return list(self._ledger.entries())

    def open(self, moment: Moment) -> Opened:
        """Open the database, and look whether it holds all it should; mend it if not."""
        if text := obstacle(self.path, self.path.with_suffix(".ledger")):
            raise StoreError(text)
        recovery.finish_renaming(self.path)
        versions.admit(self.path, len(MIGRATIONS))
        try:
            roll_back(self.path)
            found = recovery.check(self.path, self._known().values())
            self._database = Database(self.path)
        except StoreDamagedError as exc:
            _log.error("%s; salvaging what can be read", exc)
            return self.rebuild((), moment, [])
        return self._begin(found)

    def rebuild(
        self,
        parcels: Iterable[Parcel],
        moment: Moment,
        settled: list[Settled],
        cursors: Mapping[str, int] = MappingProxyType({}),
        end_n: int | None = None,
    ) -> Opened:
        """Make a new database of what can be read, and of what is known in memory.

        Args:
            parcels: Those in memory that are stored.
            moment: Now.
            settled: What the broker has; empty once the store has noted it, even if the rest fails.
            cursors: Up to which number the rows of each device are in memory, or were.
            end_n: Numbers from here on are those of parcels that are not stored.
        """
        if self._ledger is not None:
            noted, settled[:] = list(settled), []
            self._settle(self._ledger, noted)
            self._sync(self._ledger)
        self._close_database(is_damaged=True)
        rows = [row_of(parcel, moment) for parcel in parcels]
        in_memory = recovery.InMemory(rows, cursors, end_n)
        progress = _progress_teller(self.path)
        report = recovery.rebuild(self.path, self._known(), moment, in_memory, progress)
        lost = sum(gap.count for gap in report.gaps)
        _log.error(
            "%s was damaged: %d rows are kept, %d samples are gone%s; the damaged file is now %s",
            self.path,
            report.rows,
            lost,
            f" ({_examples(report.gaps)})" if report.gaps else "",
            report.set_aside.name,
        )
        self._database = Database(self.path)
        return self._begin(report.found)

    def commit(self, job: Job) -> Committed:
        """Store and forget, durably, in one transaction."""
        had_failed, self._has_failed = self._has_failed, True
        try:
            committed = self._commit(job, had_failed=had_failed)
        except (StoreBusyError, StoreDamagedError):
            raise
        except StoreError:
            if had_failed:
                self._begin_anew_if_empty()
            raise
        self._has_failed = False
        return committed

    def _commit(self, job: Job, *, had_failed: bool) -> Committed:
        database, ledger = self._opened()
        has_news = bool(job.parcels or job.settled)
        settled, job.settled = job.settled, ()
        self._settle(ledger, settled)
        self._write_watermarks(ledger, job.watermarks)
        if self._deletable:
            self._sync(ledger)  # before the rows go: else a power cut would make them missing
        rows = [row_of(parcel, job.moment) for parcel in job.parcels]
        bases = self._new_bases(job.moment, is_first_needed=bool(rows))
        if had_failed:  # only a commit that writes shows that the disk works again
            bases = {job.moment.machine_boot: job.moment.base}
        if rows or self._deletable or bases:
            database.write(rows, self._deletable, bases)
            self._bases.update(bases)
            self._deletable = set()
        for row in rows:
            self._outstanding.stored((row.device, row.boot), row.first_seq, row.last_seq, row.n)
        self._write_marks(ledger)
        dropped = self._drop(database, job) if job.drop is not None else []
        epochs = self._changed_epochs() if has_news else None
        oldest_unix_s = self._oldest_unix_s(database, job.moment)
        return Committed(database.size_bytes(), oldest_unix_s, epochs, dropped)

    def _begin_anew_if_empty(self) -> None:
        """Make the files anew if all that is in them is delivered: they may be what fills the disk.

        To delete rows SQLite must write first, for which there may never be room again.
        """
        if self._outstanding or not self._has_begun:
            return
        try:
            self._close_database(is_damaged=True)
            remove(self.path)
            self._deletable, self._bases = set(), {}
            self._database = Database(self.path)
        except (OSError, StoreError) as exc:
            _log.debug("%s cannot be made anew: %s", self.path, exc)
        else:
            _log.info("%s held nothing any more, and was made anew", self.path)

    def note_watermarks(self, watermarks: Sequence[tuple[str, int, int, int]]) -> None:
        """Keep how far the sessions are, durably."""
        if self._ledger is not None and watermarks:
            self._write_watermarks(self._ledger, watermarks)
            self._sync(self._ledger)

    def read(
        self, device: str, after_n: int, last_n: int, records: int, moment: Moment
    ) -> list[Parcel]:
        """Return the next parcels of a device, up to and including `last_n`."""
        database, _ = self._opened()
        rows = database.read(device, after_n, last_n, records)
        parcels = [self._parcel(row, moment) for row in rows]
        if rows:
            self._read_n[device] = rows[-1].n
        return parcels

    def newest(self, asked: Iterable[tuple[str, int]], moment: Moment) -> list[Parcel]:
        """Return the newest parcel of each device, if it came after the given number."""
        database, _ = self._opened()
        rows = (database.newest(device, after_n) for device, after_n in asked)
        return [self._parcel(row, moment) for row in rows if row is not None]

    def close(self) -> None:
        """Let go of all files; harmless at any time."""
        try:
            if self._ledger is not None:
                self._write_marks(self._ledger)
                self._sync(self._ledger)
        finally:
            self._close_database()
            self._release()

    def _begin(self, found: recovery.Ranges) -> Opened:
        database, _ = self._opened()
        self._outstanding = Outstanding()
        self._deletable = set()
        known = self._known()
        for epoch, entry in known.items():
            if entry.stored_next > entry.settled_next:
                marks = Marks(entry.stored_next, entry.settled_next, entry.first_n)
                self._outstanding.restore(epoch, marks)
        self._take_up(database, found, known)
        stock = database.stock()
        if not stock and database.size_bytes() > _SHRINK_BYTES:
            database.shrink()
        self._bases = database.bases()
        self._epochs = self._outstanding.epochs()
        self._has_begun = True
        return Opened(stock, database.last_n(), database.size_bytes(), self._epochs)

    def _take_up(
        self, database: Database, found: recovery.Ranges, known: Mapping[Epoch, Entry]
    ) -> None:
        """Answer for rows the ledger does not know: it was damaged, or a kill came first."""
        for epoch, ranges in found.items():
            entry = known.get(epoch) or Entry(*epoch, 0, 0, 0, 0)
            beyond = [each for each in sorted(ranges) if each[1] >= entry.stored_next]
            first_n = database.first_n(*epoch) if beyond else 0
            for first_seq, last_seq in beyond:
                begin = max(first_seq, entry.settled_next)
                self._outstanding.stored(epoch, begin, last_seq, first_n)

    def _opened(self) -> tuple[Database, Ledger]:
        if self._database is None or self._ledger is None:
            raise StoreError(f"{self.path} is not open")
        return self._database, self._ledger

    def _settle(self, ledger: Ledger, settled: Iterable[Settled]) -> None:
        for each in settled:
            epoch = (each.device, each.boot)
            self._deletable.update(self._outstanding.settled(epoch, *each[2:]))
        self._write_marks(ledger)

    def _write_marks(self, ledger: Ledger) -> None:
        self._unwritten.update(self._outstanding.take_changed())
        if not self._unwritten:
            return
        marked = [
            self._entry(ledger, epoch)._replace(**marks._asdict())
            for epoch, marks in self._unwritten.items()
        ]
        self._put(ledger, marked)
        self._unwritten = {}

    def _write_watermarks(
        self, ledger: Ledger, watermarks: Sequence[tuple[str, int, int, int]]
    ) -> None:
        marked = [
            self._entry(ledger, (device, boot))._replace(
                safe_next=safe_next, claimed_next=claimed_next
            )
            for device, boot, safe_next, claimed_next in watermarks
        ]
        self._put(ledger, marked)

    def _known(self) -> dict[Epoch, Entry]:
        entries = [] if self._ledger is None else self._ledger.entries()
        return {(entry.device, entry.boot): entry for entry in entries}

    def _entry(self, ledger: Ledger, epoch: Epoch) -> Entry:
        return ledger.get(*epoch) or Entry(*epoch, 0, 0, 0, 0)

    def _put(self, ledger: Ledger, entries: Sequence[Entry]) -> None:
        try:
            ledger.put(entries)
        except OSError as exc:
            raise StoreError(f"{self.path}: its ledger: {exc.strerror or exc}") from exc

    def _sync(self, ledger: Ledger) -> None:
        try:
            ledger.sync()
        except OSError as exc:
            raise StoreError(f"{self.path}: its ledger: {exc.strerror or exc}") from exc

    def _drop(self, database: Database, job: Job) -> list[retention.Dropped]:
        assert job.drop is not None  # noqa: S101 - the caller has looked
        cursors = dict(job.drop.cursors)
        for device, read_n in list(self._read_n.items()):
            if cursors.get(device, read_n) < read_n:
                cursors[device] = read_n  # the answer was under way when the job was made
            else:
                del self._read_n[device]
        dropped = retention.drop(
            database,
            retention.Rules(
                self._limits.max_bytes,
                self._limits.max_age_s,
                cursors,
                job.drop.before_n,
                job.drop.unix_s,
            ),
            self._bases,
            job.moment,
        )
        for each in dropped:
            _log.warning("%s: %d samples given up: %s", each.device, each.samples, each.cause.value)
        return dropped

    def _oldest_unix_s(self, database: Database, moment: Moment) -> float | None:
        oldest = database.oldest()
        if oldest is None:
            return None
        machine_boot, taken_s = oldest
        if machine_boot == moment.machine_boot:
            return taken_s + moment.base.offset_s
        base = self._bases.get(machine_boot)
        return None if base is None else taken_s + base.offset_s

    def _new_bases(self, moment: Moment, *, is_first_needed: bool) -> dict[int, TimeBase]:
        """Return the offset of this boot, if it is another one than what is stored."""
        known, base = self._bases.get(moment.machine_boot), moment.base
        if known is None:
            return {moment.machine_boot: base} if is_first_needed else {}
        if known.quality == base.quality and abs(known.offset_s - base.offset_s) < _MOVED_S:
            return {}  # it would be a page more in every commit
        return {moment.machine_boot: base}

    def _changed_epochs(self) -> frozenset[Epoch] | None:
        epochs = self._outstanding.epochs()
        if epochs == self._epochs:
            return None
        self._epochs = epochs
        return epochs

    def _parcel(self, row: Row, moment: Moment) -> Parcel:
        try:
            return parcel_of(row, moment, self._bases)
        except ValueError as exc:
            raise StoreDamagedError(f"{self.path}: {exc}") from exc

    def _claim(self) -> None:
        path = Path(f"{self.path}.lock")
        files.make_private(path)
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(
                f"{self.path} is in use by another edge-gateway: stop it, or give this one "
                "another [outbox] path"
            ) from None
        self._lock = lock

    def _close_database(self, *, is_damaged: bool = False) -> None:
        if self._database is not None:
            database, self._database = self._database, None
            if is_damaged:
                database.abandon()
            else:
                database.close()

    def _release(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _examples(gaps: Sequence[Gap]) -> str:
    shown = ", ".join(f"{gap.device}/{gap.boot}/{gap.first_seq}-{gap.last_seq}" for gap in gaps[:5])
    return f"{shown} and {len(gaps) - 5} more" if len(gaps) > 5 else shown  # noqa: PLR2004 - as above


def _progress_teller(path: Path) -> Callable[[int, int], None]:
    """Return what logs each tenth of a long salvage."""
    told = 0

    def tell(done_bytes: int, total_bytes: int) -> None:
        nonlocal told
        tenths = done_bytes * 10 // max(1, total_bytes)
        if total_bytes >= _LONG_BYTES and tenths > told:
            told = tenths
            _log.info("%s: %d of %d MB read", path, done_bytes >> 20, total_bytes >> 20)

    return tell
