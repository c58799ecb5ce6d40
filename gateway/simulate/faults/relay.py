"""One connection through the proxy: what comes, what of it is passed on, and when."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from gateway.simulate.faults.packets import Packet, PacketKind, PacketSplitter
from gateway.simulate.faults.plan import BrokerRates

_CONNECT_TIMEOUT_S = 10.0
_FLUSH_TIMEOUT_S = 1.0
"""How long the last bytes of a connection that ended in order may take to leave."""

_READ_SIZE = 65_536
_MAX_PIECES = 64
"""Pieces of at most `_READ_SIZE` on the way in one direction; then the sender has to wait."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset: what is on the way is lost, as when a router dies."""


class Direction(Enum):
    """Where a packet goes."""

    TO_BROKER = "to broker"
    TO_CLIENT = "to client"


@dataclass(frozen=True, slots=True)
class Passage:
    """A packet that is about to be passed on, or dropped."""

    connection: int
    """Number of the connection, from 1."""
    direction: Direction
    packet: Packet
    protocol_level: int
    """What the client's CONNECT asked for: see `Packet.publication`."""
    at_s: float
    """When, on the loop's clock; the receiver cannot have it earlier."""
    is_dropped: bool


OnPacket: TypeAlias = Callable[[Passage], None]


@dataclass(slots=True)
class ProxyCounts:
    """What passed, and what was done to it."""

    connections: int = 0
    broker_away: int = 0
    """Connections for which the broker could not be reached."""
    cuts: int = 0
    """Connections that were ended."""
    stalls: int = 0
    pubacks: int = 0
    """Those that were passed on."""
    pubacks_dropped: int = 0
    bytes_to_broker: int = 0
    bytes_to_client: int = 0


def _open_gates() -> dict[Direction, asyncio.Event]:
    gates = {direction: asyncio.Event() for direction in Direction}
    for gate in gates.values():
        gate.set()
    return gates


@dataclass(slots=True)
class Conditions:
    """What holds for all connections of a proxy."""

    rates: BrokerRates
    chance: random.Random
    on_packet: OnPacket | None
    counts: ProxyCounts = field(default_factory=ProxyCounts)
    gates: dict[Direction, asyncio.Event] = field(default_factory=_open_gates)
    """Set while packets pass."""
    pubacks_to_drop: int = 0

    def loses_puback(self) -> bool:
        """Decide whether the PUBACK at hand vanishes."""
        is_lost = self.pubacks_to_drop > 0
        if is_lost:
            self.pubacks_to_drop -= 1
        else:
            is_lost = self.chance.random() < self.rates.puback_drop
        self.counts.pubacks_dropped += is_lost
        self.counts.pubacks += not is_lost
        return is_lost


class _EndedError(Exception):
    """One side has hung up: the other is to be told."""


_Pipe: TypeAlias = "asyncio.Queue[tuple[float, list[Packet | bytes]] | None]"
"""When each piece is due, and its parts; None for the end."""


class ProxiedConnection:
    """One client and its way to the broker."""

    def __init__(self, conditions: Conditions, client: socket.socket, number: int) -> None:
        self.number = number
        self.cancel: Callable[[], object] = lambda: None
        """Ends `run`; set by who runs it."""
        self._conditions = conditions
        self._client = client
        self._is_begun = False
        self._writers: list[asyncio.StreamWriter] = []
        self._protocol_level = 0
        mean = conditions.rates.broker_cut_bytes
        self._bytes_left = conditions.chance.uniform(0.5, 1.5) * mean if mean else float("inf")

    async def run(self, target: tuple[str, int]) -> None:
        """Pass on what comes, until one side ends the connection or it is cut."""
        self._is_begun = True
        try:
            await self._run(*target)
        except* (_EndedError, OSError):
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                    for writer in self._writers:
                        writer.close()
                    for writer in self._writers:
                        await writer.wait_closed()
        finally:
            self._reset()

    def cut(self) -> None:
        """Reset both ends."""
        self._reset()
        self.cancel()

    def _reset(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError):
                end = writer.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
        if not self._is_begun:
            self._client.close()  # a task that is cancelled before its first step closes nothing

    async def _run(self, host: str, port: int) -> None:
        from_client, to_client = await asyncio.open_connection(sock=self._client)
        self._writers.append(to_client)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                from_broker, to_broker = await asyncio.open_connection(host, port)
        except OSError:  # TimeoutError is one too
            self._conditions.counts.broker_away += 1
            raise
        self._writers.append(to_broker)
        async with asyncio.TaskGroup() as tasks:
            for reader, direction, writer in (
                (from_client, Direction.TO_BROKER, to_broker),
                (from_broker, Direction.TO_CLIENT, to_client),
            ):
                pipe: _Pipe = asyncio.Queue(_MAX_PIECES)
                tasks.create_task(self._read(reader, pipe))
                tasks.create_task(self._write(pipe, direction, writer))

    async def _read(self, reader: asyncio.StreamReader, pipe: _Pipe) -> None:
        splitter = PacketSplitter()
        loop = asyncio.get_running_loop()
        while data := await reader.read(_READ_SIZE):
            due_s = loop.time() + self._conditions.rates.broker_latency_s
            await pipe.put((due_s, splitter.feed(data)))
        await pipe.put(None)

    async def _write(self, pipe: _Pipe, direction: Direction, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        gate = self._conditions.gates[direction]
        while (piece := await pipe.get()) is not None:
            due_s, parts = piece
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            for part in parts:
                await gate.wait()
                out = self._see(direction, part) if isinstance(part, Packet) else part
                self._pass_on(direction, writer, out)
            await writer.drain()
        raise _EndedError

    def _see(self, direction: Direction, packet: Packet) -> bytes:
        """Return what is passed on of a packet."""
        conditions, kind = self._conditions, packet.kind
        is_dropped = False
        if kind is PacketKind.CONNECT:
            self._protocol_level = packet.protocol_level
        elif kind is PacketKind.PUBACK and direction is Direction.TO_CLIENT:
            is_dropped = conditions.loses_puback()
        if conditions.on_packet is not None:
            at_s = asyncio.get_running_loop().time()
            conditions.on_packet(
                Passage(self.number, direction, packet, self._protocol_level, at_s, is_dropped)
            )
        return b"" if is_dropped else packet.raw

    def _pass_on(self, direction: Direction, writer: asyncio.StreamWriter, out: bytes) -> None:
        is_last = len(out) > self._bytes_left
        if is_last:
            out = out[: int(self._bytes_left)]
        self._bytes_left -= len(out)
        counts = self._conditions.counts
        if direction is Direction.TO_BROKER:
            counts.bytes_to_broker += len(out)
        else:
            counts.bytes_to_client += len(out)
        writer.write(out)
        if is_last:
            counts.cuts += 1
            raise _EndedError
