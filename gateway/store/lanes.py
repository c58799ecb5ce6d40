"""The waiting parcels of each device, and whose turn it is; pure.

A lane has three parts, oldest first: `front` (returned by the publisher, or read back from disk),
rows on disk that are not in memory, and `fresh` (as they came).
"""

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from gateway.model import GapCause, Sample
from gateway.store.parcels import MAX_GAPS, Parcel, loss_of, merge_loss

if TYPE_CHECKING:
    from gateway.clock import TimeBase

_BURST_S = 0.05
_LEAST_BURST = 200.0
"""What may go out at once after a pause: what the rate gives in so many seconds, or so many."""


class Dropped(NamedTuple):
    """A parcel that had to make room."""

    victim: Parcel
    loss: Parcel
    """Stands for it now, and perhaps for others."""
    forgotten: Parcel | None
    """A parcel of losses that found no room."""


class Lane:
    """What waits of one device."""

    __slots__ = (
        "count",
        "cursor",
        "device",
        "disk_records",
        "disk_rows",
        "fresh",
        "front",
        "is_reading",
        "last_disk_n",
        "newest",
        "newest_base",
        "newest_n",
        "queue",
        "shown_n",
    )

    def __init__(self, device: str) -> None:
        self.device = device
        self.front: deque[Parcel] = deque()
        self.fresh: deque[Parcel] = deque()
        self.count = 0
        """Records in `front` and `fresh`."""
        self.disk_rows = 0
        """Rows that are only on disk: those after `cursor`, up to `last_disk_n`."""
        self.disk_records = 0
        self.cursor = 0
        self.last_disk_n = 0
        self.newest: Sample | None = None
        """The newest sample with values that is known; it may be delivered."""
        self.newest_base: TimeBase | None = None
        self.newest_n = 0
        """The parcel that has it."""
        self.shown_n = 0
        """The parcel whose newest sample was shown ahead of the backlog, on this connection."""
        self.queue: deque[Lane] | None = None
        """Where it stands in line for the publisher."""
        self.is_reading = False

    @property
    def has_any(self) -> bool:
        """Whether anything waits, wherever."""
        return bool(self.front or self.fresh or self.disk_rows)

    def oldest(self) -> Parcel | None:
        """Return the oldest parcel in memory."""
        if self.front:
            return self.front[0]
        return self.fresh[0] if self.fresh else None

    def is_backlog(self, since_s: float) -> bool:
        """Whether its oldest record came before `since_s`, or is on disk."""
        if self.front:
            return self.front[0].put_s < since_s
        return self.disk_rows > 0 or (bool(self.fresh) and self.fresh[0].put_s < since_s)

    def put(self, parcel: Parcel) -> None:
        """Append a parcel."""
        self.fresh.append(parcel)
        self.count += len(parcel.records)
        last = parcel.records[-1]
        if isinstance(last, Sample):
            if last.values:
                self.newest, self.newest_base, self.newest_n = last, None, parcel.n
            else:
                self.learn_newest(parcel)

    def give_back(self, parcels: tuple[Parcel, ...]) -> None:
        """Put parcels in front of all others."""
        for parcel in reversed(parcels):
            parcel.is_waiting = True
            self.front.appendleft(parcel)
            self.count += len(parcel.records)
            if self.newest is None:  # the lane was forgotten when nothing waited in it
                self.learn_newest(parcel)

    def learn_newest(self, parcel: Parcel) -> None:
        """Take the newest sample of a parcel for the newest of the device, if it has values."""
        for record in reversed(parcel.records):
            if isinstance(record, Sample) and record.values:
                self.newest, self.newest_base, self.newest_n = record, parcel.time_base, parcel.n
                return

    def read_back(self, parcels: list[Parcel]) -> None:
        """Take in what was read from disk: the oldest rows there."""
        for parcel in parcels:
            self.front.append(parcel)
            self.count += len(parcel.records)
            self.cursor = parcel.n
            self.disk_rows -= 1
            self.disk_records -= len(parcel.records)

    def cut(self, max_records: int, *, stored_only: bool) -> tuple[Parcel, ...]:
        """Remove the oldest parcels that may share a batch; none if none may be handed out now."""
        parts: list[Parcel] = []
        room = max_records
        source = self.front or (None if self.disk_rows else self.fresh)
        while source:
            parcel = source[0]
            size = len(parcel.records)
            if stored_only and not parcel.is_stored:
                break
            if parts and (size > room or parcel.time_base != parts[0].time_base):
                break
            source.popleft()
            parcel.is_waiting = False
            parts.append(parcel)
            room -= size
            self.count -= size
            source = source or (None if self.disk_rows else self.fresh)
        return tuple(parts)

    def evict(self, parcel: Parcel) -> bool:
        """Forget a stored parcel that is still the oldest of `fresh`: it is read back later."""
        if not self.fresh or self.fresh[0] is not parcel:
            return False
        self.fresh.popleft()
        self.count -= len(parcel.records)
        if not self.disk_rows:
            self.cursor = parcel.n - 1
        self.disk_rows += 1
        self.disk_records += len(parcel.records)
        self.last_disk_n = parcel.n
        return True

    def drop_oldest(self, seen_s: float) -> Dropped | None:
        """Turn the oldest parcel that is only in memory into a loss, in its place.

        None if there is nothing to drop.
        """
        at = losses = 0
        for victim in self.fresh:
            if not (victim.is_loss or victim.is_saving or victim.is_stored):
                break
            at += 1
            losses += victim.is_loss
        else:
            return None
        loss = loss_of(victim, GapCause.STORE_OVERFLOW, seen_s)
        self.count -= len(victim.records)
        older = self.fresh[at - 1] if at else None
        if older is not None and older.is_loss:
            before = len(older.records)
            if merge_loss(older, loss):
                del self.fresh[at]
                self.count += len(older.records) - before
                return Dropped(victim, older, None)
        self.fresh[at] = loss
        self.count += len(loss.records)
        # Without end only from a source that changes its boot number all the time.
        forgotten = self._forget_loss() if losses >= MAX_GAPS else None
        return Dropped(victim, loss, forgotten)

    def _forget_loss(self) -> Parcel | None:
        for at, parcel in enumerate(self.fresh):
            if parcel.is_loss and not (parcel.is_saving or parcel.is_stored):
                del self.fresh[at]
                self.count -= len(parcel.records)
                return parcel
        return None


class Tokens:
    """How many records of the backlog may go out: `rate` a second, and as many as come in."""

    def __init__(self, rate: float, now_s: float) -> None:
        self._rate = rate
        self._most = max(rate * _BURST_S, _LEAST_BURST)
        self._tokens = self._most
        self._filled_s = now_s

    def came_in(self, count: int) -> None:
        """Allow as many to go out as came in: else a backlog that grows would never end."""
        self._tokens = min(self._tokens + count, self._most)

    def spend(self, count: int) -> None:
        """Note that so many went out; it may go below zero."""
        self._tokens -= count

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait until more may go out; 0 for not at all."""
        grown = self._tokens + (now_s - self._filled_s) * self._rate
        self._tokens, self._filled_s = min(grown, self._most), now_s
        return 0.0 if self._tokens > 0 else -self._tokens / self._rate
