"""A row of the table `records` as it lies in a page of SQLite; pure, trusts nothing.

Source: https://www.sqlite.org/fileformat2.html, sections 1.5 (cells, overflow), 2.1 (records).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, pairwise
from struct import Struct
from typing import NamedTuple

from gateway.store.row_crc import row_crc
from gateway.store.rows import Row

MAX_BODY = 1 << 24
"""Longest body that is believed, in bytes: hundred lines of text of 8 KB each take a twentieth."""

_MAX_DEVICE = 64
"""UTF-8 bytes of a slug; gateway.model.MAX_SLUG."""

# Serial types, as varints. An integer of 0 or 1 has a type of its own; a whole REAL is stored as an
# integer; a type of 13 or more is text if odd, 12 or more bytes if even; n lives in the rowid and
# leaves a NULL behind.
_INTEGER = rb"[\x01-\x06\x08\x09]"
_REAL = rb"[\x01-\x09]"
_ODD = b"".join(b"\\x%02x" % byte for byte in range(0x01, 0x80, 2))
_EVEN = b"".join(b"\\x%02x" % byte for byte in range(0x00, 0x80, 2))
_TEXT_1 = b"".join(b"\\x%02x" % byte for byte in range(13, 0x80, 2))
_BLOB_1 = b"".join(b"\\x%02x" % byte for byte in range(12, 0x80, 2))
_RECORD_HEADER = re.compile(
    rb"[\x0b-\x0f]\x00"
    rb"([%s]|\x81[%s])"
    % (_TEXT_1, _ODD)
    + rb"(%s{5}%s)" % (_INTEGER, _REAL)
    + rb"([%s]|[\x81-\xff][\x80-\xff]{0,2}[%s])" % (_BLOB_1, _EVEN)
    + rb"(%s)" % _INTEGER,
    re.DOTALL,
)
"""The header of a record of our table: its size, then the types of ten columns."""

_NUMBER_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_REAL_TYPE = 7
_ZERO_TYPE = 8
"""From here on the type itself is the number: 8 for 0, 9 for 1."""
_REAL_VALUE = Struct(">d")


class Layout(NamedTuple):
    """Where the columns of a record lie in its payload."""

    size: int
    """Of the payload, overflow pages included, in bytes."""
    device: slice
    integers: tuple[slice, ...]
    """boot, first_seq, last_seq, count, machine_boot; then the crc."""
    taken_s: slice
    body: slice
    types: bytes
    """Serial types of `integers`."""
    taken_type: int


class RawRecord(NamedTuple):
    """A place where a row seems to be."""

    n: int
    start: int
    """Of its payload in the page."""
    layout: Layout


def find_records(page: bytes) -> Iterator[RawRecord]:
    """Return the places in a page where rows seem to be.

    They are found by the header of their record, so that no other part of the page must be right.
    """
    for found in _RECORD_HEADER.finditer(page):
        layout = _layout(found.group())
        if layout is not None:
            start = found.start()
            n = _rowid_before(page, start)
            if n is not None:
                yield RawRecord(n, start, layout)


def local_size(payload_size: int, usable: int) -> int:
    """Return how much of a payload lies in its b-tree page; the rest is in overflow pages."""
    most = usable - 35
    if payload_size <= most:
        return payload_size
    least = (usable - 12) * 32 // 255 - 23
    size = least + (payload_size - least) % (usable - 4)
    return size if size <= most else least


def decode_row(record: RawRecord, payload: bytes) -> Row | None:
    """Return the row, given its whole payload; None when its checksum is wrong."""
    layout = record.layout
    try:
        device = payload[layout.device].decode()
    except UnicodeDecodeError:
        return None
    boot, first_seq, last_seq, size, machine_boot, crc = [
        int.from_bytes(payload[span], "big", signed=True) if kind < _ZERO_TYPE else kind & 1
        for kind, span in zip(layout.types, layout.integers, strict=True)
    ]
    real = payload[layout.taken_s]
    if layout.taken_type == _REAL_TYPE:
        (taken_s,) = _REAL_VALUE.unpack(real)
    elif real:
        taken_s = float(int.from_bytes(real, "big", signed=True))
    else:
        taken_s = float(layout.taken_type & 1)
    body = payload[layout.body]
    row = Row(record.n, device, boot, first_seq, last_seq, size, machine_boot, taken_s, body)
    return row if row_crc(*row) == crc else None


@lru_cache(maxsize=4096)
def _layout(header: bytes) -> Layout | None:
    """Return what a record's header says; None when it is not one of ours."""
    found = _RECORD_HEADER.fullmatch(header)
    if found is None or header[0] != len(header):
        return None
    device, numbers, body, crc = found.groups()
    device_size = (_varint(device) - 13) // 2
    body_size = (_varint(body) - 12) // 2
    if device_size > _MAX_DEVICE or body_size > MAX_BODY:
        return None
    sizes = [device_size, *(_NUMBER_SIZES[kind] for kind in numbers)]
    sizes += [body_size, _NUMBER_SIZES[crc[0]]]
    ends = list(accumulate(sizes, initial=len(header)))
    spans = [slice(start, end) for start, end in pairwise(ends)]
    return Layout(
        size=ends[-1],
        device=spans[0],
        integers=(*spans[1:6], spans[8]),
        taken_s=spans[6],
        body=spans[7],
        types=numbers[:-1] + crc,
        taken_type=numbers[-1],
    )


def _varint(number: bytes) -> int:
    value = 0
    for byte in number:
        value = value << 7 | byte & 0x7F
    return value


def _rowid_before(page: bytes, end: int) -> int | None:
    """Return the varint that ends there.

    What stands before it, the payload's size, is a varint too: its last byte has no high bit, which
    is where the rowid starts. Rowids of nine bytes (2**56 and more) are not looked for.
    """
    at = end - 1
    if at < 0 or page[at] > 0x7F:  # noqa: PLR2004 - the high bit says that a varint goes on
        return None
    value = page[at]
    for shift in range(7, 56, 7):
        at -= 1
        if at < 0 or not page[at] & 0x80:
            break
        value |= (page[at] & 0x7F) << shift
    return value
