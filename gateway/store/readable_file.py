"""A file on a failing disk: what cannot be read of it is zeros."""

import errno
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

_BLOCK_BYTES = 1 << 18
"""Read at once, and kept for the next read nearby."""

_BLOCKS_KEPT = 16

_PIECE_BYTES = 4096
"""Where a block cannot be read, it is read again in pieces of this size."""

MAX_UNREADABLE_PIECES = 1024
"""Beyond these the disk is dead: each may take it seconds to give up."""

Pread = Callable[[int, int, int], bytes]


class ReadableFile:
    """The bytes of a file by slices, in bounded memory; a `RawFile`.

    Unlike a `mmap` of it, it survives unreadable sectors: touching those through memory is a
    SIGBUS, and ends the process.
    """

    def __init__(self, path: Path, pread: Pread = os.pread) -> None:
        """Open the file; one that does not exist is empty.

        Raises:
            OSError: the file cannot be opened.
        """
        self.unreadable_pieces = 0
        """How many pieces of the file were taken for zeros."""
        self._pread = pread
        self._block = lru_cache(_BLOCKS_KEPT)(self._read_block)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._descriptor = -1
            self._size = 0
        else:
            self._size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> bytes:
        """Return the bytes of a span without a step.

        Raises:
            OSError: so much cannot be read that the disk is given up.
        """
        start, end, _ = span.indices(self._size)
        if end <= start:
            return b""
        first = start // _BLOCK_BYTES
        last = (end - 1) // _BLOCK_BYTES
        offset = first * _BLOCK_BYTES
        if first == last:
            return self._block(first)[start - offset : end - offset]
        blocks = b"".join(self._block(number) for number in range(first, last + 1))
        return blocks[start - offset : end - offset]

    def _read_block(self, number: int) -> bytes:
        start = number * _BLOCK_BYTES
        end = min(start + _BLOCK_BYTES, self._size)
        try:
            return self._read(start, end)
        except OSError:
            pieces = range(start, end, _PIECE_BYTES)
            return b"".join(self._read_piece(at, min(at + _PIECE_BYTES, end)) for at in pieces)

    def _read_piece(self, start: int, end: int) -> bytes:
        try:
            return self._read(start, end)
        except OSError as exc:
            self.unreadable_pieces += 1
            if self.unreadable_pieces > MAX_UNREADABLE_PIECES:
                raise OSError(exc.errno or errno.EIO, "too much of it cannot be read") from exc
            return bytes(end - start)

    def _read(self, start: int, end: int) -> bytes:
        """Return exactly those bytes; zeros for what was cut off since the file was opened."""
        parts: list[bytes] = []
        while start < end:
            part = self._pread(self._descriptor, end - start, start)
            parts.append(part or bytes(end - start))
            start += len(parts[-1])
        return b"".join(parts)
