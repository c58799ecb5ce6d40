import mmap
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store import salvage
from gateway.store.row_crc import row_crc
from tests.support.effort import SOAK, examples
from tests.support.sqlite_files import (
    PAGE,
    Parts,
    Span,
    SqliteFiles,
    StoredRow,
    lived_in,
    open_store,
    parts_of,
    row,
    survivors,
    write_rows,
)

CUT = 512
"""A disk's sector: where the files are cut, from the issue."""

FOR_EVER = 1 << 40

LIVES = [(1, 7, 0.0), (9, 20, 0.3), (3, 24, 1.0)]
"""Seed, transactions, share of them followed by a checkpoint."""


@cache
def life(seed: int, commits: int, checkpoints: float) -> tuple[SqliteFiles, dict[int, Parts]]:
    with TemporaryDirectory() as folder:
        files = lived_in(Path(folder) / "outbox.db", seed, commits, checkpoints)
    return files, {n: parts_of(files, stored) for n, stored in files.written.items()}


def found_in(database: bytes, wal: bytes) -> dict[int, StoredRow]:
    """Return the rows that are found, each of them once."""
    found = list(salvage.rows(database, wal))
    by_n: dict[int, StoredRow] = {each.n: tuple(each) for each in found}  # type: ignore[misc] # the same columns
    assert len(by_n) == len(found)
    return by_n


def must_find(
    files: SqliteFiles, places: dict[int, Parts], damaged: SqliteFiles, damage: Span, label: str
) -> None:
    """Fail unless exactly the rows with a whole copy are found, just as they were written."""
    found = found_in(damaged.database, damaged.wal)

    wrong = [n for n, each in found.items() if files.written.get(n) != each]
    assert wrong == [], f"{label}: rows that never were"
    assert survivors(files, places, [damage]) - set(found) == set(), label


def read_by_sqlite(files: SqliteFiles, folder: Path) -> set[int]:
    """Return the rows that SQLite still reads, and reads as they were written."""
    path = folder / "copy.db"
    path.write_bytes(files.database)
    Path(f"{path}-wal").write_bytes(files.wal)
    Path(f"{path}-shm").unlink(missing_ok=True)
    read: set[int] = set()
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.DatabaseError):
        connection.execute("PRAGMA synchronous = OFF")
        for *columns, crc in connection.execute("SELECT * FROM records"):
            with suppress(TypeError, AttributeError):  # a column of another type
                if row_crc(*columns) == crc:
                    read.add(columns[0])
    return read


@pytest.mark.parametrize("seed", range(12))
def test_every_row_of_undamaged_files_is_found(tmp_path: Path, seed: int) -> None:
    files = lived_in(tmp_path / "outbox.db", seed, 20, (0, 0.3, 1)[seed % 3])

    found = found_in(files.database, files.wal)

    assert files.live.items() <= found.items() <= files.written.items(), f"seed {seed}"


@pytest.mark.parametrize("of_life", LIVES)
@pytest.mark.parametrize("cuts_wal", [False, True], ids=["database", "wal"])
def test_cut_anywhere_every_whole_row_is_found(
    tmp_path: Path, of_life: tuple[int, int, float], cuts_wal: bool
) -> None:
    files, places = life(*of_life)
    size = len(files.wal if cuts_wal else files.database)

    for cut in range(0, size, CUT if SOAK else 3 * CUT):  # pages are cut at each place either way
        if cuts_wal:
            damaged = files._replace(wal=files.wal[:cut])
        else:
            damaged = files._replace(database=files.database[:cut])
        label = f"life {of_life} cut at {cut} of {size}"
        must_find(files, places, damaged, Span(cuts_wal, cut, FOR_EVER), label)
        if cut % PAGE == CUT:
            read = read_by_sqlite(damaged, tmp_path)
            assert read <= set(found_in(damaged.database, damaged.wal)), label


