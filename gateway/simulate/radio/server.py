"""A virtual radio that other processes reach by TCP: gateways as hosts of an adapter, boards.

async with VirtualRadio() as radio:
    ...                     # `[ble] adapter = "virtual:127.0.0.1:PORT"`, radio.hci_address
    radio.drop_links()
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bumble import hci
from bumble.core import InvalidPacketError
from bumble.transport.common import PacketParser

from gateway.errors import LinkError
from gateway.simulate.faults import FaultPlan
from gateway.simulate.radio.advertisers import Advertiser
from gateway.simulate.radio.air import MOST_CHIPS, Air
from gateway.simulate.radio.chip import Chip
from gateway.simulate.radio.interference import Interference
from gateway.simulate.radio.peripheral import LINE_BYTES, BoardRadio

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
"""Where the radio listens: what it offers is for this machine."""

_READ_BYTES = 4096
"""A host is read in pieces of this size, so that it asks for little before it is told to wait."""


_SYSTEM_BYTES = 32768
"""What the system keeps for a peer that does not read; after that it is on us."""


class VirtualRadio:
    """The air, and the doors to it, for the length of an `async with`."""

    def __init__(
        self, plan: FaultPlan | None = None, *, hci_port: int = 0, board_port: int = 0
    ) -> None:
        """Prepare, without listening yet.

        Args:
            plan: what goes wrong; its parts for others than the radio are not for us.
            hci_port: where gateways connect to; 0 lets the system choose.
            board_port: where boards connect to; 0 lets the system choose.
        """
        self.air = Air()
        self.faults = Interference(self.air, plan or FaultPlan(), self._drop_hosts)
        """What else can go wrong than `drop_links`."""
        self.hci_address = f"{HOST}:{hci_port}"
        """Where each TCP client has an adapter of its own; final once the context is entered."""
        self.board_address = f"{HOST}:{board_port}"
        """What BOARD_RADIO is for the firmware; final once the context is entered."""
        self._ports = (hci_port, board_port)
        self._hosts: set[_AdapterHost] = set()
        self._boards: set[BoardRadio] = set()
        self._advertisers: list[Advertiser] = []
        self._tasks = asyncio.TaskGroup()
        self._servers: list[asyncio.Server] = []
        self._adapters = 0
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            LinkError: a port is taken.
        """
        hush()
        loop = asyncio.get_running_loop()
        hci_port, board_port = self._ports
        try:
            hosts = await loop.create_server(self._welcome_host, HOST, hci_port)
            self._servers.append(hosts)
            boards = await asyncio.start_server(
                self._welcome_board, HOST, board_port, limit=LINE_BYTES
            )
            self._servers.append(boards)
        except OSError as exc:
            self._close_servers()
            raise LinkError(f"virtual radio on ports {self._ports}: {exc.strerror}") from exc
        self.hci_address = f"{HOST}:{hosts.sockets[0].getsockname()[1]}"
        self.board_address = f"{HOST}:{boards.sockets[0].getsockname()[1]}"
        await self._tasks.__aenter__()
        self.faults.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take everything off the air; what the block raised is passed on as it is."""
        self.faults.calm()
        self._close_servers()
        for advertiser in self._advertisers:
            advertiser.stop()
        self._drop_hosts()
        for board in self._boards:
            board.close()
        await self._tasks.__aexit__(None, None, None)
        await asyncio.sleep(0)  # the turn in which the sockets are closed
        for chip in self.air.chips:
            chip.leave()

    def advertise(self, advertiser: Advertiser) -> Advertiser:
        """Put a sensor on the air, until it is stopped or the radio ends; return it."""
        self._advertisers.append(advertiser)
        advertiser.start(self.air)
        return advertiser

    @property
    def addresses(self) -> set[str]:
        """Of boards and adapters that are on the air."""
        return {chip.public_address.to_string(with_type_qualifier=False) for chip in self.air.chips}

    @property
    def waiting_bytes(self) -> int:
        """What gateways were told and have not read yet."""
        return sum(host.waiting_bytes for host in self._hosts)

    def drop_links(self, address: str = "") -> int:
        """End all links, or those of one board or adapter; return how many there were."""
        dropped = 0
        for chip in self.air.chips:
            if address and str(chip.public_address).partition("/")[0] != address.upper():
                continue
            for connection in tuple(chip.le_connections.values()):
                self.air.drop(chip, connection, hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
                dropped += 1
        return dropped

    def _drop_hosts(self) -> None:
        for host in tuple(self._hosts):
            host.close()

    def _close_servers(self) -> None:
        self._is_closed = True
        for server in self._servers:
            server.close()

    def _welcome_board(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Give the next board a radio, unless there are too many."""
        if self._is_closed or len(self._boards) >= MOST_CHIPS:
            writer.transport.abort()
        else:
            _limit_buffer(writer.transport)
            board = BoardRadio(self.air, reader, writer)
            self._boards.add(board)
            self._tasks.create_task(self._serve_board(board))

    async def _serve_board(self, board: BoardRadio) -> None:
        try:
            await board.run()
        finally:
            self._boards.discard(board)

    def _welcome_host(self) -> "_AdapterHost":
        """Give the next TCP client an adapter."""
        return _AdapterHost(self._make_adapter, self._hosts)

    def _make_adapter(self) -> Chip | None:
        """Make an adapter with an address that no other has had; None if there shall be none."""
        if self._is_closed or self.faults.is_unplugged or len(self._hosts) >= MOST_CHIPS:
            return None
        self._adapters = self._adapters % 0xFFFFFF + 1
        octets = f"{self._adapters:06X}"
        return Chip(self.air, f"00:1A:7D:{octets[:2]}:{octets[2:4]}:{octets[4:]}")


