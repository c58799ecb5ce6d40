"""A folder in memory where the system has one: nothing waits for a disk there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def memory_folder() -> Iterator[Path]:
    """Give an empty folder for the length of the block; for thousands of stores that are synced."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)
