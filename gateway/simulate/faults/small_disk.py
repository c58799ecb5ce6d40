"""A folder with little room, for a program that is to meet a full disk.

    with small_disk(Path("store"), 1 << 20) as disk:
        process = subprocess.Popen(disk.command(["edge-gateway", "run", ...]))
        disk.fill(process.pid)      # from here on it cannot write
        disk.free(process.pid)      # there is room again

The best there is without rights is a tmpfs in a mount namespace of its own: it says ENOSPC, as a
disk does. Where the kernel or a container forbids namespaces, the size of files is limited instead:
then a write fails with EFBIG, which SQLite takes for an I/O error.
"""

import contextlib
import errno
import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from gateway.errors import LinkError

_BLOCK = bytes(4096)
_FILLER = ".filler"
_START_TIMEOUT_S = 10.0

_MOUNT = 'mount -t tmpfs -o "size=$1,mode=0700" small-disk "$2" && echo ready && exec cat'
_ENTER = 'cd "$1" && shift && exec "$@"'


class SmallDisk(Protocol):
    """A folder, and what makes it full."""

    errno: int
    """What a write fails with when it is full."""

    def command(self, command: Sequence[str]) -> list[str]:
        """Return `command` so that what it runs has the folder; it stays one process."""

    def inside(self, pid: int) -> Path:
        """Return the path under which this process finds the folder."""

    def fill(self, pid: int) -> None:
        """Leave no room; `pid` is the process that writes there."""

    def free(self, pid: int) -> None:
        """Give the room back."""


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Make `folder`, which must exist, small for who is started with its `command`.

    What is written to a tmpfs is gone with the end of the block.
    """
    with ExitStack() as stack:
        disk: SmallDisk
        try:
            disk = stack.enter_context(tmpfs(folder, size_bytes))
        except LinkError:
            disk = FileSizeLimit(folder)
        yield disk


@contextmanager
def tmpfs(folder: Path, size_bytes: int) -> Iterator["Tmpfs"]:
    """Be `small_disk`, on a tmpfs.

    Raises:
        LinkError: this is not permitted here; the text says what was.
    """
    holder, has_own_users = _hold_namespace(folder, size_bytes)
    try:
        yield Tmpfs(folder, holder.pid, has_own_users)
    finally:
        holder.communicate(timeout=_START_TIMEOUT_S)  # its stdin closes, and it ends


class Tmpfs:
    """A tmpfs that only those see who enter the namespace of its holder."""

    errno = errno.ENOSPC

    def __init__(self, folder: Path, holder_pid: int, has_own_users: bool) -> None:  # noqa: FBT001 one fact
        """`holder_pid` is a process that lives in the namespace, and perhaps in one of users."""
        self._folder = folder.absolute()
        self._holder_pid = holder_pid
        self._users = ["--user", "--preserve-credentials"] if has_own_users else []

    def command(self, command: Sequence[str]) -> list[str]:
        """Return `command`, run in the namespace and in the current folder."""
        enter = ["nsenter", "--target", str(self._holder_pid), *self._users, "--mount"]
        return [*enter, "sh", "-c", _ENTER, "sh", str(Path.cwd()), *command]

    def inside(self, pid: int) -> Path:  # noqa: ARG002 all who are in see the same
        """Return the folder, as seen from outside."""
        return Path(f"/proc/{self._holder_pid}/root{self._folder}")

    def fill(self, pid: int) -> None:
        """Write a file until there is no room."""
        with (
            contextlib.suppress(OSError),
            (self.inside(pid) / _FILLER).open("ab", buffering=0) as file,
        ):
            while file.write(_BLOCK):
                pass

    def free(self, pid: int) -> None:
        """Remove that file."""
        (self.inside(pid) / _FILLER).unlink(missing_ok=True)


class FileSizeLimit:
    """No small disk, but a process that cannot write: the size of its files is limited to nothing.

    Python ignores the signal that comes with it (SIGXFSZ), other programs may end.
    """

    errno = errno.EFBIG

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def command(self, command: Sequence[str]) -> list[str]:
        """Return `command`."""
        return list(command)

    def inside(self, pid: int) -> Path:  # noqa: ARG002 there is but one
        """Return the folder."""
        return self._folder

    def fill(self, pid: int) -> None:
        """Take the right to write files; pipes, sockets and terminals are none."""
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))

    def free(self, pid: int) -> None:
        """Give it back."""
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def _hold_namespace(folder: Path, size_bytes: int) -> tuple[subprocess.Popen[bytes], bool]:
    """Start a process in a namespace in which the folder is a tmpfs; it ends with its stdin.

    Returns:
        The process, and whether it needed a namespace of users, too.

    Raises:
        LinkError: neither way is permitted here, or there is no `unshare`.
    """
    complaint = ""
    for users in ([], ["--user", "--map-root-user"]):
        unshare = ["unshare", *users, "--mount", "--propagation", "private"]
        try:
            holder = subprocess.Popen(  # noqa: S603 fixed words, and a folder as an argument
                [*unshare, "sh", "-c", _MOUNT, "sh", str(size_bytes), str(folder.absolute())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as exc:
            raise LinkError(f"no small disk: {exc}") from exc
        assert holder.stdout is not None  # noqa: S101 a pipe, as asked for
        if holder.stdout.readline() == b"ready\n":
            return holder, bool(users)
        _, stderr = holder.communicate(timeout=_START_TIMEOUT_S)
        complaint = stderr.decode(errors="replace").strip()
    raise LinkError(f"no small disk: {complaint}")
