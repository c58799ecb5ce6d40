"""The checksum of a stored row, by which a salvaged row is told from garbage."""

from struct import Struct
from zlib import crc32

_NUMBERS = Struct("<6qdI")
"""n, boot, first_seq, last_seq, count, machine_boot, taken_s, size of the device's UTF-8."""


def row_crc(  # noqa: PLR0913, PLR0917 - the columns of a row, in the table's order
    n: int,
    device: str,
    boot: int,
    first_seq: int,
    last_seq: int,
    count: int,
    machine_boot: int,
    taken_s: float,
    body: bytes,
) -> int:
    """Return the CRC-32 of a row's other columns, as they are whether written or read back.

    Integers are those SQLite can hold: 64 bits, signed. A `taken_s` of -0.0 counts as 0.0, because
    SQLite stores a whole REAL as an integer.
    """
    name = device.encode()
    numbers = _NUMBERS.pack(
        n, boot, first_seq, last_seq, count, machine_boot, taken_s + 0.0, len(name)
    )
    return crc32(body, crc32(name, crc32(numbers)))
