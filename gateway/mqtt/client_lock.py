"""One gateway of a name on this machine: two would expel each other from the broker for ever.

Held by a name in the kernel (an abstract unix socket), not by a file: the service has a /tmp and a
runtime folder of its own, so that a gateway started by hand would never see its file. The name is
the machine's, nobody can put a link in its place, and it goes with the process that holds it,
however that ends. Gateways of other machines, or in containers of their own, the broker notices.

It guards against mistakes: abstract names have no owner or mode, so any user of the machine can
bind this one first and so keep the gateway from its broker. The log then names process and user.
Source: unix(7).
"""

import errno
import hashlib
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import Self

from gateway.errors import LinkError

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: process, user, group."""


class ClientLock:
    """Held from `take` until `release`, or the end of the process."""

    def __init__(self, address: str, client_id: str) -> None:
        """`address` is the broker's, as HOST:PORT; of each client id there is one a broker."""
        self._address = address
        self._client_id = client_id
        digest = hashlib.sha256(f"{address.lower()}\n{client_id}".encode()).hexdigest()
        self._name = f"\0edge-gateway/client/{digest}"
        self._socket: socket.socket | None = None
        self._rival = (0, "")

    def take(self) -> None:
        """Hold it; nothing happens if it is held here already.

        Raises:
            LinkError: another process of this machine holds it; in words that say which. Or the
                system gives no socket.
        """
        if self._socket is not None:
            return
        try:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as exc:
            raise LinkError(f"no socket to be had: {exc.strerror}") from exc
        try:
            claim.bind(self._name)
            claim.listen()  # so that others can ask who holds it
        except OSError as exc:
            claim.close()
            if exc.errno != errno.EADDRINUSE:
                raise LinkError(f"a unix socket cannot be bound: {exc.strerror}") from exc
            raise LinkError(
                f"{self._holder()} on this machine is connected to {self._address} as "
                f"{self._client_id!r}, and they would expel each other: stop one of them, or give "
                "it another name in [gateway], or another client_id in [mqtt]"
            ) from exc
        self._socket = claim

    def release(self) -> None:
        """Let go of it, if it is held."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def is_held(self, sockets: Path = Path("/proc/net/unix")) -> bool:
        """Tell whether any process of this machine holds it, without a question to that one."""
        name = self._name.replace("\0", "@")
        try:
            return any(line.endswith(f" {name}") for line in sockets.read_text().splitlines())
        except OSError:
            return False

    def __enter__(self) -> Self:
        """Take it, as `take` does."""
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _holder(self) -> str:
        """Return who holds it, as far as that can be told."""
        process, words = self._rival
        if not (process and Path(f"/proc/{process}").exists()):
            process, words = self._rival = _ask(self._name)
        return words


def _ask(name: str) -> tuple[int, str]:
    """Return the process that holds the name, and who that is; 0 if it cannot be told.

    Each question stays in a queue of the holder's, so it is asked once a rival, and may fail.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(name)
            found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return 0, "another gateway"
    process, user, _ = _CREDENTIALS.unpack(found)
    if process == 0:  # it is in a container, and has no number here
        return 0, "another gateway"
    if process == os.getpid():
        return 0, "this very process, a second time,"
    try:
        owner = pwd.getpwuid(user).pw_name
    except KeyError:
        owner = f"user {user}"
    return process, f"another gateway (process {process} of {owner})"
