"""What of each epoch is on disk, and what of that the broker has: in memory, and in the ledger."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from gateway.errors import StoreError
from gateway.store.jobs import Settled, Watermark
from gateway.store.ledger import Entry, Ledger
from gateway.store.outstanding import Epoch, Marks, Outstanding
from gateway.store.recovery import Ranges
from gateway.store.rows import Row


class Accounts:
    """Answers for every row: stored and not delivered, or delivered and to be deleted.

    What changes something may raise StoreError: the disk failed. Nothing is forgotten by that: the
    next call writes what this one could not.
    """

    def __init__(self, path: Path, ledger: Ledger) -> None:
        """`path` is the store's, for what is said; `open` is the way in."""
        self.deletable: set[int] = set()
        """Numbers of rows of which the broker has all; not deleted before `sync`: else a power cut
        would make them missing."""
        self._path = path
        self._ledger = ledger
        self._outstanding = Outstanding()
        self._unwritten: dict[Epoch, Marks] = {}
        self._epochs: frozenset[Epoch] = frozenset()

    @classmethod
    def open(cls, path: Path, ledger_path: Path) -> Self:
        """Open the ledger of a store, made if need be.

        Raises:
            OSError: it cannot be read or written, or the disk is full.
        """
        return cls(path, Ledger.open(ledger_path))

    @property
    def has_outstanding(self) -> bool:
        """Whether something is stored that the broker does not have."""
        return bool(self._outstanding)

    def entries(self) -> list[Entry]:
        """Return what is known of each epoch."""
        return list(self._ledger.entries())

    def by_epoch(self) -> dict[Epoch, Entry]:
        """Return what is known of each epoch, by epoch."""
        return {(entry.device, entry.boot): entry for entry in self._ledger.entries()}

    def begin(self, found: Ranges, first_n: Callable[[str, int], int]) -> frozenset[Epoch]:
        """Begin with a database that was opened, made or mended; return epochs that have rows.

        Args:
            found: What is in it.
            first_n: Gives the number of the first row of an epoch.
        """
        self._outstanding = Outstanding()
        self.deletable = set()
        known = self.by_epoch()
        for epoch, entry in known.items():
            if entry.stored_next > entry.settled_next:
                marks = Marks(entry.stored_next, entry.settled_next, entry.first_n)
                self._outstanding.restore(epoch, marks)
        self._take_up(found, first_n, known)
        self._epochs = self._outstanding.epochs()
        return self._epochs

    def stored(self, rows: Iterable[Row]) -> None:
        """Note rows that are on disk now; `write` tells the ledger."""
        for row in rows:
            self._outstanding.stored((row.device, row.boot), row.first_seq, row.last_seq, row.n)

    def settle(self, settled: Iterable[Settled]) -> None:
        """Note what the broker has."""
        for each in settled:
            epoch = (each.device, each.boot)
            self.deletable.update(self._outstanding.settled(epoch, *each[2:]))
        self.write()

    def write(self) -> None:
        """Tell the ledger what changed; from then on it outlives a kill."""
        self._unwritten.update(self._outstanding.take_changed())
        if not self._unwritten:
            return
        self._put(
            [
                self._entry(epoch)._replace(**marks._asdict())
                for epoch, marks in self._unwritten.items()
            ]
        )
        self._unwritten = {}

    def note_watermarks(self, watermarks: Sequence[Watermark]) -> None:
        """Note how far sessions are."""
        self._put(
            [
                self._entry((device, boot))._replace(safe_next=safe_next, claimed_next=claimed_next)
                for device, boot, safe_next, claimed_next in watermarks
            ]
        )

    def sync(self) -> None:
        """Have what the ledger was told outlive a power cut."""
        try:
            self._ledger.sync()
        except OSError as exc:
            raise self._failed(exc) from exc

    def changed_epochs(self) -> frozenset[Epoch] | None:
        """Return the epochs that have rows; None if they are the same as before."""
        epochs = self._outstanding.epochs()
        if epochs == self._epochs:
            return None
        self._epochs = epochs
        return epochs

    def close(self) -> None:
        """Let go of the ledger, without `sync`."""
        self._ledger.close()

    def _take_up(
        self, found: Ranges, first_n: Callable[[str, int], int], known: Mapping[Epoch, Entry]
    ) -> None:
        """Answer for rows the ledger does not know: it was damaged, or a kill came first."""
        for epoch, ranges in found.items():
            entry = known.get(epoch) or Entry(*epoch, 0, 0, 0, 0)
            beyond = [each for each in sorted(ranges) if each[1] >= entry.stored_next]
            row_n = first_n(*epoch) if beyond else 0
            for first_seq, last_seq in beyond:
                begin = max(first_seq, entry.settled_next)
                self._outstanding.stored(epoch, begin, last_seq, row_n)

    def _entry(self, epoch: Epoch) -> Entry:
        return self._ledger.get(*epoch) or Entry(*epoch, 0, 0, 0, 0)

    def _put(self, entries: Sequence[Entry]) -> None:
        try:
            self._ledger.put(entries)
        except OSError as exc:
            raise self._failed(exc) from exc

    def _failed(self, problem: OSError) -> StoreError:
        return StoreError(f"{self._path}: its ledger: {problem.strerror or problem}")
