"""Which stored samples the broker does not have yet, epoch by epoch; pure.

An epoch is one boot of one device. What is kept for it, and written to the ledger, are two numbers:
all its samples below `stored_next` were stored or never had to be, all below `settled_next` are
delivered. A row may be deleted only once `settled_next` has passed it: so whatever happens to the
database, the numbers between the two tell which rows it must have.
"""

from collections import deque
from typing import NamedTuple, TypeAlias

Epoch: TypeAlias = tuple[str, int]
"""Device and boot."""


class Marks(NamedTuple):
    """What the ledger keeps of one epoch for the store."""

    stored_next: int
    settled_next: int
    first_n: int
    """Arrival number of its first row."""


class _Entry:
    __slots__ = ("first_n", "islands", "runs", "settled_next", "stored_next")

    def __init__(self, stored_next: int, settled_next: int, first_n: int) -> None:
        self.stored_next = stored_next
        """Where the first run of stored samples ends."""
        self.settled_next = settled_next
        self.first_n = first_n
        self.runs: deque[tuple[int, int]] = deque()
        """Further runs, first_seq and the number after the last. What lies between was delivered
        ahead of its turn and never stored: the ledger has no words for that, and must not call it
        missing, so it learns of a run when all before it is delivered."""
        self.islands: dict[int, tuple[int, int | None]] = {}
        """Delivered out of order: first_seq -> last_seq, and the row's n if it is stored."""

    @property
    def is_settled(self) -> bool:
        return self.settled_next >= self.stored_next and not self.runs

    def add_run(self, first_seq: int, next_seq: int) -> None:
        end = self.runs[-1][1] if self.runs else max(self.stored_next, self.settled_next)
        if first_seq > end:
            self.runs.append((first_seq, next_seq))
        elif not self.runs:
            self.stored_next = max(self.stored_next, next_seq)
        elif next_seq > end:
            self.runs[-1] = (self.runs[-1][0], next_seq)

    def pass_hole(self) -> bool:
        """Go on with the next run if all before it is delivered; tell whether that was so."""
        if self.settled_next < self.stored_next or not self.runs:
            return False
        first_seq, self.stored_next = self.runs.popleft()
        self.settled_next = max(self.settled_next, first_seq)
        return True


class Outstanding:
    """The epochs that have stored samples; the others cost nothing."""

    def __init__(self) -> None:
        self._entries: dict[Epoch, _Entry] = {}
        self._changed: set[Epoch] = set()

    def __contains__(self, epoch: Epoch) -> bool:
        return epoch in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def epochs(self) -> frozenset[Epoch]:
        """Return all epochs that have stored samples."""
        return frozenset(self._entries)

    def restore(self, epoch: Epoch, marks: Marks) -> None:
        """Take over what the ledger had."""
        self._entries[epoch] = _Entry(*marks)

    def stored(self, epoch: Epoch, first_seq: int, last_seq: int, n: int) -> None:
        """Note that the row `n` is on disk."""
        entry = self._entries.get(epoch)
        if entry is None:
            # All before it was delivered without being stored.
            entry = self._entries[epoch] = _Entry(first_seq, first_seq, n)
        # What begins below `settled_next` is a repetition, sent again as its ACK was lost. To go
        # back there would claim rows that were delivered and deleted since.
        entry.add_run(first_seq, last_seq + 1)
        entry.pass_hole()
        self._changed.add(epoch)

    def settled(self, epoch: Epoch, first_seq: int, last_seq: int, n: int | None) -> list[int]:
        """Note that a range is delivered, `n` its row if it has one; return rows to be deleted."""
        entry = self._entries.get(epoch)
        if entry is None:
            return [] if n is None else [n]
        deletable: list[int] = []
        if first_seq > entry.settled_next:
            entry.islands[first_seq] = (last_seq, n)
            return deletable
        entry.settled_next = max(entry.settled_next, last_seq + 1)
        if n is not None:
            deletable.append(n)
        while entry.islands or entry.runs:
            first = min(entry.islands, default=entry.settled_next + 1)
            if first > entry.settled_next:
                if entry.pass_hole():
                    continue
                break
            last, island_n = entry.islands.pop(first)
            entry.settled_next = max(entry.settled_next, last + 1)
            if island_n is not None:
                deletable.append(island_n)
        if entry.is_settled:  # what is before an island now waits in memory, or was delivered
            deletable += [n for _, n in entry.islands.values() if n is not None]
            entry.islands.clear()
        self._changed.add(epoch)
        return deletable

    def take_changed(self) -> dict[Epoch, Marks]:
        """Return what the ledger must learn, and forget epochs of which nothing is left."""
        changed: dict[Epoch, Marks] = {}
        for epoch in self._changed:
            entry = self._entries[epoch]
            stored_next = max(entry.stored_next, entry.settled_next)
            changed[epoch] = Marks(stored_next, entry.settled_next, entry.first_n)
            if entry.is_settled:
                del self._entries[epoch]
        self._changed.clear()
        return changed
