"""What is written at one end of a pty comes out at the other in the kernel's own time.

A worker of the kernel carries it over, so one read may find half of it, or
nothing yet: these readers wait for what is expected.
"""

import errno
import os
import select
from collections.abc import Callable

PATIENCE_S = 20.0


def read_count(descriptor: int, count: int) -> bytes:
    """Return the next `count` bytes; AssertionError if they do not come."""
    data = b""
    while len(data) < count:
        chunk = _read(descriptor, count - len(data))
        assert chunk, f"the other end was closed after {data!r}"
        data += chunk
    return data


def gather(read: Callable[[], bytes], descriptor: int, count: int) -> bytes:
    """Return `count` bytes of `read`, which is called when `descriptor` has something."""
    data = b""
    while len(data) < count:
        assert select.select([descriptor], [], [], PATIENCE_S)[0], f"only {data!r} came"
        data += read()
    return data


def read_to_the_end(descriptor: int) -> bytes:
    """Return all there is, up to the moment at which nobody has the other end any more."""
    data = b""
    while chunk := _read(descriptor, 65_536):
        data += chunk
    return data


def _read(descriptor: int, most: int) -> bytes:
    assert select.select([descriptor], [], [], PATIENCE_S)[0], "nothing came"
    try:
        return os.read(descriptor, most)
    except OSError as problem:
        if problem.errno != errno.EIO:  # EIO: the other end was closed
            raise
        return b""