class _AdapterHost(asyncio.BufferedProtocol):
    """The host of an adapter at the other end of a TCP connection, which speaks H4."""

    def __init__(self, make_adapter: Callable[[], Chip | None], hosts: "set[_AdapterHost]") -> None:
        self._make_adapter = make_adapter
        self._hosts = hosts
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._parser = PacketParser()
        self._transport: asyncio.Transport | None = None
        self._chip: Chip | None = None

    @property
    def waiting_bytes(self) -> int:
        """What it was told and has not read yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Put an adapter on the air."""
        chip = self._make_adapter()
        if chip is None or not isinstance(transport, asyncio.Transport):
            transport.close()
            return
        _limit_buffer(transport)
        self._transport = transport
        self._hosts.add(self)
        self._chip = chip
        self._chip.host = self
        self._parser.set_packet_sink(self._chip)

    def get_buffer(self, _size_hint: int) -> memoryview:
        """Return where to read into."""
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        """Obey what was read; who sends no HCI is cut off, as it cannot be in step again."""
        try:
            self._parser.feed_data(bytes(self._buffer[:count]))
        except InvalidPacketError:
            self.close()

    def on_packet(self, packet: bytes) -> None:
        """Tell the host something."""
        if self._transport is not None:
            self._transport.write(packet)

    def pause_writing(self) -> None:
        """Let what is meant for the host wait, and do not hear it meanwhile: it does not read."""
        if self._transport is not None and self._chip is not None:
            self._chip.has_room = False
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the host reads again."""
        if self._transport is not None and self._chip is not None:
            self._chip.has_room = True
            self._transport.resume_reading()
            self._chip.air.pump()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Take the adapter off the air: its host is gone."""
        self._hosts.discard(self)
        if self._chip is not None:
            self._chip.leave()
        self._chip = self._transport = None

    def close(self) -> None:
        """End the connection, whatever waits for the host."""
        if self._transport is not None:
            self._transport.abort()


def _limit_buffer(transport: asyncio.BaseTransport) -> None:
    door = transport.get_extra_info("socket")
    door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SYSTEM_BYTES)


def hush() -> None:
    """Keep bumble from logging what strangers send, and radios that vanish: both are wanted."""
    logging.getLogger("bumble").setLevel(logging.CRITICAL)
