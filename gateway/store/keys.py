"""The keys of boards: a file each, for the owner's eyes, whole whenever the power goes.

A file `keys/<device>` holds 64 hex digits, and while the board is asked to take another key a line
`next <salt>`; a key in whose place another was put, as `edge-gateway flash` does, stays as a line
`before <64 hex digits>`. All of them are known until the board was seen to use the new one, so that
there is never a board whose key nobody has, wherever a change of keys was broken off.
"""

import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from gateway import files
from gateway.errors import StoreError
from gateway.log_fields import of_device
from gateway.model import MAX_SLUG, device_slug
from gateway.protocol.sealed import KEY_SIZE, SALT_SIZE, key_id, rotated

_log = logging.getLogger(__name__)

MAX_KEYS: Final = 20_000
"""As many as devices are remembered."""

MAX_BEFORE: Final = 4
"""Keys that others took the place of: so many attempts to flash a board may break off."""

_MAX_FILE_BYTES: Final = 1024
_MAX_CREDENTIAL_BYTES: Final = 1 << 20
"""What systemd passes on at most. Source: systemd.exec(5), LoadCredential=."""

_DEVICE = re.compile(rf"[a-z0-9_-]{{1,{MAX_SLUG + len('_device')}}}")
_NEXT: Final = "next "
_BEFORE: Final = "before "


@dataclass(frozen=True, slots=True)
class BoardKey:
    """What is kept for one board."""

    key: bytes
    salt: bytes | None = None
    """Of the key it is being asked to take; None when it is not."""
    before: tuple[bytes, ...] = ()
    """Keys that this one took the place of, and the board may have still; the oldest first."""

    @property
    def next_key(self) -> bytes | None:
        """The key it is being asked to take."""
        return None if self.salt is None else rotated(self.key, self.salt)

    @property
    def all(self) -> tuple[bytes, ...]:
        """Every key the board may have."""
        found = (self.key, self.next_key, *self.before)
        return tuple(each for each in found if each is not None)

    def ends_with(self, name: str) -> bool:
        """Say whether a change of keys is over when the board has the key of that id."""
        if self.next_key is not None:
            return key_id(self.next_key) == name
        return bool(self.before) and key_id(self.key) == name

    def replaced_by(self, key: bytes) -> "BoardKey":
        """Return what is kept when another key is put here: that, and what the board may have.

        The oldest one is that which the board was seen with, if any was.
        """
        if key == self.key:
            return self
        known = (*self.before, *(each for each in self.all if each not in self.before))
        before = tuple(each for each in known if each != key)
        return BoardKey(key, before=(*before[:1], *before[1:][1 - MAX_BEFORE :]))


_Ids: TypeAlias = dict[str, dict[str, bytes]]
"""Device -> id -> key."""


