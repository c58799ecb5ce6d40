"""A bundle: a manifest and the files it names, checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, Self

from gateway.bundle.manifest import (
    FIRMWARE,
    SETTINGS,
    SETTINGS_PATH,
    Manifest,
    manifest_of,
    read_manifest,
)
from gateway.errors import BundleError

MPY: Final = 6
"""Major version of MicroPython's bytecode since 1.19; where there is no native code all 6.x run on
MicroPython 1.23 and newer."""

SIGNATURE_BYTES: Final = 64

_MPY_HEADER_BYTES = 4


@dataclass(frozen=True)
class Bundle:
    """What an update brings: made by `firmware`, `settings` or `checked`, and right since then."""

    manifest: bytes
    files: Mapping[str, bytes]
    """By path, in the manifest's order."""
    signature: bytes | None = None
    """Ed25519 over the manifest."""

    @classmethod
    def firmware(cls, version: str, files: Mapping[str, bytes]) -> Self:
        """Return the bundle of compiled modules, by path, such as `board/app.mpy`.

        Raises:
            BundleError: a file is no module that any board can run, or in the wrong place.
        """
        manifest = manifest_of(FIRMWARE, version, MPY, files).to_bytes()
        return cls.checked(manifest, files, None, f"firmware {version}")

    @classmethod
    def settings(cls, config: Mapping[str, Any], where: str = "the settings") -> Self:
        """Return the bundle of a board's settings, not checked against what the firmware takes.

        Raises:
            BundleError: it cannot be written as UTF-8.
        """
        text = json.dumps(config, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        try:
            files = {SETTINGS_PATH: text.encode()}
        except UnicodeEncodeError as exc:
            half = ascii(exc.object[exc.start])
            raise BundleError(f"{where}: half of a character, {half}") from exc
        return cls.checked(manifest_of(SETTINGS, "", 0, files).to_bytes(), files)

    @classmethod
    def checked(
        cls,
        manifest: bytes,
        files: Mapping[str, bytes],
        signature: bytes | None = None,
        where: str = "the bundle",
    ) -> Self:
        """Return the bundle of these parts; `where` names it in what is wrong with it.

        Raises:
            BundleError: the manifest is none, a file is not what it says, or no board can run it.
        """
        said = read_manifest(manifest, f"{where}: manifest")
        _check_files(said, files, where)
        if signature is not None and len(signature) != SIGNATURE_BYTES:
            raise BundleError(
                f"{where}: a signature has {SIGNATURE_BYTES} bytes, and this one {len(signature)}"
            )
        ordered = {entry.path: files[entry.path] for entry in said.entries}
        return cls(manifest, MappingProxyType(ordered), signature)

    @cached_property
    def contents(self) -> Manifest:
        """What the manifest says."""
        return read_manifest(self.manifest)

    @property
    def kind(self) -> str:
        """`firmware` or `settings`."""
        return self.contents.kind

    @property
    def version(self) -> str:
        """The firmware's; empty for settings."""
        return self.contents.version

    @property
    def mpy(self) -> int:
        """Version of the bytecode; 0 for settings."""
        return self.contents.mpy

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, in the order in which an update numbers them."""
        return tuple(self.files)

    @cached_property
    def manifest_hash(self) -> bytes:
        """SHA-256 of the manifest, 32 bytes: the bundle's name."""
        return sha256(self.manifest).digest()

    @property
    def short_hash(self) -> str:
        """What a board's HELLO calls it: the first 16 hex digits of `manifest_hash`."""
        return self.manifest_hash.hex()[:16]

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(map(len, self.files.values()))


def config_hash(config: bytes) -> str:
    """Return what a board's HELLO calls its config.json: the first 8 hex digits of its SHA-256."""
    return sha256(config).hexdigest()[:8]


def _check_files(said: Manifest, files: Mapping[str, bytes], where: str) -> None:
    named = {entry.path for entry in said.entries}
    if missing := sorted(named - files.keys()):
        raise BundleError(f"{where}: {missing[0]} is in the manifest, and not in the bundle")
    if more := sorted(files.keys() - named):
        raise BundleError(f"{where}: {more[0]:.80} is in the bundle, and not in the manifest")
    if said.kind == FIRMWARE and said.mpy != MPY:
        raise BundleError(
            f"{where}: compiled to bytecode version {said.mpy}, and boards run version {MPY}: "
            "build it with an mpy-cross of MicroPython 1.23 or newer"
        )
    for entry in said.entries:
        data = files[entry.path]
        if len(data) != entry.size_bytes:
            raise BundleError(
                f"{where}: {entry.path} has {len(data)} bytes, and the manifest says "
                f"{entry.size_bytes}: get the bundle anew"
            )
        if (found := sha256(data).hexdigest()) != entry.sha256:
            raise BundleError(
                f"{where}: {entry.path} has the SHA-256 {found[:16]}..., and the manifest says "
                f"{entry.sha256[:16]}...: it was damaged or changed; get the bundle anew"
            )
        if said.kind == FIRMWARE:
            check_mpy(data, f"{where}: {entry.path}")


def check_mpy(data: bytes, where: str) -> None:
    """See that `data` is a compiled module that runs on every board.

    Raises:
        BundleError: it is something else, for another MicroPython, or has code of one kind of chip.
    """
    # docs/reference/mpyfiles.rst: "M", version, flags (bits 2 to 5: architecture), bits of an int
    if len(data) < _MPY_HEADER_BYTES or data[:1] != b"M":
        raise BundleError(f"{where}: expected a module compiled by mpy-cross, which begins with M")
    if data[1] != MPY:
        raise BundleError(
            f"{where}: bytecode version {data[1]}, and boards run version {MPY}: "
            "compile it with an mpy-cross of MicroPython 1.23 or newer"
        )
    if data[2] >> 2:
        raise BundleError(
            f"{where}: holds native code of one kind of chip: compile it without -march, and "
            "without @native or @viper in it"
        )
