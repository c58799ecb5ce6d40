import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store import salvage
from gateway.store.readable_file import MAX_UNREADABLE_PIECES, ReadableFile
from tests.support.effort import examples
from tests.support.sqlite_files import lived_in

PIECE = 4096
CONTENT = random.Random(1).randbytes(700_001)


def failing_at(*pieces: int) -> Callable[[int, int, int], bytes]:
    """Return a pread of a disk of which some pieces of 4 KB cannot be read."""

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if any(offset < (piece + 1) * PIECE and piece * PIECE < offset + size for piece in pieces):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.pread(descriptor, size, offset)

    return pread


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(st.integers(0, 800_000), st.integers(0, 800_000))
def test_a_slice_is_what_a_slice_of_all_bytes_is(
    tmp_path_factory: pytest.TempPathFactory, start: int, end: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "content"
    if not path.exists():
        path.write_bytes(CONTENT)

    with ReadableFile(path) as file:
        assert len(file) == len(CONTENT)
        assert file[start:end] == CONTENT[start:end]
        assert file[start : start + 5] == CONTENT[start : start + 5]


def test_a_file_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    with ReadableFile(tmp_path / "none") as file:
        assert (len(file), file[0:100]) == (0, b"")


def test_what_cannot_be_read_is_zeros_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    expected = bytearray(CONTENT)
    expected[3 * PIECE : 4 * PIECE] = bytes(PIECE)
    expected[170 * PIECE :] = bytes(len(CONTENT) - 170 * PIECE)

    with ReadableFile(path, failing_at(3, 170)) as file:
        assert file[0 : len(CONTENT)] == expected
        assert file.unreadable_pieces == 2


def test_a_file_that_becomes_shorter_ends_in_zeros(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)

    with ReadableFile(path) as file:
        os.truncate(path, 1000)
        assert file[0:5000] == CONTENT[:1000] + bytes(4000)


def test_a_disk_that_reads_nothing_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.touch()
    os.truncate(path, (MAX_UNREADABLE_PIECES + 1) * PIECE)

    def pread(_descriptor: int, _size: int, _offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with ReadableFile(path, pread) as file:
        assert file[0 : MAX_UNREADABLE_PIECES * PIECE] == bytes(MAX_UNREADABLE_PIECES * PIECE)
        with pytest.raises(OSError, match="too much of it cannot be read"):
            file[MAX_UNREADABLE_PIECES * PIECE :]


def test_rows_of_a_failing_disk_are_salvaged(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    files = lived_in(path, 9, 20, 0.3)
    path.write_bytes(files.database)
    wal_path = tmp_path / "wal"
    wal_path.write_bytes(files.wal)
    zeroed = files.database[: 5 * PIECE] + bytes(PIECE) + files.database[6 * PIECE :]

    with ReadableFile(path, failing_at(5)) as database, ReadableFile(wal_path) as wal:
        found = set(salvage.rows(database, wal))

    assert found == set(salvage.rows(zeroed, files.wal))
    assert len(found) > len(files.live) / 2