class KeyStore:
    """Knows every board's keys in memory; what changes them writes, and belongs into a thread.

    Only one program at a time may change a folder: the gateway, or `flash` while none runs.
    """

    def __init__(self, folder: Path, credential: Path | None = None) -> None:
        """`credential` is a file of lines `device hex`, which is only read."""
        self.folder = folder
        self._credential = credential
        self._kept: dict[str, BoardKey] = {}
        self._given: dict[str, tuple[bytes, ...]] = {}
        self._ids: _Ids = {}

    def load(self) -> None:
        """Read all there is; what cannot be read or understood is told and left out."""
        self._given = _read_credential(self._credential)
        self._kept = dict(_read_folder(self.folder))
        ids: _Ids = {}
        for device in self._given | self._kept:
            ids[device] = self._ids_of(device)
        self._ids = ids

    def find(self, device: str, name: str, /) -> bytes | None:
        """Return the device's key of that id."""
        return self._ids.get(device, {}).get(name)

    def ids(self, device: str, /) -> tuple[str, ...]:
        """Return the ids of all keys of a device, that of its file first."""
        return tuple(self._ids.get(device, ()))

    def get(self, device: str) -> BoardKey | None:
        """Return what the device's file says."""
        return self._kept.get(device)

    def given(self, device: str) -> tuple[bytes, ...]:
        """Return the keys the credential has for a device."""
        return self._given.get(device, ())

    def devices(self) -> list[str]:
        """Return all devices that have a key, sorted."""
        return sorted(self._ids)

    def filed(self) -> list[str]:
        """Return the devices whose key is in a file, sorted."""
        return sorted(self._kept)

    def secrets(self) -> list[str]:
        """Return what must not be in anything that is shown."""
        return [key.hex() for ids in self._ids.values() for key in ids.values()]

    def put(self, device: str, key: bytes) -> None:
        """Keep the key of a board; others that its file has stay until the board was seen with it.

        Raises:
            StoreError: it cannot be written; what was kept is.
        """
        if len(key) != KEY_SIZE:
            raise StoreError(f"{device}: a key has {KEY_SIZE} bytes, not {len(key)}")
        kept = self._kept.get(device)
        self._write(device, BoardKey(key) if kept is None else kept.replaced_by(key))

    def begin_rotation(self, device: str, key: bytes) -> bytes:
        """Make the key that follows `key` known before the board hears of it; return the salt.

        Begun again, it is the same salt: then the board can have no third key.

        Raises:
            StoreError: it cannot be written, or another key is kept; the board must not be asked.
        """
        kept = self._kept.get(device, BoardKey(key))
        if key not in {kept.key, *kept.before}:
            raise StoreError(f"{device}: another key is kept than the board says it has")
        if kept.key == key and kept.salt is not None:
            return kept.salt
        salt = secrets.token_bytes(SALT_SIZE)
        self._write(device, BoardKey(key, salt, kept.replaced_by(key).before))
        return salt

    def settle(self, device: str, name: str) -> bool:
        """Note that the board was seen to use the key of that id; say whether that ended a change.

        Raises:
            StoreError: it cannot be written; both are known still.
        """
        kept = self._kept.get(device)
        if kept is None or not kept.ends_with(name):
            return False
        self._write(device, BoardKey(kept.next_key or kept.key))
        return True

    def remove(self, device: str) -> bool:
        """Forget what the device's file says; say whether there was one.

        Raises:
            StoreError: it cannot be removed.
        """
        path = self._path(device)
        is_known = device in self._kept
        try:
            path.unlink(missing_ok=True)
            if is_known:
                files.sync_folder(self.folder)
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror or exc}") from exc
        self._kept.pop(device, None)
        self._note(device)
        return is_known

    def _write(self, device: str, kept: BoardKey) -> None:
        path = self._path(device)
        if device not in self._kept and len(self._kept) >= MAX_KEYS:
            raise StoreError(f"{self.folder}: there are {MAX_KEYS} keys, and no more are kept")
        content = kept.key.hex() + "\n"
        if kept.salt is not None:
            content += f"{_NEXT}{kept.salt.hex()}\n"
        content += "".join(f"{_BEFORE}{each.hex()}\n" for each in kept.before)
        try:
            files.make_folder(self.folder)
            files.write_atomically(path, content.encode(), owner=_give(self.folder))
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror or exc}") from exc
        self._kept[device] = kept
        self._note(device)

    def _path(self, device: str) -> Path:
        if not _DEVICE.fullmatch(device):
            raise StoreError(f"{device[:MAX_SLUG]!r} is no device: a-z, 0-9, _ and - are in a name")
        return self.folder / device

    def _note(self, device: str) -> None:
        if ids := self._ids_of(device):
            self._ids = {**self._ids, device: ids}
        else:
            self._ids = {each: ids for each, ids in self._ids.items() if each != device}

    def _ids_of(self, device: str) -> dict[str, bytes]:
        kept = self._kept.get(device)
        own = () if kept is None else kept.all
        return {key_id(key): key for key in (*own, *self._given.get(device, ()))}


