"""What journald is to who writes to it: a datagram socket, and entries of fields."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from select import select
from typing import Self

PATIENCE_S = 60.0
STEP_S = 0.1

Entry = dict[str, list[str]]
"""Each field's values, in their order."""


def fields_of(datagram: bytes) -> Entry:
    """Read an entry as https://systemd.io/JOURNAL_NATIVE_PROTOCOL has it."""
    entry: Entry = {}
    while datagram:
        line, newline, rest = datagram.partition(b"\n")
        assert newline, f"no end: {line!r}"
        name, has_value, value = line.partition(b"=")
        if not has_value:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert len(value) == size
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert name.decode("ascii").replace("_", "").isalnum()
        assert name == name.upper()
        assert not name.startswith((b"_", *(b"%d" % digit for digit in range(10))))
        entry.setdefault(name.decode("ascii"), []).append(value.decode())
        datagram = rest
    return entry


class FakeJournal:
    """Takes entries at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def next(self) -> Entry:
        """Return the next entry, when it comes."""
        return self.until(lambda _entry: True)

    def until(
        self, claim: Callable[[Entry], bool], meanwhile: Callable[[], object] = lambda: None
    ) -> Entry:
        """Return the first entry that is as claimed; `meanwhile` is done now and then."""
        deadline_s = time.monotonic() + PATIENCE_S
        seen = []
        while time.monotonic() < deadline_s:
            meanwhile()
            readable, _, _ = select([self._socket], [], [], STEP_S)
            if readable:
                seen.append(fields_of(self._socket.recv(1 << 20)))
                if claim(seen[-1]):
                    return seen[-1]
        raise AssertionError(f"it never came, but {seen}")

    def waiting(self) -> list[Entry]:
        """Return all entries that are there by now."""
        entries: list[Entry] = []
        while True:
            try:
                datagram = self._socket.recv(1 << 20)
            except BlockingIOError:
                return entries
            entries.append(fields_of(datagram))

    def close(self) -> None:
        """Be there no more."""
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
