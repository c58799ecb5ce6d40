"""Files that survive a power cut: the old one or the new one is there, whole, whenever it comes.

Whoever writes a file outside SQLite does it with this (`tests/test_files.py` keeps the list of
those who may not). Its calls block, so they belong into a thread.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
"""For the owner's eyes."""

_DRAFT: Final = "draft"


def write_atomically(
    path: Path,
    data: bytes,
    mode: int = PRIVATE,
    *,
    is_new: bool = False,
    owner: tuple[int, int] | None = None,
) -> None:
    """Put a file in the place of another, or of none; it is on the disk when this returns.

    Raises:
        FileExistsError: there is one, and `is_new` forbids that.
        OSError: the disk is full or fails; there is the old file still, or the new one, whole.
    """
    with drafted(path, mode, is_new=is_new, owner=owner) as file:
        file.write(data)


@contextmanager
def drafted(
    path: Path,
    mode: int = PRIVATE,
    *,
    is_new: bool = False,
    owner: tuple[int, int] | None = None,
) -> Iterator[BufferedRandom]:
    """Have a file written piece by piece that is not there before the block has ended well.

    Args:
        path: Where it is to be; its folder exists. A symbolic link is replaced, not followed.
        mode: Its rights, whatever the umask says.
        is_new: Replace nothing.
        owner: User and group; only root may give files away.

    Raises:
        FileExistsError: there is one, and `is_new` forbids that.
        OSError: the disk is full or fails; there is the old file still, or the new one, whole.
    """
    _remove_left_drafts(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.{_DRAFT}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(draft, flags, PRIVATE)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            yield file
            file.flush()
            os.fsync(descriptor)
        if is_new:
            os.link(draft, path)  # fails if somebody was faster
            draft.unlink()
        else:
            draft.replace(path)
    except BaseException:
        with suppress(OSError):  # on a file system that is read only by now
            draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def put_in_place(draft: Path, path: Path, mode: int = PRIVATE) -> None:
    """Put a file that somebody else has written, SQLite for one, in the place of another, or none.

    Raises:
        OSError: the disk is full or fails.
    """
    draft.chmod(mode)
    sync_file(draft)
    rename(draft, path)


def sync_file(path: Path) -> None:
    """Have a file that somebody else has written, and its name, on the disk."""
    _sync(path, os.O_RDONLY | os.O_CLOEXEC)
    sync_folder(path.parent)


def rename(path: Path, to: Path) -> None:
    """Rename a file within its file system; the new name is on the disk when this returns.

    Raises:
        OSError: it cannot be renamed.
    """
    path.replace(to)
    sync_folder(to.parent)
    if path.parent != to.parent:
        sync_folder(path.parent)


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Make a folder and those above it that are missing, on the disk when this returns.

    One that is there keeps its rights.

    Raises:
        OSError: it cannot be made.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for each in reversed(missing):
        sync_folder(each.parent)


def make_private(path: Path, *, is_made: bool = True) -> None:
    """Keep strangers from a file that others write in place; make it, empty, if `is_made`.

    What its owner permits a group stays. A file that is there is not opened: to close it would take
    away the locks this process has on it. Source: fcntl(2), record locks.

    Raises:
        OSError: it cannot be made.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        if is_made:
            with suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(path, flags, PRIVATE))
        return
    if mode & stat.S_IRWXO:
        with suppress(PermissionError):  # another's, who lets us write
            path.chmod(PRIVATE)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        # Some network file systems sync no folders, and some that are read only nothing.
        if exc.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _remove_left_drafts(path: Path) -> None:
    """Remove what writers left behind that were killed; those of running ones are theirs."""
    prefix, suffix = f".{path.name}.", f".{_DRAFT}"
    for left in path.parent.iterdir():
        name = left.name
        if name.startswith(prefix) and name.endswith(suffix):
            writer = name[len(prefix) : -len(suffix)].partition("-")[0]
            if writer.isdigit() and not _runs(int(writer)):
                with suppress(OSError):  # another's, perhaps
                    left.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
