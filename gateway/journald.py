"""journald's native protocol in a few lines, as it needs no more than a datagram.

What python-systemd or cysystemd do with libsystemd, without a compiler or a library of this
machine. Nothing here blocks: what journald does not take at once is kept, if it is precious, or
counted. Sources: https://systemd.io/JOURNAL_NATIVE_PROTOCOL, systemd.journal-fields(7), unix(7).
"""

import socket
from collections import deque
from collections.abc import Iterable
from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"

MAX_VALUE_BYTES: Final = 256
"""Of a field besides the message; names of devices are shorter."""
MAX_MESSAGE_BYTES: Final = 48 * 1024
"""A longer message loses its middle. As journald's own limit for lines, LineMax=; so no datagram
comes near the limit of a socket, and none has to go by way of a file."""
MAX_WAITING: Final = 32
"""Precious entries that wait until journald takes them."""

_OVERHEAD_BYTES: Final = 32
"""Of the send buffer, that a datagram cannot have. Source: unix_dgram_sendmsg() of Linux."""
_FIELDS_BYTES: Final = 4096
"""For all that is not the message."""
_CUT: Final = b" ... "


def entry(fields: Iterable[tuple[str, str]], message_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """Return an entry as journald reads it, with too long values cut.

    A name is of A-Z, 0-9 and `_`, and begins with a letter; it may come more than once.
    """
    lines = bytearray()
    for name, value in fields:
        text = value.encode(errors="backslashreplace")
        text = _cut(text, message_bytes if name == "MESSAGE" else MAX_VALUE_BYTES)
        if b"\n" in text:  # its length goes before it, for it cannot be told by its end
            lines += b"%b\n%b%b\n" % (name.encode(), len(text).to_bytes(8, "little"), text)
        else:
            lines += b"%b=%b\n" % (name.encode(), text)
    return bytes(lines)


class Journal:
    """Sends entries; a journald that restarts, or comes later, is found again by each of them."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._waiting: deque[bytes] = deque()
        size_bytes = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        room_bytes = size_bytes - _OVERHEAD_BYTES - _FIELDS_BYTES
        self.message_bytes = max(MAX_VALUE_BYTES, min(MAX_MESSAGE_BYTES, room_bytes))
        """How long a message may be, on this machine."""
        self.lost = 0
        """Entries that could not be sent; whoever tells it sets it back."""

    @property
    def is_there(self) -> bool:
        """Whether somebody takes entries."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(self._path)
            except OSError:
                return False
        return True

    def send(self, payload: bytes, *, is_precious: bool = False) -> bool:
        """Send an entry, or keep or count it; say whether it has gone."""
        if self.send_waiting() and self._try(payload):
            return True
        if is_precious and len(self._waiting) < MAX_WAITING:
            self._waiting.append(payload)
        else:
            self.lost += 1
        return False

    def send_waiting(self) -> bool:
        """Send what waits, as far as it goes; say whether nothing waits any more."""
        while self._waiting and self._try(self._waiting[0]):
            self._waiting.popleft()
        return not self._waiting

    def close(self) -> None:
        """Send no more."""
        self._socket.close()

    def _try(self, payload: bytes) -> bool:
        try:
            self._socket.sendto(payload, self._path)
        except OSError:  # full, or nobody there
            return False
        return True


def _cut(text: bytes, limit_bytes: int) -> bytes:
    """Leave out the middle: a message tells what it is at its beginning, a traceback at its end."""
    if len(text) <= limit_bytes:
        return text
    half = (limit_bytes - len(_CUT)) // 2
    head, tail = text[:half], text[-half:]
    return b"".join(
        (
            head.decode(errors="ignore").encode(),
            _CUT,
            tail.decode(errors="ignore").encode(),
        )
    )
