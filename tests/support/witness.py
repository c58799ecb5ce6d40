"""A subscriber with a lasting session that loses nothing it was sent, whoever is killed.

A client library that fails to send on a dead connection closes it, and with it throws away what had
arrived; a broker that was killed has forgotten that it sent this. So the witness has a socket of
its own: it reads to the very end before it connects again.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gateway.simulate.faults.packets import Packet, PacketKind, PacketSplitter

RECONNECT_INTERVAL_S = 0.02
_VERSION = 4
_READ_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class Heard:
    """A message, as often as it came."""

    topic: str
    payload: bytes
    at_s: float
    """On the loop's clock."""


class Witness:
    """Subscribed to all of `base` for the length of an `async with`, at QoS 1, by MQTT 3.1.1."""

    def __init__(self, host: str, port: int, base: str, name: str = "witness") -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        """How often it has subscribed."""
        self._address = (host, port)
        self._hello = _connect(name), _subscribe(f"{base}/#")
        self._tasks = asyncio.TaskGroup()
        self._listening: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        """Return once it has subscribed."""
        await self._tasks.__aenter__()
        self._listening = self._tasks.create_task(self._listen(), name="witness")
        await self.wait_connections(1)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up; what the block raised is passed on as it is."""
        if self._listening is not None:
            self._listening.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def wait_connections(self, count: int, timeout_s: float = 20.0) -> None:
        """Return once it has subscribed `count` times."""
        await self.wait_for(lambda: self.connections >= count, timeout_s)

    async def wait_for(self, reached: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Return once `reached` is true; it is asked after every message and connection."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(reached)

    async def _listen(self) -> None:
        while True:
            with socket.socket() as connection:
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    await self._converse(connection)
            await asyncio.sleep(RECONNECT_INTERVAL_S)

    async def _converse(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, self._address)
        await loop.sock_sendall(connection, b"".join(self._hello))
        splitter = PacketSplitter()
        while data := await loop.sock_recv(connection, _READ_SIZE):
            answers = []
            async with self._changed:
                for part in splitter.feed(data):
                    assert isinstance(part, Packet), f"the broker sent {part[:40]!r}"
                    answers.append(self._note(part, loop.time()))
                self._changed.notify_all()
            with contextlib.suppress(OSError):  # what has arrived is read all the same
                await loop.sock_sendall(connection, b"".join(answers))

    def _note(self, packet: Packet, now_s: float) -> bytes:
        """Keep a message; return the answer to it."""
        if packet.kind is PacketKind.SUBACK:
            self.connections += 1
        if packet.kind is not PacketKind.PUBLISH:
            return b""
        self.heard.append(Heard(*packet.publication(_VERSION), now_s))
        return b"" if packet.packet_id is None else struct.pack(">BBH", 0x40, 2, packet.packet_id)


def _connect(name: str) -> bytes:
    """Return a CONNECT without a clean session and without a keep alive (MQTT 3.1.1, 3.1)."""
    body = b"\x00\x04MQTT" + bytes([_VERSION, 0, 0, 0]) + _text(name)
    return bytes([0x10, len(body)]) + body


def _subscribe(topic_filter: str) -> bytes:
    body = b"\x00\x01" + _text(topic_filter) + b"\x01"
    return bytes([0x82, len(body)]) + body


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()
