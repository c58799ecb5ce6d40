"""Real SQLite files with rows of the store, and where the bytes of each row lie in them.

The places are found by searching the files for what the row's record must look like (file format
document, sections 1.5, 1.6 and 2.1); nothing here decodes a page.
"""

import random
import sqlite3
import string
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from gateway.store.row_crc import row_crc

PAGE = 4096
WAL_HEADER = 32
FRAME_HEADER = 24

SCHEMA = """
CREATE TABLE records (
    n INTEGER PRIMARY KEY, device TEXT, boot INTEGER, first_seq INTEGER, last_seq INTEGER,
    count INTEGER, machine_boot INTEGER, taken_s REAL, body BLOB, crc INTEGER
);
CREATE INDEX records_by_device ON records (device, n, count);
CREATE TABLE boots (number INTEGER PRIMARY KEY, boot_id TEXT, offset_s REAL, is_synced INTEGER);
"""

BodySizes = tuple[int, ...]
SIZES: BodySizes = (0, 1, 20, 60, 150, 150, 300, 700, 1500, 3900, 4100, 6000, 9000, 21_000)

StoredRow = tuple[int, str, int, int, int, int, int, float, bytes]


class SqliteFiles(NamedTuple):
    """A store as a kill leaves it."""

    database: bytes
    wal: bytes
    live: dict[int, StoredRow]
    """The rows SQLite itself reads, by n."""
    written: dict[int, StoredRow]
    """All that ever were committed."""


class Span(NamedTuple):
    """Bytes of one of the two files."""

    is_wal: bool
    start: int
    end: int


Parts = list[list[Span]]
"""For each part of a row's cell (in its leaf, in each overflow page) all copies of it."""


def row(n: int, body_size: int, rng: random.Random) -> StoredRow:
    """Return a row that no other is like."""
    letters = string.ascii_letters + string.digits
    text = (f"[{n}]" + "".join(rng.choices(letters, k=body_size)))[:body_size]
    return (
        n,
        rng.choice(["a", "shed", "board_" + "x" * 50, "y" * 64]),
        rng.choice([0, 1, 3, 2**24, 2**53]),
        n * 100,
        n * 100 + 99,
        100,
        rng.choice([0, 2**55 + 12345]),
        rng.choice([0.0, 1.0, 70_000.0, 12345.678, n + 0.25]),
        text.encode(),
    )


def write_rows(connection: sqlite3.Connection, rows: list[StoredRow]) -> None:
    connection.executemany(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*each, row_crc(*each)) for each in rows],
    )


