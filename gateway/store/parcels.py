"""Parcels: records of one device and boot that wait, are stored and are settled together; pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.model import Gap, GapCause, Readings, Record, Sample

if TYPE_CHECKING:
    from gateway.clock import TimeBase

MAX_RECORDS = 100
"""Most records of one parcel; MQTT.md's limit of a history message."""

MAX_GAPS = 64
"""Gaps one parcel of losses can have. Boards number their samples one by one, so there are few;
where numbers jump, further losses widen the newest gap, which goes on counting exactly."""

MAX_CALLBACKS = 1024
"""Dropped acknowledgements a parcel of losses carries; further ones are given at once, which keeps
memory bounded: the source is then told that its sample is settled, before that is published."""


class Parcel:
    """What travels as one: one row on disk, acknowledged to its source by one call.

    A class with slots, not a dataclass: one is made for every read of a port.
    """

    __slots__ = (
        "device",
        "is_loss",
        "is_saving",
        "is_settled",
        "is_stored",
        "is_waiting",
        "may_have_row",
        "n",
        "on_safe",
        "put_s",
        "records",
        "time_base",
    )

    def __init__(
        self,
        n: int,
        device: str,
        records: Sequence[Record],
        on_safe: Callable[[], None] | None,
        put_s: float,
    ) -> None:
        self.n = n
        """Arrival number: unique in the outbox, growing; the key of its row."""
        self.device = device
        self.records = records
        """At least one, of one boot, in order."""
        self.on_safe = on_safe
        """Called and forgotten once the records are safe."""
        self.put_s = put_s
        """When it arrived, monotonic; minus infinity if it was read back from disk."""
        self.time_base: TimeBase | None = None
        """How its times become UTC; None for the present boot of the machine."""
        self.is_loss = False
        """Whether it stands for parcels that were dropped here; it may still grow."""
        self.is_waiting = True
        """In its lane, not on its way to the broker."""
        self.is_saving = False
        """Being committed now: it must not change."""
        self.is_stored = False
        """On disk."""
        self.may_have_row = False
        """A commit may succeed and be told to fail: then there is a row to be deleted."""
        self.is_settled = False
        """The broker has it."""

    @property
    def boot(self) -> int:
        """The boot of all its records."""
        return self.records[0].boot

    @property
    def first_seq(self) -> int:
        """Number of the first sample it has or misses."""
        first = self.records[0]
        return first.first_seq if isinstance(first, Gap) else first.seq

    @property
    def last_seq(self) -> int:
        """Number of the last sample it has or misses."""
        last = self.records[-1]
        return last.last_seq if isinstance(last, Gap) else last.seq

    def tell_safe(self) -> None:
        """Tell the source that all records are safe; at most once."""
        on_safe, self.on_safe = self.on_safe, None
        if on_safe is not None:
            on_safe()


def cut(readings: Readings, size: int = MAX_RECORDS) -> list[Readings]:
    """Cut readings into parts of at most `size` records of one boot.

    The last part to be safe calls `on_safe`.
    """
    chunks: list[list[Record]] = []
    for record in readings.records:
        chunk = chunks[-1] if chunks else None
        if chunk is None or len(chunk) >= size or chunk[0].boot != record.boot:
            chunks.append([record])
        else:
            chunk.append(record)
    if len(chunks) == 1:
        return [readings]
    if readings.on_safe is None:
        return [Readings(readings.device, chunk) for chunk in chunks]
    on_safe, unsafe = readings.on_safe, len(chunks)

    def on_part_safe() -> None:
        nonlocal unsafe
        unsafe -= 1
        if unsafe == 0:
            on_safe()

    return [Readings(readings.device, chunk, on_part_safe) for chunk in chunks]


def loss_of(parcel: Parcel, cause: GapCause, seen_s: float) -> Parcel:
    """Return the parcel that takes the place of a dropped one: gaps, with its number."""
    gaps: list[Gap] = []
    for record in parcel.records:
        add_gap(gaps, _gap_of(record, cause, seen_s))
    loss = Parcel(parcel.n, parcel.device, gaps, parcel.on_safe, parcel.put_s)
    loss.is_loss = True
    loss.may_have_row = parcel.may_have_row
    return loss


def merge_loss(older: Parcel, newer: Parcel) -> bool:
    """Add the gaps of a newer parcel of losses to an older one; False if they must stay apart."""
    if older.is_saving or older.is_stored or older.boot != newer.boot:
        return False
    gaps = [record for record in older.records if isinstance(record, Gap)]
    for record in newer.records:
        if isinstance(record, Gap):
            add_gap(gaps, record)
    older.records = gaps
    older.on_safe = _both(older.on_safe, newer.on_safe)
    return True


def add_gap(gaps: list[Gap], gap: Gap) -> None:
    """Append a later gap of the same boot, as part of the last one where that says the same."""
    last = gaps[-1] if gaps else None
    if last is not None and last.cause is gap.cause:
        if last.last_seq + 1 == gap.first_seq and last.missing is gap.missing is None:
            gaps[-1] = replace(last, last_seq=gap.last_seq)
            return
        if len(gaps) >= MAX_GAPS and gap.last_seq > last.last_seq:
            missing = last.count + gap.count
            gaps[-1] = replace(last, last_seq=gap.last_seq, missing=missing)
            return
    gaps.append(gap)


def _gap_of(record: Record, cause: GapCause, seen_s: float) -> Gap:
    if isinstance(record, Sample):
        return Gap(record.device, record.boot, record.seq, record.seq, cause, seen_s)
    return record


class _Calls:
    """Several `on_safe` in one."""

    def __init__(self, first: Callable[[], None]) -> None:
        self._calls = [first]

    def __call__(self) -> None:
        for call in self._calls:
            call()

    def add(self, call: Callable[[], None]) -> None:
        if len(self._calls) < MAX_CALLBACKS:
            self._calls.append(call)
        else:
            call()


def _both(
    first: Callable[[], None] | None, second: Callable[[], None] | None
) -> Callable[[], None] | None:
    if first is None or second is None:
        return first or second
    calls = first if isinstance(first, _Calls) else _Calls(first)
    calls.add(second)
    return calls
