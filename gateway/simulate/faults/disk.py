"""Files that lose their end, or some bits, at seeded places."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from gateway.simulate.faults.schedule import chance

SECTOR = 512
"""Bytes that disks write whole: what a power cut leaves ends at such a border."""


def flipped(content: bytes, seed: int, count: int = 1) -> bytes:
    """Return `content` with `count` of its bits flipped, or all of them if it has fewer."""
    damaged = bytearray(content)
    bits = range(len(content) * 8)
    for bit in chance(f"{seed} bits").sample(bits, min(count, len(bits))):
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def flip_bits(path: Path, seed: int, count: int = 1) -> None:
    """Flip `count` bits of a file, in place."""
    damaged = flipped(path.read_bytes(), seed, count)
    with path.open("r+b") as file:
        file.write(damaged)


def cut(path: Path, offset: int) -> None:
    """Let a file end at `offset`; nothing if it is not longer.

    Raises:
        ValueError: the offset is negative.
    """
    if offset < 0:
        raise ValueError(f"a file cannot end at {offset}")
    if offset < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(offset)


def cuts(path: Path, into: Path, step: int = SECTOR) -> Iterator[tuple[int, Path]]:
    """Cut a file at every `step`, each time in a fresh copy of the folder that it is in.

    So what belongs together, such as a database and its log, stays together. The copy is `into`,
    which is replaced each time; the original is not touched.

    Yields:
        Where it was cut, from 0 to below its size, and the path of the file in the copy.
    """
    for offset in range(0, path.stat().st_size, step):
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(path.parent, into)
        cut(into / path.name, offset)
        yield offset, into / path.name
