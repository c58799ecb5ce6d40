"""The store on disk: database, ledger and lock; synchronous, used from one thread."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from gateway import files
from gateway.clock import TimeBase
from gateway.errors import ConfigError, StoreBusyError, StoreDamagedError, StoreError
from gateway.log_fields import of_device
from gateway.model import Gap
from gateway.store import recovery, retention, versions
from gateway.store.accounts import Accounts
from gateway.store.database import MIGRATIONS, Database, remove, roll_back
from gateway.store.jobs import Committed, Job, Limits, Opened, Settled, Watermark
from gateway.store.ledger_slots import Entry
from gateway.store.obstacles import obstacle
from gateway.store.outstanding import Epoch
from gateway.store.parcels import Parcel
from gateway.store.rows import Moment, Row, parcel_of, row_of

_log = logging.getLogger(__name__)

_SHRINK_BYTES = 4 << 20
"""An empty file that is larger than this is made small when it is opened."""


_MOVED_S = 0.01
"""An offset to UTC that moved by less is not stored again."""

_LONG_BYTES = 32 << 20
"""Salvaging more than this takes so long that its progress is told."""


class Store:
    """Keeps parcels until the broker has them.

    Every method may raise StoreError (try again later) and StoreDamagedError (call `rebuild`).
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self._limits = limits
        self._database: Database | None = None
        self._accounts: Accounts | None = None
        self._lock: int | None = None
        self._bases: dict[int, TimeBase] = {}
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
            self._accounts = Accounts.open(self.path, ledger_path)
        except OSError as exc:
            self._release()
            told = f"{exc.filename or self.path}: {exc.strerror or exc}"
            raise StoreError(obstacle(self.path, ledger_path) or told) from exc
        return self._accounts.entries()

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
        if self._accounts is not None:
            noted, settled[:] = list(settled), []
            self._accounts.settle(noted)
            self._accounts.sync()
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
        database, accounts = self._opened()
        has_news = bool(job.parcels or job.settled)
        settled, job.settled = job.settled, ()
        accounts.settle(settled)
        accounts.note_watermarks(job.watermarks)
        if accounts.deletable:
            accounts.sync()  # before the rows go: else a power cut would make them missing
        rows = [row_of(parcel, job.moment) for parcel in job.parcels]
        bases = self._new_bases(job.moment, is_first_needed=bool(rows))
        if had_failed:  # only a commit that writes shows that the disk works again
            bases = {job.moment.machine_boot: job.moment.base}
        if rows or accounts.deletable or bases:
            database.write(rows, accounts.deletable, bases)
            self._bases.update(bases)
            accounts.deletable = set()
        accounts.stored(rows)
        accounts.write()
        dropped = self._drop(database, job) if job.drop is not None else []
        epochs = accounts.changed_epochs() if has_news else None
        oldest_unix_s = self._oldest_unix_s(database, job.moment)
        return Committed(database.size_bytes(), oldest_unix_s, epochs, dropped)

    def _begin_anew_if_empty(self) -> None:
        """Make the files anew if all that is in them is delivered: they may be what fills the disk.

        To delete rows SQLite must write first, for which there may never be room again.
        """
        if self._accounts is None or self._accounts.has_outstanding or not self._has_begun:
            return
        try:
            self._close_database(is_damaged=True)
            remove(self.path)
            self._accounts.deletable, self._bases = set(), {}
            self._database = Database(self.path)
        except (OSError, StoreError) as exc:
            _log.debug("%s cannot be made anew: %s", self.path, exc)
        else:
            _log.info("%s held nothing any more, and was made anew", self.path)

    def note_watermarks(self, watermarks: Sequence[Watermark]) -> None:
        """Keep how far the sessions are, durably."""
        if self._accounts is not None and watermarks:
            self._accounts.note_watermarks(watermarks)
            self._accounts.sync()

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
            if self._accounts is not None:
                self._accounts.write()
                self._accounts.sync()
        finally:
            self._close_database()
            self._release()

    def _begin(self, found: recovery.Ranges) -> Opened:
        database, accounts = self._opened()
        epochs = accounts.begin(found, database.first_n)
        stock = database.stock()
        if not stock and database.size_bytes() > _SHRINK_BYTES:
            database.shrink()
        self._bases = database.bases()
        self._has_begun = True
        return Opened(stock, database.last_n(), database.size_bytes(), epochs)

    def _opened(self) -> tuple[Database, Accounts]:
        if self._database is None or self._accounts is None:
            raise StoreError(f"{self.path} is not open")
        return self._database, self._accounts

    def _known(self) -> dict[Epoch, Entry]:
        return {} if self._accounts is None else self._accounts.by_epoch()

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
            _log.warning(
                "%s: %d samples given up: %s",
                of_device(each.device),
                each.samples,
                each.cause.value,
            )
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
                "another name in [gateway], or another [outbox] path"
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
        if self._accounts is not None:
            self._accounts.close()
            self._accounts = None
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
