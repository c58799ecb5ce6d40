"""The pages of an SQLite database and its WAL as they lie in the two files; pure, trusts nothing.

Source: https://www.sqlite.org/fileformat2.html, sections 1.3 (header), 1.5 (cells), 4.1 (WAL).
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain
from struct import Struct
from typing import Protocol

OUR_PAGE_SIZE = 4096
"""What the store makes: taken where both headers are damaged and the pages do not say otherwise."""

_PAGE_SIZES = (4096, 512, 1024, 2048, 8192, 16384, 32768, 65536)
_MAGIC = b"SQLite format 3\0"
_WAL_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_WAL_HEADER_SIZE = 32
_WAL_SALTS = slice(16, 24)
_FRAME_HEADER_SIZE = 24
_FRAME_HEADER = Struct(">II8s8x")
"""Page number, pages of the database after a commit (0 inside a transaction), salts, checksums."""

_LINK_SIZE = 4
"""An overflow page begins with the number of the next one; 0 in the last."""

_BTREE_HEADER = Struct(">BHHH")
"""Type, first free block, cells, where the cells begin."""
_BTREE_TYPES = frozenset({0x02, 0x05, 0x0A, 0x0D})
_SAMPLED_BYTES = 4 << 20
"""How much of the database is looked at to guess its page size."""


class RawFile(Protocol):
    """The bytes of a file: `bytes`, a `mmap`, or anything else that is cut by slices."""

    def __len__(self) -> int:
        """Return the size of the file."""

    def __getitem__(self, span: slice, /) -> bytes:
        """Return the bytes of a span; fewer at the end of the file."""


class RawPages:
    """Every image of every page: frames of the WAL first, then the pages of the database.

    An image is known by its number. The last one of either file may be cut short.
    """

    def __init__(self, database: RawFile, wal: RawFile) -> None:
        """Read the headers of both files and of all frames."""
        self._database = database
        self._wal = wal
        self.page_size = page_size(database, wal)
        self._frame_size = _FRAME_HEADER_SIZE + self.page_size
        self._frames = -(-max(0, len(wal) - _WAL_HEADER_SIZE) // self._frame_size)
        self._pages = -(-len(database) // self.page_size)
        self._frames_of: dict[int, list[int]] = {}
        self._commits: list[int] = []
        self._current = 0
        self._read_frame_headers()

    def __len__(self) -> int:
        return self._frames + self._pages

    @property
    def usable(self) -> int:
        """Bytes of a page that hold content: all, as ours reserve none at their end.

        The byte of the header that would say otherwise is not asked: it may be damaged.
        """
        return self.page_size

    def newest_first(self) -> Iterator[int]:
        """Return all images, newer ones of a page before older ones.

        Frames behind the newest run of the WAL are left over from runs that have been copied into
        the database since.
        """
        return chain(
            range(self._current - 1, -1, -1),
            range(self._frames, len(self)),
            range(self._frames - 1, self._current - 1, -1),
        )

    def image(self, number: int) -> bytes:
        """Return the bytes of an image."""
        if number < self._frames:
            start = _WAL_HEADER_SIZE + number * self._frame_size + _FRAME_HEADER_SIZE
            return self._wal[start : start + self.page_size]
        start = (number - self._frames) * self.page_size
        return self._database[start : start + self.page_size]

    def chains(self, first_page: int, length: int, seen_from: int) -> Iterator[list[int] | None]:
        """Yield the images that may be a chain of overflow pages, likeliest first.

        Pages are written together with the row that points to them: seen from an image in the WAL,
        the likeliest image is the newest up to the end of that transaction, then the older ones,
        then the database's, then all others. Yields None for every image it looks at in vain or on
        its way, so that the caller can bound the work.
        """
        path: list[int] = []
        branches = [self._images_of(first_page, seen_from)]
        while branches:
            image = next(branches[-1], None)
            if image is None:
                branches.pop()
                if path:
                    path.pop()
                continue
            link = int.from_bytes(self._link(image), "big")
            if len(path) + 1 < length:
                yield None
                if link in self:
                    path.append(image)
                    branches.append(self._images_of(link, seen_from))
            else:
                yield [*path, image] if link == 0 else None

    def __contains__(self, page: int) -> bool:
        """Whether there is an image of a page."""
        return 0 < page <= self._pages or page in self._frames_of

    def _link(self, number: int) -> bytes:
        if number < self._frames:
            start = _WAL_HEADER_SIZE + number * self._frame_size + _FRAME_HEADER_SIZE
            return self._wal[start : start + _LINK_SIZE]
        start = (number - self._frames) * self.page_size
        return self._database[start : start + _LINK_SIZE]

    def _images_of(self, page: int, seen_from: int) -> Iterator[int]:
        frames = self._frames_of.get(page, [])
        split = 0
        if seen_from < self._frames:
            split = bisect_right(frames, self._commits[seen_from])
        for at in range(split - 1, -1, -1):
            yield frames[at]
        if 0 < page <= self._pages:
            yield self._frames + page - 1
        for at in range(len(frames) - 1, split - 1, -1):
            yield frames[at]

    def _read_frame_headers(self) -> None:
        salts = self._wal[_WAL_SALTS] if self._wal[0:4] in _WAL_MAGIC else b""
        is_commit = bytearray(self._frames)
        for frame in range(self._frames):
            start = _WAL_HEADER_SIZE + frame * self._frame_size
            header = self._wal[start : start + _FRAME_HEADER_SIZE]
            if len(header) < _FRAME_HEADER_SIZE:
                break
            page, pages_after_commit, frame_salts = _FRAME_HEADER.unpack(header)
            self._frames_of.setdefault(page, []).append(frame)
            is_commit[frame] = pages_after_commit != 0
            if frame_salts == (salts or frame_salts):
                salts = frame_salts
                self._current = frame + 1
        self._commits = [0] * self._frames
        commit = self._frames - 1
        for frame in range(self._frames - 1, -1, -1):
            if is_commit[frame]:
                commit = frame
            self._commits[frame] = commit


def page_size(database: RawFile, wal: RawFile) -> int:
    """Return the page size that the headers, or else the pages themselves, make likeliest."""
    if database[0 : len(_MAGIC)] == _MAGIC:
        size = int.from_bytes(database[16:18], "big")
        size = 65536 if size == 1 else size
        if size in _PAGE_SIZES:
            return size
    if wal[0:4] in _WAL_MAGIC:
        size = int.from_bytes(wal[8:12], "big")
        if size in _PAGE_SIZES:
            return size
    sampled = database[0:_SAMPLED_BYTES]
    return max(_PAGE_SIZES, key=lambda size: _btree_pages(sampled, size))


def _btree_pages(sampled: bytes, size: int) -> int:
    """Return how many pages have the header of a b-tree page, were they of this size."""
    count = 0
    for start in range(0, len(sampled) - _BTREE_HEADER.size, size):
        kind, free_block, cells, content = _BTREE_HEADER.unpack_from(sampled, start)
        if kind in _BTREE_TYPES and free_block < size:
            count += cells > 0 and _BTREE_HEADER.size + 2 * cells < content < size
    return count
