"""Writes what a gateway needs to begin anew, here or elsewhere, into one file."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from gateway.admin.kept_files import Kept, KeptFiles, discard
from gateway.errors import GatewayError, RequestError
from gateway.links.threads import Call
from gateway.requests.admin import BackupRequest

BACKUP_S: Final = 900.0
"""A store of 256 MB takes a minute on a slow card."""

MAX_FILE_BYTES: Final = 1 << 20
"""A configuration, key or certificate that is larger is none."""

RESERVE_BYTES: Final = 32 << 20
"""Room that must be left for what the gateway has to write meanwhile."""

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class DatabasePart:
    """A database in use."""

    path: Path
    copy_to: Callable[[Path], Awaitable[None]]
    """Writes a consistent copy; raises GatewayError if that is not possible now."""


@dataclass(frozen=True, slots=True)
class BackupParts:
    """What belongs into a backup, by its name there."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Taken as they are."""
    credentials: Mapping[str, Path] = field(default_factory=dict)
    """The same, but only if asked for."""
    databases: Mapping[str, DatabasePart] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)
    """Told in the manifest, as JSON knows it."""


class Backups:
    """The backups of one gateway, in a folder of its state: readable by the gateway's account."""

    def __init__(
        self,
        folder: Path,
        gateway: str,
        parts: Callable[[], BackupParts],
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        """`parts` is asked at each backup: a reload may have changed them."""
        self._reserve_bytes = reserve_bytes
        self._kept = KeptFiles(folder, f"edge-gateway-{gateway}", ".tar.gz")
        self._parts = parts
        self._is_busy = False

    async def make(self, request: BackupRequest) -> dict[str, object]:
        """Make a backup; return path, size and digest, what is in it, and what had to be left out.

        Raises:
            RequestError: one is being made; or the disk is full or fails.
        """
        if self._is_busy:
            raise RequestError("busy: a backup is being made")
        self._is_busy = True
        try:
            return await self._make(self._parts(), has_credentials=request.credentials)
        except OSError as exc:
            raise RequestError(f"{self._kept.folder}: {exc.strerror or exc}") from exc
        finally:
            self._is_busy = False

    async def _make(self, parts: BackupParts, *, has_credentials: bool) -> dict[str, object]:
        files = {**parts.files, **(parts.credentials if has_credentials else {})}
        gathered = await Call(partial(self._begin, parts), discard).result()
        left_out: dict[str, str] = {}
        for name, part in parts.databases.items():
            try:
                await part.copy_to(gathered / name)
            except GatewayError as exc:
                left_out[name] = str(exc)
        if not has_credentials:
            left_out |= dict.fromkeys(parts.credentials, "a credential, which was not asked for")
        archive = _Archive(gathered, files, parts, left_out)
        try:
            kept: Kept = await Call(partial(self._kept.write, gathered, archive.fill)).result()
        except OSError:
            await Call(partial(discard, gathered)).result()
            raise
        return {**kept.document(), "files": archive.names, "left_out": left_out}

    def _begin(self, parts: BackupParts) -> Path:
        gathered = self._kept.begin()
        sizes_bytes = (_size_bytes(part.path) for part in parts.databases.values())
        needed_bytes = (
            2 * sum(sizes_bytes) + self._reserve_bytes
        )  # the copies, and the file of them
        free_bytes = shutil.disk_usage(gathered).free
        if free_bytes < needed_bytes:
            discard(gathered)
            raise RequestError(
                f"{self._kept.folder}: {free_bytes >> 20} MB are free, and a backup may take "
                f"{needed_bytes >> 20} MB with what the gateway needs meanwhile"
            )
        return gathered


class _Archive:
    """What becomes one file; used in a thread."""

    def __init__(
        self,
        gathered: Path,
        files: Mapping[str, Path],
        parts: BackupParts,
        left_out: dict[str, str],
    ) -> None:
        """`left_out` grows by what cannot be read."""
        self.names: list[str] = []
        self._gathered = gathered
        self._files = files
        self._parts = parts
        self._left_out = left_out

    def fill(self, target: BinaryIO) -> None:
        """Write the archive: the manifest first, then small files, then databases."""
        contents = self._read_files()
        listed: dict[str, dict[str, object]] = {
            name: {
                "path": str(self._files[name].absolute()),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in contents.items()
        }
        copies = {name: self._gathered / name for name in self._parts.databases}
        copies = {name: path for name, path in copies.items() if path.exists()}
        for name, path in copies.items():
            with path.open("rb") as copy:
                digest = hashlib.file_digest(copy, "sha256").hexdigest()
            listed[name] = {
                "path": str(self._parts.databases[name].path.absolute()),
                "bytes": _size_bytes(path),
                "sha256": digest,
            }
        self.names = list(listed)
        manifest = {
            **self._parts.about,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": listed,
            "left_out": self._left_out,
        }
        with tarfile.open(fileobj=target, mode="w:gz") as archive:
            _add(archive, MANIFEST, json.dumps(manifest, indent=1, default=str).encode())
            for name, content in contents.items():
                _add(archive, name, content)
            for name, path in copies.items():
                archive.add(path, name, filter=_anonymous)
                path.unlink()  # as many bytes less on a disk that is nearly full

    def _read_files(self) -> dict[str, bytes]:
        contents: dict[str, bytes] = {}
        for name, path in self._files.items():
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_FILE_BYTES + 1)
            except FileNotFoundError:
                self._left_out[name] = "there is none"
            except OSError as exc:
                self._left_out[name] = exc.strerror or str(exc)
            else:
                if len(content) > MAX_FILE_BYTES:
                    self._left_out[name] = "too large to be what it should be"
                else:
                    contents[name] = content
        return contents


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o600
    entry.mtime = datetime.now(UTC).timestamp()
    archive.addfile(entry, io.BytesIO(content))


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode, entry.uid, entry.gid, entry.uname, entry.gname = 0o600, 0, 0, "", ""
    return entry


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
