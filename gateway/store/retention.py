"""What is given up when too much is stored, or for too long: the oldest, and never in silence."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.clock import TimeBase
from gateway.model import Gap, GapCause, Sample
from gateway.store.database import Database
from gateway.store.outstanding import Epoch
from gateway.store.parcels import Parcel, add_gap
from gateway.store.rows import Moment, Row, parcel_of, row_of

_RELAXED_SHARE = 0.95
"""Once too much is stored, what is beyond this share of the limit goes, so that it seldom does."""

_ROW_BYTES = 100
"""About what a row takes besides its body, with its place in the index."""

_MAX_ROWS = 20_000
"""Most rows given up at once: the rest follows with the next commit."""


class Rules(NamedTuple):
    """What may go."""

    max_bytes: int
    max_age_s: float
    cursors: Mapping[str, int]
    """Of each device with rows that are only on disk: what came up to this number is in memory, or
    was, and stays. Of other devices all does."""
    before_n: int
    """So does everything from this number on."""
    unix_s: float | None
    """The time now; None if nobody vouches for it: then nothing is too old."""


class Dropped(NamedTuple):
    """What was given up of one boot of one device."""

    device: str
    rows: int
    """By how many rows there are fewer."""
    records: int
    """By how many records."""
    samples: int
    """How many samples are lost."""
    cause: GapCause


@dataclass(slots=True)
class _Loss:
    rows: list[Row] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    samples: int = 0


def drop(
    database: Database,
    rules: Rules,
    bases: dict[int, TimeBase],
    moment: Moment,
) -> list[Dropped]:
    """Give up what is too much or too old; gaps take its place.

    Raises:
        StoreError: the disk fails, or what is on it is damaged.
    """
    excess = database.size_bytes() - rules.max_bytes
    if excess > 0:
        free = excess + round(rules.max_bytes * (1 - _RELAXED_SHARE))
        losses = _collect(_oldest(database, rules, free), GapCause.STORE_OVERFLOW, moment)
        return _replace(database, losses, GapCause.STORE_OVERFLOW, moment)
    if rules.unix_s is not None:
        expired = _expired(database, rules, rules.unix_s, bases, moment)
        losses = _collect(expired, GapCause.EXPIRED, moment)
        return _replace(database, losses, GapCause.EXPIRED, moment)
    return []


def _spared(database: Database, rules: Rules) -> Iterator[Row]:
    for row in database.rows():
        if row.n >= rules.before_n:
            return
        cursor = rules.cursors.get(row.device)
        if cursor is not None and row.n > cursor:
            yield row


def _oldest(database: Database, rules: Rules, free_bytes: int) -> Iterator[Row]:
    for row in _spared(database, rules):
        if free_bytes <= 0:
            return
        free_bytes -= len(row.body) + _ROW_BYTES
        yield row


def _expired(
    database: Database, rules: Rules, unix_s: float, bases: dict[int, TimeBase], moment: Moment
) -> Iterator[Row]:
    for row in _spared(database, rules):
        base = moment.base if row.machine_boot == moment.machine_boot else None
        base = base or bases.get(row.machine_boot)
        # Nobody knows the age of what was taken by a clock that nobody set: it stays.
        if base is not None and base.quality == "synced":
            if row.taken_s + base.offset_s > unix_s - rules.max_age_s:
                return  # those that came later are younger
            yield row


def _collect(rows: Iterator[Row], cause: GapCause, moment: Moment) -> dict[Epoch, _Loss]:
    losses: dict[Epoch, _Loss] = {}
    for number, row in enumerate(rows, 1):
        loss = losses.setdefault((row.device, row.boot), _Loss())
        loss.rows.append(row._replace(body=b""))
        for record in parcel_of(row, moment, {}).records:
            if isinstance(record, Sample):
                loss.samples += 1
                add_gap(
                    loss.gaps,
                    Gap(row.device, row.boot, record.seq, record.seq, cause, moment.now_s),
                )
            else:
                add_gap(loss.gaps, record)
        if number >= _MAX_ROWS:
            break
    return losses


def _replace(
    database: Database, losses: dict[Epoch, _Loss], cause: GapCause, moment: Moment
) -> list[Dropped]:
    losses = {epoch: loss for epoch, loss in losses.items() if loss.samples}
    if not losses:
        return []
    gap_rows = [
        row_of(Parcel(loss.rows[0].n, epoch[0], loss.gaps, None, 0.0), moment)
        for epoch, loss in losses.items()
    ]
    database.replace(gap_rows, [row.n for loss in losses.values() for row in loss.rows])
    return [
        Dropped(
            epoch[0],
            len(loss.rows) - 1,
            sum(row.size for row in loss.rows) - len(loss.gaps),
            loss.samples,
            cause,
        )
        for epoch, loss in losses.items()
    ]
