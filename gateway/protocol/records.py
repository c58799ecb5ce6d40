"""Records: their bytes in a READ, and the values they stand for.

A record is `len u8 | stream u8 | mono_ms u32 | values`, unpadded, little endian; `len` counts all.
Where a record starts and ends (`RecordLayout`, `unpack_records`) is kept apart from what its
numbers mean (`Scaling`): a session needs the first to accept records, only a driver the second.
"""

import math
from collections.abc import Container, Mapping, Sequence
from struct import Struct
from typing import NamedTuple, TypeAlias

from gateway.model import Value
from gateway.protocol.message_values import Read, Stream

RECORD_HEADER_SIZE = 6

RawRecord: TypeAlias = tuple[int, ...]
"""`(len, stream, mono_ms, number, ...)`; numbers of `f` and `d` are floats."""

STREAM_FIELD = 1
MONO_FIELD = 2
FIRST_NUMBER = 3
"""Where those stand in a RawRecord."""

_NO_VALUE = {"b": -(2**7), "h": -(2**15), "i": -(2**31), "q": -(2**63)}
"""The signed minimum says that nothing was measured; unsigned letters have no such number."""


class RecordLayout:
    """Where the numbers of one stream's records stand."""

    def __init__(self, stream: Stream) -> None:
        packing = Struct("<BBI" + stream.format)
        self.size = packing.size
        """Of a whole record, in bytes."""
        self.unpack_from = packing.unpack_from
        """Takes bytes and the record's offset in them; returns a RawRecord."""


class UnpackedRecords(NamedTuple):
    """What could be made of a READ's records, in order, from its first on."""

    records: list[RawRecord | None]
    """None stands for a record that nobody can ever read."""
    unknown_stream: int | None
    """The stream that ended the list early, because nobody said yet what it means."""


def unpack_records(
    read: Read, layouts: Mapping[int, RecordLayout], unreadable: Container[int] = ()
) -> UnpackedRecords:
    """Unpack what `read` holds; never raises, whatever the bytes are.

    Records of a stream in `unreadable` are given up, as are those whose length is not their
    stream's, and all that follow a length that cannot be.
    """
    raw = read.records
    end = len(raw)
    offset = 0
    records: list[RawRecord | None] = []
    for done in range(read.record_count):
        if (
            offset + RECORD_HEADER_SIZE > end
            or (size := raw[offset]) < RECORD_HEADER_SIZE
            or offset + size > end
        ):
            records += [None] * (read.record_count - done)
            break
        layout = layouts.get(raw[offset + 1])
        if layout is not None:
            records.append(layout.unpack_from(raw, offset) if layout.size == size else None)
        elif raw[offset + 1] in unreadable:
            records.append(None)
        else:
            return UnpackedRecords(records, raw[offset + 1])
        offset += size
    return UnpackedRecords(records, None)


class Scaling:
    """Turns the numbers of one stream's records into values under the given keys.

    An integer times a negative power of ten becomes the double nearest to that decimal, so 7 at
    exponent -1 is 0.7; with any other exponent it stays an integer. A float is rounded to the
    digit its exponent names. What was not measured is left out.
    """

    def __init__(self, stream: Stream, keys: Sequence[str]) -> None:
        self._integers: list[tuple[str, int, int | None, int | None]] = []
        self._others: list[tuple[str, int, int | None, int | None]] = []
        for index, (letter, channel) in enumerate(zip(stream.format, stream.channels, strict=True)):
            at, exponent = FIRST_NUMBER + index, channel.exponent
            if letter in "fd":
                digits = None if exponent is None else -exponent
                self._others.append((keys[index], at, digits, None))
            elif exponent is not None and exponent > 0:
                self._others.append((keys[index], at, 10**exponent, _NO_VALUE.get(letter)))
            else:
                divisor = 10**-exponent if exponent else None
                self._integers.append((keys[index], at, divisor, _NO_VALUE.get(letter)))

    def values(self, record: RawRecord) -> dict[str, Value]:
        """Return what a record of this stream measured."""
        values: dict[str, Value] = {}
        for key, at, divisor, no_value in self._integers:
            number = record[at]
            if number != no_value:
                values[key] = number / divisor if divisor else number
        if self._others:
            self._add_others(record, values)
        return values

    def _add_others(self, record: RawRecord, values: dict[str, Value]) -> None:
        for key, at, scale, no_value in self._others:
            number = record[at]
            if isinstance(number, float):
                if math.isfinite(number):
                    values[key] = number if scale is None else round(number, scale)
            elif number != no_value:
                values[key] = number * (scale or 1)
