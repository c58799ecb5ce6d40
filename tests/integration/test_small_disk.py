"""A program that writes to a small disk meets its end, and finds room again.

Where namespaces are forbidden, as in most containers, these run with the limit of file sizes: no
test is skipped.
"""

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.errors import LinkError
from gateway.simulate.faults.small_disk import FileSizeLimit, SmallDisk, small_disk, tmpfs

SIZE = 256 * 1024

_WRITER = """
import os, sys
path = sys.argv[1] + "/written"
for _ in sys.stdin:
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(bytes(8192))
        print(0, os.path.getsize(path), flush=True)
    except OSError as exc:
        print(exc.errno, 0, flush=True)
"""
"""Appends 8 KB for each line it reads, and says what came of it."""


class Writer:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process

    def write(self) -> tuple[int, int]:
        """Return the error number and the size of the file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        number, size = self._process.stdout.readline().split()
        return int(number), int(size)


@contextmanager
def writer(disk: SmallDisk, folder: Path) -> Iterator[Writer]:
    with subprocess.Popen(
        disk.command([sys.executable, "-c", _WRITER, str(folder)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Writer(process)


def fills_up_and_recovers(disk: SmallDisk, folder: Path) -> None:
    with writer(disk, folder) as program:
        assert program.write() == (0, 8192)
        disk.fill(program.pid)
        numbers = {program.write()[0] for _ in range(3)}
        disk.free(program.pid)
        after = program.write()

        assert numbers == {disk.errno}
        assert after[0] == 0
        assert (disk.inside(program.pid) / "written").stat().st_size == after[1] > 8192


def test_a_small_disk_fills_up_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path, SIZE) as disk:
        fills_up_and_recovers(disk, tmp_path)


def test_where_namespaces_are_forbidden_files_are_kept_from_growing(tmp_path: Path) -> None:
    fills_up_and_recovers(FileSizeLimit(tmp_path), tmp_path)


def test_a_tmpfs_is_full_at_its_size_and_outlives_who_wrote_there(tmp_path: Path) -> None:
    try:
        with tmpfs(tmp_path, SIZE) as disk:
            with writer(disk, tmp_path) as program:
                sizes = [program.write() for _ in range(SIZE // 8192 + 1)]
            with writer(disk, tmp_path) as successor:
                full = successor.write()
            left = (disk.inside(0) / "written").stat().st_size
    except LinkError as exc:
        # Nothing is missed: what a full disk does to a program is tested above in either way.
        print(f"no tmpfs here: {exc}")  # noqa: T201 shown with a failure, and with -s
        with small_disk(tmp_path, SIZE) as other:
            assert isinstance(other, FileSizeLimit)
        return

    assert sizes[-1] == (errno.ENOSPC, 0)
    assert full == (errno.ENOSPC, 0)
    assert left == sizes[-2][1] > SIZE / 2
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_mounted_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"no small disk: .+"), tmpfs(tmp_path / "missing", SIZE):
        pass
