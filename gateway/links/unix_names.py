"""Names of sockets in the file system, which the kernel wants short."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LONGEST: Final = 100
"""Bytes of a path that is used as it is; the kernel takes 107. Source: unix(7)."""


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give a name of the path that is short enough to bind or connect to, for the block's length.

    Raises:
        OSError: its folder is not there.
    """
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
