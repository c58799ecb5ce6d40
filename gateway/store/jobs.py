"""What a store is asked to do, and what comes of it: values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from gateway.store.database import Stock
from gateway.store.outstanding import Epoch
from gateway.store.parcels import Parcel
from gateway.store.retention import Dropped
from gateway.store.rows import Moment


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


Watermark: TypeAlias = tuple[str, int, int, int]
"""How far a session is: device, boot, safe_next and claimed_next."""


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
    watermarks: Sequence[Watermark] = ()
    """Of sessions that moved."""


class Committed(NamedTuple):
    """What a commit came to."""

    size_bytes: int
    oldest_unix_s: float | None
    """When the oldest stored record was taken, as far as is known; None when there is none."""
    epochs: frozenset[Epoch] | None
    """Epochs with something stored; None if they are the same as before."""
    dropped: list[Dropped]
    """Given up, for want of room or because of its age."""