def parse_keys(text: str) -> dict[str, tuple[bytes, ...]]:
    """Return the keys of each device in lines `device hex`; `#` begins a comment.

    Raises:
        ValueError: a line is neither; its number is told, not what is in it.
    """
    found: dict[str, tuple[bytes, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        key = _key_of(words[1]) if len(words) == 2 else None  # noqa: PLR2004 - a device and a key
        if key is None:
            raise ValueError(f"line {number}: expected a device and {2 * KEY_SIZE} hex digits")
        device = device_slug(words[0])
        found[device] = (*found.get(device, ()), key)
    return found


def _read_credential(path: Path | None) -> dict[str, tuple[bytes, ...]]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return parse_keys(file.read(_MAX_CREDENTIAL_BYTES).decode())
    except OSError as exc:
        _log.error("keys of the credential %s: %s", path.name, exc.strerror or exc)
    except ValueError as exc:  # UnicodeDecodeError is one
        reason = "not UTF-8" if isinstance(exc, UnicodeError) else exc
        _log.error("keys of the credential %s: none is used: %s", path.name, reason)
    return {}


def _read_folder(folder: Path) -> Iterator[tuple[str, BoardKey]]:
    try:
        _keep_private(folder, 0o700, stat.S_IRWXO)
        names = sorted(each.name for each in folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as exc:
        _log.error("keys of boards: %s: %s", folder, exc.strerror or exc)
        return
    for name in names:
        if not _DEVICE.fullmatch(name):
            continue  # a draft that a power cut left
        path = folder / name
        try:
            if _keep_private(path, files.PRIVATE, stat.S_IRWXG | stat.S_IRWXO):
                _log.warning(
                    "key of %s: others could read the file; now they cannot, but may know it: "
                    "`edge-gateway keys rotate %s`",
                    *(of_device(name), name),
                )
            with path.open("rb") as file:
                kept = _parse_file(file.read(_MAX_FILE_BYTES + 1))
        except OSError as exc:
            _log.error("key of %s: %s: %s", of_device(name), path, exc.strerror or exc)
            continue
        if kept is None:
            _log.error(
                "key of %s: %s holds none: the board is read, not commanded", of_device(name), path
            )
        else:
            yield name, kept


def _keep_private(path: Path, mode: int, others: int) -> bool:
    """Take away what others may; say whether they might."""
    if not stat.S_IMODE(path.stat().st_mode) & others:
        return False
    with suppress(PermissionError):  # another's, who lets us read: told again at each start
        path.chmod(mode)
    return True


def _parse_file(content: bytes) -> BoardKey | None:
    lines = content.decode("ascii", "replace").splitlines()
    if not lines or len(content) > _MAX_FILE_BYTES:
        return None
    key = _key_of(lines[0].strip())
    if key is None:
        return None
    salt, before = None, []
    for line in lines[1:]:
        if line.startswith(_NEXT):
            salt = _hex_of(line.removeprefix(_NEXT), SALT_SIZE)
        elif line.startswith(_BEFORE):
            before.append(_key_of(line.removeprefix(_BEFORE)))
    return BoardKey(key, salt, tuple(each for each in before if each is not None))


def _key_of(digits: str) -> bytes | None:
    return _hex_of(digits, KEY_SIZE)


def _hex_of(digits: str, size: int) -> bytes | None:
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        return None
    return found if len(found) == size else None


def _give(folder: Path) -> tuple[int, int] | None:
    """Return whose the files of the folder are to be, if not ours, after giving it to him.

    `flash`, run with sudo while no gateway runs, writes for the account that the gateway has. That
    account could put a link there, to have another folder given to it: it is not followed.
    """
    above = folder.parent.stat()
    if os.geteuid() != 0 or above.st_uid == 0:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, above.st_uid, above.st_gid)
    finally:
        os.close(descriptor)
    return above.st_uid, above.st_gid
