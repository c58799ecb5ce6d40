"""A broker that answers as the test says, in ways mosquitto does not."""

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
"""Control packet types. MQTT 5, 2.1.2."""

HANG_UP = -1
SUCCESS, NOT_AUTHORIZED, QUOTA_EXCEEDED, PAYLOAD_FORMAT_INVALID = 0x00, 0x87, 0x97, 0x99


@dataclass(frozen=True)
class Published:
    """What the gateway sent."""

    topic: str
    payload: bytes

    def numbers(self) -> list[int]:
        """The sequence numbers of the samples in it, or of those a gap stands for."""
        document = json.loads(self.payload)
        if self.topic.endswith("/gap"):
            return list(range(document["from"], document["to"] + 1))
        return [sample["n"] for sample in (document if isinstance(document, list) else [document])]


@dataclass
class MoodyBroker:
    """Answers each PUBLISH as `answer` says; takes the status, and any number of connections."""

    answer: Callable[[Published], int]
    """Reason code for the PUBACK, or HANG_UP."""
    taken: list[Published] = field(default_factory=list)
    refused: list[Published] = field(default_factory=list)
    hangs_up_after_refusal: bool = False
    subscribing: int = 1
    """Reason code of each SUBACK; 1 is granted QoS 1."""
    connections: int = 0
    port: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, body = await self._read_packet(reader)
                if kind == CONNECT:
                    writer.write(bytes([CONNACK << 4, 3, 0, SUCCESS, 0]))
                elif kind == SUBSCRIBE:
                    writer.write(bytes([SUBACK << 4, 4]) + body[:2] + bytes([0, self.subscribing]))
                elif kind == PUBLISH and not self._take(body, writer):
                    break
        writer.close()

    def _take(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        (length,) = struct.unpack_from("!H", body)
        topic = body[2 : 2 + length].decode()
        packet_id = body[2 + length : 4 + length]
        message = Published(topic, body[5 + length :])  # one byte: no properties
        code = SUCCESS if topic == "e/status" else self.answer(message)
        if code == HANG_UP:
            self.refused.append(message)
            return False
        is_refused = code >= 0x80
        (self.refused if is_refused else self.taken).append(message)
        writer.write(bytes([PUBACK << 4, 4]) + packet_id + bytes([code, 0]))
        return not (is_refused and self.hangs_up_after_refusal)

    @staticmethod
    async def _read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
        (first,) = await reader.readexactly(1)
        length = shift = 0
        while True:
            (digit,) = await reader.readexactly(1)
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return first >> 4, await reader.readexactly(length)

    def numbers(self, device: str, *kinds: str) -> list[int]:
        """The numbers it took from a device, in order."""
        topics = {f"e/{device}/{kind}" for kind in kinds or ("state", "history", "gap")}
        return [n for message in self.taken if message.topic in topics for n in message.numbers()]
