"""The socket of a paho client, served by the event loop.

aiomqtt does this too, but registers the socket for writing one turn of the loop late, by its
number. When the broker dies meanwhile that number is closed (seen: "Bad file descriptor" in 1 of 12
kills under load), or already belongs to another port. And a connect that is cancelled goes on in
its thread, and ends as a second client that nobody owns.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable
from typing import Protocol

from gateway.errors import LinkError


class SocketLike(Protocol):
    """What paho calls a socket."""

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""

    def close(self) -> None:
        """Close it."""


class PahoLoop(Protocol):
    """What paho offers to whoever serves its socket."""

    def loop_read(self) -> object:
        """Read and handle what has arrived."""

    def loop_write(self) -> object:
        """Write what waits."""

    def want_write(self) -> bool:
        """Tell whether something waits to be written."""

    def socket(self) -> SocketLike | None:
        """Return the socket while there is one."""


class PahoSocket:
    """Reads when something has arrived; writes once a turn of the loop all that was published.

    `on_*` are paho's socket callbacks; in the loop's thread, unless they say otherwise.
    """

    def __init__(
        self, paho: PahoLoop, on_input: Callable[[], None], on_failure: Callable[[str], None]
    ) -> None:
        """`on_input` is called after each read, `on_failure` when paho raises, with the reason."""
        self._paho = paho
        self._on_input = on_input
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._loop_s_thread = threading.get_ident()
        self._descriptor: int | None = None
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, be it without an MQTT broker at its end."""
        return self._descriptor is not None

    def close(self) -> None:
        """Let go of the socket, at once and in whatever state it is."""
        self._is_closed = True
        sock = self._paho.socket()
        if sock is not None:
            self.on_close()
            sock.close()

    def on_open(self, _client: object, _userdata: object, sock: SocketLike) -> None:
        """Take over a new socket; called in the thread that connects."""
        self._loop.call_soon_threadsafe(self._adopt, sock)

    def on_close(self, *_: object) -> None:
        """Forget the socket; paho closes it next."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._descriptor = None

    def on_want_write(self, *_: object) -> None:
        """Flush at the end of this turn; called once before each flush.

        The first time, for CONNECT, it is called in the thread that connects.
        """
        if threading.get_ident() == self._loop_s_thread:
            self._loop.call_soon(self._flush)
        else:
            self._loop.call_soon_threadsafe(self._flush)

    def on_wrote_all(self, *_: object) -> None:
        """Do nothing: `_flush` looks for itself."""

    def _adopt(self, sock: SocketLike) -> None:
        if self._is_closed:
            sock.close()  # the connect was cancelled, but its thread could not be
        elif sock.fileno() >= 0:
            self._descriptor = sock.fileno()
            self._loop.add_reader(self._descriptor, self._read)

    def _flush(self) -> None:
        if self._descriptor is None:
            return
        try:
            self._paho.loop_write()
        except LinkError as exc:
            self._on_failure(str(exc))
            return
        except Exception as exc:  # noqa: BLE001 - paho lets socket errors of any kind through
            self._on_failure(f"cannot send: {exc}")
            return
        if self._descriptor is None:
            return  # paho has found the connection broken
        if self._paho.want_write():
            self._loop.add_writer(self._descriptor, self._flush)
        else:
            self._loop.remove_writer(self._descriptor)

    def _read(self) -> None:
        try:
            self._paho.loop_read()
            while isinstance(sock := self._paho.socket(), ssl.SSLSocket) and sock.pending():
                self._paho.loop_read()  # decrypted bytes do not make the descriptor readable
        except LinkError as exc:
            self._on_failure(str(exc))
        except Exception as exc:  # noqa: BLE001 - paho parses what the broker sent
            self._on_failure(f"cannot understand the broker: {exc}")
        self._on_input()
