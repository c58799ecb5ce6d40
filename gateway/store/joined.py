"""The file of who joined on BLE: small, rarely written, never half."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway import files

_log = logging.getLogger(__name__)

MAX_BYTES: Final = 1 << 20
"""A larger file is none of ours."""

_ADDRESS = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")
_DEVICE = re.compile(r"[a-z0-9_-]{1,80}")


class Joined(NamedTuple):
    """Who joined, by address."""

    members: Sequence[str] = ()
    """Through a window: their samples are published."""
    boards: Mapping[str, str] = {}
    """The device of each board of ours that said who it is."""


class JoinedFile:
    """A JSON object; its calls block, so they belong into a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Joined:
        """Return who joined; nobody where there is no file yet.

        A file that cannot be understood is put aside, for somebody may want to look at it.

        Raises:
            OSError: it cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return Joined()
        joined = _parse(content)
        if joined is None:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            files.rename(self._path, aside)
            _log.error("%s cannot be read: it was renamed to %s", self._path, aside.name)
            return Joined()
        return joined

    def save(self, joined: Joined) -> None:
        """Replace the file; after a power cut there is the old one or the new one.

        Raises:
            OSError: the disk is full or fails; the old file stands.
        """
        document = {"joined": list(joined.members), "boards": dict(joined.boards)}
        content = json.dumps(document, indent=1).encode() + b"\n"
        files.make_folder(self._path.parent)
        files.write_atomically(self._path, content)


def _parse(content: bytes) -> Joined | None:
    if len(content) > MAX_BYTES:
        return None
    try:
        document = json.loads(content)
        members = document["joined"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(members, list) or not all(_is_address(address) for address in members):
        return None
    return Joined(members, _boards(document.get("boards")))


def _boards(given: object) -> dict[str, str]:
    """Return what is right of it: that a board is known is worth less than who may join."""
    if not isinstance(given, dict):
        return {}
    return {
        address: device
        for address, device in given.items()
        if _is_address(address) and isinstance(device, str) and _DEVICE.fullmatch(device)
    }


def _is_address(given: Any) -> bool:  # noqa: ANN401  # whatever stands in a file
    return isinstance(given, str) and _ADDRESS.fullmatch(given) is not None
