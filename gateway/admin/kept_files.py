"""Files the gateway makes for people: whole or not at all, for the owner's eyes, the newest few."""

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from gateway import files

KEPT: Final = 5
"""So many of each kind are kept, the newest ones."""

_UNFINISHED: Final = ".unfinished-"


class Kept(NamedTuple):
    """A file that was made."""

    path: Path
    size_bytes: int
    sha256: str

    def document(self) -> dict[str, str | int]:
        """Return it as JSON knows it."""
        path = str(self.path.absolute())  # who asked does not know our working folder
        return {"path": path, "bytes": self.size_bytes, "sha256": self.sha256}


class KeptFiles:
    """One kind of file in a folder; its calls block, so they belong into a thread."""

    def __init__(self, folder: Path, stem: str, suffix: str) -> None:
        """Files are named `<stem>-<UTC><suffix>`."""
        self.folder = folder
        self._stem = stem
        self._suffix = suffix

    def begin(self) -> Path:
        """Return a new folder to gather in, with what an earlier try left behind removed.

        Raises:
            OSError: the folder cannot be made or written to.
        """
        files.make_folder(self.folder)
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            discard(left)
        return Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder))

    def write(self, gathered: Path, fill: Callable[[BinaryIO], None]) -> Kept:
        """Make a file of what `fill` writes; older ones beyond KEPT go, and so does `gathered`.

        Raises:
            OSError: the disk is full or fails; nothing was made.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = self.folder / f"{self._stem}-{stamp}{self._suffix}"
        draft = gathered / path.name  # there a later try finds what a kill leaves of it
        with files.drafted(draft) as file:
            fill(file)
            file.flush()
            size_bytes = file.tell()
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.rename(draft, path)
        discard(gathered)
        for old in self._others(path)[KEPT - 1 :]:
            old.unlink(missing_ok=True)
        return Kept(path, size_bytes, digest)

    def _others(self, path: Path) -> list[Path]:
        """Return the files of this kind but one, newest first by their names."""
        found = self.folder.glob(f"{self._stem}-*Z{self._suffix}")
        return sorted((each for each in found if each != path), reverse=True)


def discard(folder: Path) -> None:
    """Remove a folder that holds files only, as far as that is possible."""
    with suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
