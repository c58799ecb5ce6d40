"""What systemd would hear: a notify socket of our own."""

import asyncio
import os
import socket
from collections import Counter
from pathlib import Path
from typing import Self

MESSAGE_BYTES = 4096


class NotifySocket:
    """Collects what a service tells."""

    def __init__(self, name: Path | str) -> None:
        """`name` is a path, or `@` and what an abstract name begins with."""
        self.name = os.fspath(name)
        self.messages: list[dict[str, str]] = []
        """Each a message, by its variables."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.name.replace("@", "\0", 1))

    def environment(self, watchdog_s: float | None = None) -> dict[str, str]:
        """Return the variables a service finds this by."""
        variables = {**os.environ, "NOTIFY_SOCKET": self.name}
        if watchdog_s is not None:
            variables["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))
        return variables

    def read(self) -> list[dict[str, str]]:
        """Take what has come; return it."""
        fresh = []
        while True:
            try:
                message = self._socket.recv(MESSAGE_BYTES).decode()
            except BlockingIOError:
                break
            fresh.append(dict(line.split("=", 1) for line in message.splitlines()))
        self.messages += fresh
        return fresh

    async def wait_for(self, variable: str) -> dict[str, str]:
        """Return the next message that has a variable."""
        while True:
            for message in self.read():
                if variable in message:
                    return message
            await _readable(self._socket)

    async def count(self, for_s: float) -> Counter[str]:
        """Return how often each variable came within so long from now on."""
        self.read()
        begun = len(self.messages)
        await asyncio.sleep(for_s)
        self.read()
        return Counter(variable for message in self.messages[begun:] for variable in message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


async def _readable(reader: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(reader, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(reader)
