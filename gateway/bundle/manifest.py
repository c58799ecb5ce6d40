"""The manifest: what a bundle holds, as text that a board reads a line at a time.

The first line is JSON, `{"kind":"firmware","v":"0.2.0","mpy":6,"n":62}`; then comes one line a
file, sorted by path: `path size sha256`. The same files make the same bytes, and their SHA-256 is
the name of the bundle.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from gateway.errors import BundleError

FIRMWARE: Final = "firmware"
SETTINGS: Final = "settings"

MAX_FILES: Final = 1024
MAX_FILE_BYTES: Final = 1 << 20
MAX_MANIFEST_BYTES: Final = 1 << 17

SETTINGS_PATH: Final = "config.json"

_HEAD_KEYS = {"kind": str, "v": str, "mpy": int, "n": int}
_LINE = re.compile(r"(\S+) (0|[1-9][0-9]{0,9}) ([0-9a-f]{64})")
_CODE_PATH = re.compile(r"(?:board|sensors|actuators|commands)/[a-z_][a-z0-9_]{0,39}\.mpy")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, as the manifest names it."""

    path: str
    size_bytes: int
    sha256: str
    """64 hex digits."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says."""

    kind: str
    """`firmware` or `settings`."""
    version: str
    """Empty for settings."""
    mpy: int
    """Version of the bytecode; 0 for settings."""
    entries: tuple[Entry, ...]
    """In the order of their paths; an update names a file by its place here."""

    def to_bytes(self) -> bytes:
        """Return the text that `read_manifest` reads."""
        head = {"kind": self.kind, "v": self.version, "mpy": self.mpy, "n": len(self.entries)}
        lines = [json.dumps(head, separators=(",", ":"))]
        lines += [f"{entry.path} {entry.size_bytes} {entry.sha256}" for entry in self.entries]
        return "".join(f"{line}\n" for line in lines).encode()


def manifest_of(kind: str, version: str, mpy: int, files: Mapping[str, bytes]) -> Manifest:
    """Return the manifest of `files`, by path."""
    entries = tuple(
        Entry(path, len(data), sha256(data).hexdigest()) for path, data in sorted(files.items())
    )
    return Manifest(kind, version, mpy, entries)


def read_manifest(data: bytes, where: str = "the manifest") -> Manifest:
    """Return what the bytes of a manifest say.

    Raises:
        BundleError: they are none that a board would take.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{where}: at most {MAX_MANIFEST_BYTES} bytes, and it has {len(data)}")
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise BundleError(f"{where}: expected UTF-8 text: {exc}") from exc
    first, *lines = text.split("\n")
    head = _head(first, where)
    if not lines or lines.pop() != "" or len(lines) != head["n"]:
        told, found = head["n"], len(lines)
        raise BundleError(
            f"{where}: its first line promises {told} files and {found} whole lines follow: "
            "it is cut short or was changed; get the bundle anew"
        )
    entries = tuple(_entries(lines, head["kind"], where))
    manifest = Manifest(head["kind"], head["v"], head["mpy"], entries)
    if manifest.to_bytes() != data:
        raise BundleError(f"{where}: not written as a manifest is; build the bundle anew")
    return manifest


def _head(line: str, where: str) -> Mapping[str, Any]:
    try:
        head = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{where}, line 1: expected JSON: {exc}") from exc
    if not isinstance(head, dict) or head.keys() != _HEAD_KEYS.keys():
        raise BundleError(f"{where}, line 1: expected the keys {', '.join(_HEAD_KEYS)}: {line:.80}")
    for key, kind in _HEAD_KEYS.items():
        if type(head[key]) is not kind:
            raise BundleError(f"{where}, line 1: {key} is no {kind.__name__}: {head[key]!r:.40}")
    if head["kind"] not in {FIRMWARE, SETTINGS}:
        found = head["kind"]
        raise BundleError(f"{where}, line 1: kind is {found!r:.40}: expected firmware or settings")
    if head["kind"] == FIRMWARE and not _VERSION.fullmatch(head["v"]):
        raise BundleError(f"{where}, line 1: {head['v']!r:.40} is no version, such as 0.2.0")
    if head["kind"] == SETTINGS and (head["v"] or head["mpy"]):
        raise BundleError(f"{where}, line 1: settings have neither version nor bytecode")
    if not 1 <= head["n"] <= MAX_FILES:
        raise BundleError(f"{where}, line 1: from 1 to {MAX_FILES} files, and n is {head['n']}")
    return head


def _entries(lines: list[str], kind: str, where: str) -> Iterator[Entry]:
    before = ""
    for number, line in enumerate(lines, 2):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BundleError(
                f"{where}, line {number}: expected `path size sha256`, found {line!r:.80}"
            )
        path, size, digest = match.groups()
        _check_path(path, kind, f"{where}, line {number}")
        if path <= before:
            raise BundleError(f"{where}, line {number}: {path} comes twice, or is not in its place")
        if int(size) > MAX_FILE_BYTES:
            raise BundleError(
                f"{where}, line {number}: {path} has more than {MAX_FILE_BYTES} bytes"
            )
        before = path
        yield Entry(path, int(size), digest)


def _check_path(path: str, kind: str, where: str) -> None:
    """A bundle writes nothing on a board but what an update may replace."""
    if kind == SETTINGS:
        if path != SETTINGS_PATH:
            raise BundleError(f"{where}: settings hold {SETTINGS_PATH} alone, not {path!r:.60}")
    elif not _CODE_PATH.fullmatch(path):
        raise BundleError(
            f"{where}: {path!r:.60} is no place for firmware; expected one like board/app.mpy, in "
            "board, sensors, actuators or commands"
        )