def open_store(path: Path, page_size: int = PAGE) -> sqlite3.Connection:
    """Make a database as the store makes it, which never copies its WAL back by itself."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        f"PRAGMA page_size = {page_size}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        f"PRAGMA wal_autocheckpoint = 0; {SCHEMA}"
    )
    return connection


def lived_in(path: Path, seed: int, commits: int, checkpoints: float) -> SqliteFiles:
    """Let a store live through inserts, deletes and checkpoints; return what a kill leaves of it.

    Args:
        path: Where to make it.
        seed: What happens.
        commits: How many transactions.
        checkpoints: How often one is followed by a checkpoint, 0 to 1.
    """
    rng = random.Random(seed)
    written: dict[int, StoredRow] = {}
    waiting: list[int] = []
    with closing(open_store(path)) as connection:
        connection.execute(f"PRAGMA secure_delete = {seed % 2}")  # Debian's SQLite has it on
        for number in range(commits):
            connection.execute("BEGIN IMMEDIATE")
            rows = [
                row(len(written) + 1 + at, rng.choice(SIZES), rng)
                for at in range(rng.randrange(1, 6))
            ]
            write_rows(connection, rows)
            written |= {each[0]: each for each in rows}
            waiting += [each[0] for each in rows]
            if rng.random() < 0.5:
                done = [waiting.pop(0) for _ in range(rng.randrange(min(6, len(waiting))))]
                connection.executemany("DELETE FROM records WHERE n = ?", [(n,) for n in done])
            if rng.random() < 0.2:
                connection.execute(
                    "INSERT INTO boots VALUES (?, ?, ?, ?)", (number, f"boot {number}", 0.5, 1)
                )
            connection.execute("COMMIT")
            if rng.random() < checkpoints:
                mode = rng.choice(["PASSIVE", "RESTART", "TRUNCATE"])
                connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        live = {each[0]: each[:9] for each in connection.execute("SELECT * FROM records")}
        wal = Path(f"{path}-wal")
        files = SqliteFiles(
            path.read_bytes(), wal.read_bytes() if wal.exists() else b"", live, written
        )
    assert set(live) == set(waiting)
    return files


def parts_of(files: SqliteFiles, stored: StoredRow) -> Parts:
    """Return where a row lies in the files; an empty list for a part there is no copy of."""
    payload = _record(stored)
    head = _varint(len(payload)) + _varint(stored[0])
    cell = head + payload
    # All columns before the body, and the size of the payload, make the start of a cell unique.
    start = cell[: len(cell) - len(stored[8]) - 4]
    leaves = [
        (_common(content[at : at + PAGE], cell), bool(is_wal), at)
        for is_wal, content in enumerate((files.database, files.wal))
        for at in _occurrences(content, start)
    ]
    if not leaves:
        return [[]]
    # Old copies that were partly written over have less in common with the cell.
    local = max(size for size, _, _ in leaves)
    end = local + (4 if local < len(cell) else 0)
    parts = [[Span(is_wal, at, at + end) for size, is_wal, at in leaves if size == local]]
    chunks = [cell[at : at + PAGE - 4] for at in range(local, len(cell), PAGE - 4)]
    parts += [
        [
            span
            for is_wal, content in enumerate((files.database, files.wal))
            for at in _occurrences(content, chunk)
            if (span := _overflow_span(bool(is_wal), at, len(chunk))) is not None
        ]
        for chunk in chunks
    ]
    return parts


def survivors(files: SqliteFiles, places: dict[int, Parts], damage: list[Span]) -> set[int]:
    """Return the rows of which every part has a copy that no damage touches."""

    def is_whole(span: Span) -> bool:
        return not any(
            hit.is_wal == span.is_wal and hit.start < span.end and span.start < hit.end
            for hit in damage
        )

    return {n for n in files.written if all(any(map(is_whole, copies)) for copies in places[n])}


def _overflow_span(is_wal: bool, at: int, size: int) -> Span | None:
    """Return the span of an overflow page: with its link, and in a WAL with its frame's header."""
    start = at - 4
    if not is_wal:
        return Span(is_wal, start, at + size) if start % PAGE == 0 else None
    in_frame = (start - WAL_HEADER) % (FRAME_HEADER + PAGE)
    return Span(is_wal, start - FRAME_HEADER, at + size) if in_frame == FRAME_HEADER else None


def _occurrences(content: bytes, piece: bytes) -> Iterator[int]:
    at = content.find(piece)
    while at >= 0:
        yield at
        at = content.find(piece, at + 1)


def _common(one: bytes, other: bytes) -> int:
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def _record(stored: StoredRow) -> bytes:
    columns = [_column(value) for value in (None, *stored[1:7])]
    taken_s = stored[7]
    columns.append(_column(int(taken_s) if taken_s.is_integer() else taken_s))
    columns += [_column(stored[8]), _column(row_crc(*stored))]
    types = b"".join(_varint(kind) for kind, _ in columns)
    return bytes([1 + len(types)]) + types + b"".join(content for _, content in columns)


def _column(value: float | str | bytes | None) -> tuple[int, bytes]:
    match value:
        case None:
            return 0, b""
        case 0 | 1 if isinstance(value, int):
            return 8 + value, b""
        case int():
            for kind, size in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 8)):
                if -(1 << 8 * size - 1) <= value < 1 << 8 * size - 1:
                    return kind, value.to_bytes(size, "big", signed=True)
            raise OverflowError(value)
        case float():
            return 7, struct.pack(">d", value)
        case str():
            return 13 + 2 * len(value.encode()), value.encode()
        case bytes():
            return 12 + 2 * len(value), value


def _varint(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | number & 0x7F)
    return bytes(reversed(groups))
