"""Salvage: every row that is still right, out of a damaged SQLite database and its WAL; pure."""

from collections.abc import Callable, Iterator
from zlib import crc32

from gateway.store.raw_pages import RawFile, RawPages
from gateway.store.raw_rows import RawRecord, decode_row, find_records, local_size
from gateway.store.rows import Row

_BYTES_PER_FAILURE = 64
"""A page may hold one wrong row for so many of its bytes before the rest of it is passed over.

True rows are longer: this bounds the time that a page made to hold nothing but false rows takes.
"""

_MOST_IMAGES_OF_A_ROW = 1000
_IMAGES_PER_IMAGE = 64
_IMAGES_AT_LEAST = 10_000
"""How many images of overflow pages are looked at in vain: for one row beyond those it needs, and
for all rows together, as a multiple of the images there are."""

_STEPS_OF_PROGRESS = 256
"""Images between two calls of `progress`: one MiB."""


def rows(
    database: RawFile,
    wal: RawFile,
    progress: Callable[[int, int], None] | None = None,
    is_wanted: Callable[[Row], bool] = lambda _row: True,
) -> Iterator[Row]:
    """Yield every row with a right checksum, each `n` once, its newest version; in no order.

    Numbers are used again once the store was empty: an unwanted row does not hide another one that
    has, or had, the same number.

    Rows of free pages, of old versions of pages and of transactions that never were committed are
    among them: which of them still matter is for the caller to know. Any bytes will do, none raise;
    the time is linear in their number. `progress` gets bytes done, then bytes in all.
    """
    pages = RawPages(database, wal)
    search = _Search(pages, is_wanted)
    total = len(database) + len(wal)
    for done, image in enumerate(pages.newest_first()):
        if progress is not None and done % _STEPS_OF_PROGRESS == 0:
            progress(total * done // len(pages), total)
        yield from search.rows_of(image)
    if progress is not None:
        progress(total, total)


class _Search:
    def __init__(self, pages: RawPages, is_wanted: Callable[[Row], bool]) -> None:
        self._pages = pages
        self._is_wanted = is_wanted
        self._usable = pages.usable
        self._found = _Numbers()
        self._given_up: set[tuple[int, int]] = set()
        """Rows whose overflow pages were sought in vain: `n` and CRC-32 of what is in the page."""
        self._patience = _IMAGES_AT_LEAST + _IMAGES_PER_IMAGE * len(pages)

    def rows_of(self, image: int) -> Iterator[Row]:
        page = self._pages.image(image)
        failures_left = 1 + self._pages.page_size // _BYTES_PER_FAILURE
        for record in find_records(page):
            if record.n in self._found:
                continue
            row = self._row(record, page, image)
            if row is not None:
                if self._is_wanted(row):
                    self._found.add(row.n)
                    yield row
                continue
            failures_left -= 1
            if failures_left == 0:
                return

    def _row(self, record: RawRecord, page: bytes, image: int) -> Row | None:
        local = local_size(record.layout.size, self._usable)
        end = record.start + local
        if local == record.layout.size:
            if end > len(page):
                return None
            return decode_row(record, page[record.start : end])
        if end + 4 > len(page):
            return None
        return self._row_with_overflow(record, page[record.start : end + 4], image)

    def _row_with_overflow(self, record: RawRecord, local: bytes, image: int) -> Row | None:
        name = (record.n, crc32(local))
        if name in self._given_up:
            return None
        room = self._usable - 4
        outside = record.layout.size - (len(local) - 4)
        length = -(-outside // room)
        if length > len(self._pages):
            return None
        allowed = min(self._patience, _MOST_IMAGES_OF_A_ROW + length)
        spent = 0
        first_page = int.from_bytes(local[-4:], "big")
        for chain in self._pages.chains(first_page, length, image):
            spent += 1
            if chain is not None:
                spent += length - 1
                pages = [self._pages.image(number)[4 : 4 + room] for number in chain]
                payload = b"".join([local[:-4], *pages])[: record.layout.size]
                if len(payload) == record.layout.size and (row := decode_row(record, payload)):
                    return row
            if spent > allowed:
                break
        self._patience -= spent
        self._given_up.add(name)
        return None


class _Numbers:
    """A set of integers that lie close together: an eighth of a byte each, not a hundred."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    def __contains__(self, number: int) -> bool:
        return bool(self._masks.get(number >> 9, 0) >> (number & 511) & 1)

    def add(self, number: int) -> None:
        block = number >> 9
        self._masks[block] = self._masks.get(block, 0) | 1 << (number & 511)
