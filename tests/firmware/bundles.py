"""Bundles for boards under test, made from their description and not by the gateway."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.firmware.under_test import FIRMWARE

PACKAGES = ("actuators", "board", "commands", "sensors")


@dataclass(frozen=True, slots=True)
class Made:
    """A manifest and its files."""

    manifest: bytes
    files: Mapping[str, bytes]

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.manifest).digest()

    @property
    def mh(self) -> str:
        return self.digest.hex()[:16]

    @property
    def contents(self) -> list[bytes]:
        """Return the files in the manifest's order."""
        return [self.files[path] for path in sorted(self.files)]


def manifest_of(files: Mapping[str, bytes], **head: Any) -> bytes:  # noqa: ANN401 - wrong ones, too
    lines = [json.dumps({"kind": "firmware", "v": "0.1.0", "mpy": 0, "n": len(files)} | head)]
    lines += [
        f"{path} {len(files[path])} {hashlib.sha256(files[path]).hexdigest()}"
        for path in sorted(files)
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def made(files: Mapping[str, bytes], **head: Any) -> Made:  # noqa: ANN401 - wrong ones, too
    return Made(manifest_of(files, **head), files)


def settings(**config: object) -> Made:
    """Return settings as a bundle."""
    return made({"config.json": json.dumps(config).encode()}, kind="settings", v="")


@cache
def sources() -> Mapping[str, bytes]:
    """Return the firmware as it is: each interpreter runs it."""
    return {
        f"{package}/{path.name}": path.read_bytes()
        for package in PACKAGES
        for path in sorted((FIRMWARE / package).glob("*.py"))
    }


def altered(version: str = "0.2.0", **changed: str) -> Made:
    """Return the firmware with files replaced: `board__app="..."` is board/app.py."""
    files = dict(sources())
    for name, text in changed.items():
        files[name.replace("__", "/") + ".py"] = text.encode()
    return made(files, v=version)


def text_of(path: Path | str) -> str:
    return (FIRMWARE / path).read_text(encoding="utf-8")
