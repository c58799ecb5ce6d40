"""The file of the BLE devices that joined: small, rarely written, never half."""

import json
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

MAX_BYTES: Final = 1 << 20
"""A larger file is none of ours."""

_ADDRESS = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")


class JoinedFile:
    """A JSON list of addresses; its calls block, so they belong into a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[str]:
        """Return the addresses; none where there is no file yet.

        A file that cannot be understood is put aside, for somebody may want to look at it.

        Raises:
            OSError: it cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return []
        addresses = _parse(content)
        if addresses is None:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            self._path.replace(aside)
            _log.error("%s cannot be read: it was renamed to %s", self._path, aside.name)
            return []
        return addresses

    def save(self, addresses: Iterable[str]) -> None:
        """Replace the file; after a power cut there is the old one or the new one.

        Raises:
            OSError: the disk is full or fails; the old file stands.
        """
        content = json.dumps({"joined": list(addresses)}, indent=1).encode() + b"\n"
        fresh = self._path.with_name(f"{self._path.name}.new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _parse(content: bytes) -> list[str] | None:
    if len(content) > MAX_BYTES:
        return None
    try:
        document = json.loads(content)
        addresses = document["joined"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(addresses, list) or not all(
        isinstance(address, str) and _ADDRESS.fullmatch(address) for address in addresses
    ):
        return None
    return addresses
