"""Where a gap comes in the order of its device: between which of its rows; pure.

A number that a lost row had lies in the right place and is free, but which of the free ones was
whose nobody knows any more. If the gap that must come after the highest number chooses first, and
takes the highest that is free, one is left for each of the others.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from gateway.model import Gap
from gateway.store.outstanding import Epoch
from gateway.store.rows import Row

Piece: TypeAlias = Gap | Row


class Place(NamedTuple):
    """A gap, or a row that needs another number, and the numbers of the rows around it."""

    after_n: int
    order: int
    """Of the pieces of its device with the same `after_n`, the higher comes later."""
    before_n: int | None
    """None if there is no later row of the device."""
    piece: Piece


def places(
    pieces: Iterable[Piece],
    rows_of: Callable[[str], Iterable[tuple[int, int, int]]],
    first_n: Mapping[Epoch, int],
    cursors: Mapping[str, int],
) -> list[Place]:
    """Return a place for each piece, in the order in which they are to choose.

    Args:
        pieces: What is to be put among the rows.
        rows_of: Returns number, boot and first sample of all rows of a device, in their order.
        first_n: Number of the first row of boots, which tells their order.
        cursors: Up to which number the rows of a device were read: nothing may be put before.
    """
    by_device: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_device[piece.device].append(piece)
    found: list[Place] = []
    for device, its_pieces in by_device.items():
        after_n = cursors.get(device, 0)
        found += _places_among(its_pieces, rows_of(device), first_n, after_n)
    return sorted(found, reverse=True, key=lambda place: (place.after_n, place.order))


def _places_among(
    pieces: list[Piece],
    rows: Iterable[tuple[int, int, int]],
    first_n: Mapping[Epoch, int],
    after_n: int,
) -> Iterator[Place]:
    device = pieces[0].device
    began: dict[int, int] = {}

    def key(boot: int, seq: int, n: int = 0) -> tuple[int, int]:
        return began.setdefault(boot, first_n.get((device, boot), n)), seq

    waiting = sorted(
        ((key(piece.boot, piece.first_seq), piece) for piece in pieces), key=lambda one: one[0]
    )
    at = 0
    for n, boot, first_seq in rows:
        row_key = key(boot, first_seq, n)
        while at < len(waiting) and waiting[at][0] < row_key:
            yield Place(after_n, at, n, waiting[at][1])
            at += 1
        if at == len(waiting):
            return
        after_n = max(after_n, n)
    for order in range(at, len(waiting)):
        yield Place(after_n, order, None, waiting[order][1])