def test_a_flipped_bit_costs_the_row_it_hits_and_never_makes_one() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        files, places = life(*LIVES[seed % len(LIVES)])
        database, wal = bytearray(files.database), bytearray(files.wal)
        is_wal = rng.random() < len(wal) / (len(database) + len(wal))
        hit = wal if is_wal else database
        at = rng.randrange(len(hit))

        hit[at] ^= 1 << rng.randrange(8)

        damaged = files._replace(database=bytes(database), wal=bytes(wal))
        label = f"seed {seed}: {'wal' if is_wal else 'database'} at {at}"
        must_find(files, places, damaged, Span(is_wal, at, at + 1), label)


@pytest.mark.parametrize("seed", range(30))
def test_pages_written_over_cost_the_rows_they_held(seed: int) -> None:
    rng = random.Random(seed)
    files, places = life(*LIVES[seed % len(LIVES)])
    database, wal = bytearray(files.database), bytearray(files.wal)
    damage: list[Span] = []
    for _ in range(rng.randrange(1, 8)):
        is_wal = rng.random() < 0.5
        hit = wal if is_wal else database
        start = rng.randrange(0, len(hit) // CUT + 1) * CUT
        span = Span(is_wal, start, min(len(hit), start + CUT * rng.randrange(1, 20)))
        size = max(0, span.end - span.start)
        hit[span.start : span.end] = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
        damage.append(span)

    found = found_in(bytes(database), bytes(wal))

    assert found.items() <= files.written.items(), f"seed {seed}"
    assert survivors(files, places, damage) <= set(found), f"seed {seed}"


def test_no_bit_of_the_headers_matters() -> None:
    files, _ = life(*LIVES[1])
    whole = found_in(files.database, files.wal)
    assert files.wal
    step = 1 if SOAK else 7  # of each byte at least one
    for bit in range(0, 8 * 100, step):
        database = bytearray(files.database)
        database[bit // 8] ^= 1 << bit % 8
        assert found_in(bytes(database), files.wal) == whole, f"bit {bit} of the database"
    for bit in range(0, 8 * 32, step):
        wal = bytearray(files.wal)
        wal[bit // 8] ^= 1 << bit % 8
        assert found_in(files.database, bytes(wal)) == whole, f"bit {bit} of the WAL"


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 32768, 65536])
@pytest.mark.parametrize("has_headers", [True, False])
def test_rows_of_every_size_are_found_in_pages_of_every_size(
    tmp_path: Path, page_size: int, has_headers: bool
) -> None:
    rng = random.Random(page_size)
    sizes = [
        page_size * share // 8 + offset for share in (4, 8, 9, 16, 17, 28) for offset in (-50, 0, 9)
    ]
    sizes += range(page_size - 160, page_size - 10, 3)
    stored = {n: row(n, size, rng) for n, size in enumerate(sizes, 1)}
    path = tmp_path / "outbox.db"
    with closing(open_store(path, page_size)) as connection:
        write_rows(connection, list(stored.values()))
        wal = bytearray(Path(f"{path}-wal").read_bytes())
    database = bytearray(path.read_bytes())
    if not has_headers:
        database[:100] = bytes(100)
        wal[:32] = bytes(32)

    assert found_in(bytes(database), b"") == stored
    if has_headers:
        assert found_in(b"", bytes(wal)) == stored


def test_a_wal_without_a_header_is_read_with_the_page_size_of_the_store() -> None:
    files, _ = life(*LIVES[0])

    found = found_in(b"", bytes(32) + files.wal[32:])

    assert found == found_in(b"", files.wal)
    assert set(found) >= set(files.live)


def test_rows_of_free_pages_are_found(tmp_path: Path) -> None:
    rng = random.Random(1)
    stored = {n: row(n, 1500, rng) for n in range(1, 60)}
    path = tmp_path / "outbox.db"
    with closing(open_store(path)) as connection:
        write_rows(connection, list(stored.values()))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("PRAGMA secure_delete = OFF")  # on, it leaves nothing to find
        connection.execute("DELETE FROM records")
        assert connection.execute("SELECT COUNT(*) FROM records").fetchone() == (0,)
    files = SqliteFiles(path.read_bytes(), b"", {}, stored)

    found = found_in(files.database, b"")

    places = {n: parts_of(files, each) for n, each in stored.items()}
    assert set(found) >= survivors(files, places, [])
    assert len(found) > 40


def test_the_newest_version_of_a_row_wins(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "outbox.db"
    first, second, third = row(1, 9000, rng), row(1, 9000, rng), row(1, 300, rng)
    with closing(open_store(path)) as connection:
        wal = Path(f"{path}-wal")
        write_rows(connection, [first])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        seen = [found_in(path.read_bytes(), wal.read_bytes())]
        for version in (second, third):
            connection.execute("DELETE FROM records")
            write_rows(connection, [version])
            seen.append(found_in(path.read_bytes(), wal.read_bytes()))

    assert seen == [{1: first}, {1: second}, {1: third}]


def test_what_is_left_of_an_earlier_run_of_the_wal_is_older_than_the_database(
    tmp_path: Path,
) -> None:
    rng = random.Random(1)
    path = tmp_path / "outbox.db"
    old, new = row(1, 300, rng), row(1, 300, rng)
    with closing(open_store(path)) as connection:
        write_rows(connection, [row(2, 100_000, rng)])
        write_rows(connection, [old])
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        connection.execute("DELETE FROM records WHERE n = 1")
        write_rows(connection, [new])
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        wal = Path(f"{path}-wal").read_bytes()
        assert old[8] in wal
        assert found_in(path.read_bytes(), wal)[1] == new
        without_newest = wal[: 32 + 24] + bytes(4 * PAGE) + wal[32 + 24 + 4 * PAGE :]
        assert new[8] not in without_newest
        assert found_in(path.read_bytes(), without_newest)[1] == new


def test_rows_of_old_frames_are_found_though_their_pages_were_used_again(tmp_path: Path) -> None:
    rng = random.Random(1)
    stored = {n: row(n, 10 * PAGE, rng) for n in range(1, 41)}
    path = tmp_path / "outbox.db"
    with closing(open_store(path)) as connection:
        for n, each in stored.items():
            connection.execute("DELETE FROM records WHERE n < ?", (n,))
            write_rows(connection, [each])
        wal = Path(f"{path}-wal").read_bytes()

        assert found_in(path.read_bytes(), wal) == stored


def test_a_row_that_nothing_can_mend_does_not_use_up_the_time_of_others(tmp_path: Path) -> None:
    rng = random.Random(1)
    kept, lost = row(1, 9000, rng), row(2, 5000, rng)
    path = tmp_path / "outbox.db"
    with closing(open_store(path)) as connection:
        write_rows(connection, [kept])
        wal = Path(f"{path}-wal").read_bytes()
        write_rows(connection, [lost])
        rest = Path(f"{path}-wal").read_bytes()[len(wal) :]
    frames = [rest[at : at + 24 + PAGE] for at in range(0, len(rest), 24 + PAGE)]
    (leaf,) = (frame for frame in frames if lost[8][:200] in frame)
    (tail,) = (frame for frame in frames if lost[8][-200:] in frame)
    leaf = leaf.replace(kept[8][:200], bytes(200))
    tails = [tail[:1000] + n.to_bytes(2, "big") + tail[1002:] for n in range(300)]

    found = found_in(b"", b"".join([wal, *tails, *[leaf] * 300]))

    assert found == {1: kept}


def test_numbers_at_the_edges_of_what_sqlite_holds_are_found(tmp_path: Path) -> None:
    edges = [
        0,
        1,
        -1,
        127,
        -128,
        128,
        2**15,
        2**23 - 1,
        -(2**23),
        2**31,
        2**47,
        2**63 - 1,
        -(2**63),
    ]
    reals = [0.0, 1.0, -1.0, 0.1, 2.0**40, 1e300, -5e-324]
    stored = {
        n: (n, "é", edge, edge, edge, edge, edge, real, b"\x00\xff" * at)
        for at, edge in enumerate(edges)
        for real in reals
        for n in [2 ** (4 * at) + len(reals) * at + reals.index(real)]
    }
    path = tmp_path / "outbox.db"
    with closing(open_store(path)) as connection:
        write_rows(connection, list(stored.values()))

    assert found_in(path.read_bytes(), b"") == stored


def test_a_mapped_file_is_searched_and_progress_told(tmp_path: Path) -> None:
    files, _ = life(*LIVES[1])
    path = tmp_path / "outbox.db"
    path.write_bytes(files.database)
    told: list[tuple[int, int]] = []

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        found = list(salvage.rows(mapped, files.wal, lambda *now: told.append(now)))

    total = len(files.database) + len(files.wal)
    assert {each.n for each in found} >= set(files.live)
    assert told == sorted(told)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(st.binary(max_size=3000), st.binary(max_size=3000), st.booleans(), st.booleans())
def test_any_bytes_are_searched(
    database: bytes, wal: bytes, has_header: bool, has_wal_header: bool
) -> None:
    files, _ = life(*LIVES[2])
    database = files.database[:100] + database if has_header else database
    wal = files.wal[:32] + wal if has_wal_header else wal

    assert found_in(database, wal) == {}


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(
    st.sampled_from(LIVES),
    st.lists(
        st.tuples(st.booleans(), st.integers(0), st.binary(max_size=60), st.integers(0, 5000)),
        max_size=12,
    ),
)
def test_whatever_is_written_over_rows_are_right_or_not_found(
    of_life: tuple[int, int, float], strokes: list[tuple[bool, int, bytes, int]]
) -> None:
    files, _ = life(*of_life)
    contents = [bytearray(files.database), bytearray(files.wal)]
    for is_wal, place, content, removed in strokes:
        hit = contents[is_wal]
        at = place % (len(hit) + 1)
        hit[at : at + removed] = content

    assert found_in(bytes(contents[0]), bytes(contents[1])).items() <= files.written.items()


HEADER = bytes([0x0C, 0, 13, 1, 1, 1, 1, 1, 1, 0x83, 0x40, 1])
"""Of a record with a body of 218 bytes."""

MEGABYTES = 5
IN_EACH_FILE = MEGABYTES * 1_000_000


def false_rows() -> bytes:
    """Return cells without end, each with a number of its own and a wrong checksum."""
    return b"".join(
        bytes([0x80 | n >> 14 & 0x7F, 0x80 | n >> 7 & 0x7F, n & 0x7F]) + HEADER
        for n in range(IN_EACH_FILE // 15)
    )


def false_chains() -> bytes:
    """Return frames that all hold page 2, each with rows whose overflow pages are 2, 2, 2 ..."""
    header = bytes([14, 0, 13, 1, 1, 1, 1, 1, 1, 0x81, 0x95, 0xF4, 0x54, 1])
    """Of a record of 300 overflow pages, of which the first 489 bytes are in the leaf."""
    frames: list[bytes] = []
    for number in range(IN_EACH_FILE // (PAGE + 24)):
        page = bytearray(b"\0\0\0\2" * (PAGE // 4))
        for at in range(7, PAGE - 600, 64):
            n = number * 64 + at // 64
            page[at - 3 : at] = bytes([0x80 | n >> 14 & 0x7F, 0x80 | n >> 7 & 0x7F, n & 0x7F])
            page[at : at + len(header)] = header
        frames.append(b"\0\0\0\2\0\0\0\2".ljust(24, b"\0") + page)
    return b"".join(frames)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: bytes(IN_EACH_FILE),
    "noise": lambda: random.Random(1).randbytes(IN_EACH_FILE),
    "headers": lambda: (b"\x01" + HEADER) * (IN_EACH_FILE // 13),
    "rows": false_rows,
    "chains": false_chains,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_ten_hostile_megabytes_take_seconds(kind: str) -> None:
    hostile = HOSTILE[kind]()
    database = b"SQLite format 3\0\x10\0" + bytes(82) + hostile
    wal = b"\x37\x7f\x06\x82".ljust(32, b"\0") + hostile

    start_s = time.process_time()
    found = found_in(database, wal)
    took_s = time.process_time() - start_s

    assert found == {}
    assert took_s < 30, f"{took_s:.1f} s"
