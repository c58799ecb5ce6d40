"""The air between simulated radios: who hears whom, and the links between them."""

import asyncio
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from bumble import hci, ll
from bumble.controller import Connection, Controller
from bumble.core import PhysicalTransport
from bumble.link import LocalLink

if TYPE_CHECKING:
    from gateway.simulate.radio.chip import Chip

_log = logging.getLogger(__name__)

MOST_CHIPS = 128
"""Radios that fit into the air, so that who opens connections without end is turned away."""


class Lost(Enum):
    """What went nowhere, and why; counted in `Air.lost`."""

    ADVERT_FAULT = "advert_fault"
    """Lost on the way, as a fault."""
    MUTED = "muted"
    """What a board said, or was told, that does not answer; a fault."""
    ADVERT_NO_ROOM = "advert_no_room"
    """The host that scans did not read its adapter's events."""
    PACKET_NO_LINK = "packet_no_link"
    """Sent to a link that was down by then."""
    PACKET_NO_CREDIT = "packet_no_credit"
    """A host sent more than its controller had told it to."""
    WRITE_UNREAD = "write_unread"
    """A board did not read what centrals wrote to it."""
    NONSENSE = "nonsense"
    """A host or a peer sent what made no sense."""


@dataclass(frozen=True, slots=True)
class Transmission:
    """One advertisement on the air."""

    address: hci.Address
    data: bytes
    """AD structures, at most 31 bytes."""
    scan_response: bytes = b""
    """What an active scanner is answered; empty: no answer."""
    rssi_dbm: int = -60
    is_connectable: bool = False


@dataclass(slots=True)
class _Lane:
    """One direction of a link: packets of a host that the other end has not taken yet."""

    chip: "Chip"
    connection: Connection
    packets: deque[hci.HCI_AclDataPacket] = field(default_factory=deque)
    not_before_s: float = 0.0
    timer: asyncio.TimerHandle | None = None


class Air(LocalLink):
    """Carries adverts and packets between chips; works by callbacks of the running loop.

    A packet waits at its sender while the receiver's host does not read, as a radio's flow control
    has it; so what is on the air is bounded by the credits of each chip.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # bumble's has no annotations
        self.lost: Counter[Lost] = Counter()
        self.loses_advert: Callable[[Transmission], bool] = lambda _: False
        """Whether this advert is lost for the one who would hear it now; a fault."""
        self.muted: set[hci.Address] = set()
        """Chips whose links are up, and carry nothing; a fault."""
        self.holds: Callable[[hci.Address, hci.Address], float] = lambda _from, _to: 0.0
        """Seconds a packet from one to the other takes; infinite: it stays where it is. A fault."""
        self._lanes: dict[tuple[Chip, int], _Lane] = {}

    @property
    def chips(self) -> "Iterator[Chip]":
        """Those on the air now."""
        from gateway.simulate.radio.chip import Chip  # noqa: PLC0415 a chip knows its air

        return (chip for chip in tuple(self.controllers) if isinstance(chip, Chip))

    def make_room(self, address: str) -> None:
        """Take a chip with this address off the air, for the one that has it now."""
        for chip in self.chips:
            if str(chip.public_address).partition("/")[0] == address.upper():
                chip.leave()

    def advertise(self, transmission: Transmission, sender: Controller | None = None) -> int:
        """Let every chip but the sender's hear an advert, if it listens; return how many did."""
        heard = 0
        for chip in self.chips:
            if chip is sender or not chip.listens:
                continue
            if self.loses_advert(transmission):
                self.lost[Lost.ADVERT_FAULT] += 1
            elif not chip.has_room:
                self.lost[Lost.ADVERT_NO_ROOM] += 1
            else:
                heard += 1
                self._harmless(chip.hear, transmission)
        return heard

    def carry(self, chip: "Chip", connection: Connection, packet: hci.HCI_AclDataPacket) -> None:
        """Take a packet of a chip's host, for the other end of a link."""
        lane = self._lanes.get((chip, connection.handle))
        if lane is None or lane.connection is not connection:
            lane = self._lanes[chip, connection.handle] = _Lane(chip, connection)
        if len(lane.packets) >= chip.total_num_le_acl_data_packets:
            self.lost[Lost.PACKET_NO_CREDIT] += 1
            return
        if not lane.packets:
            lane.not_before_s = asyncio.get_running_loop().time() + self._hold_s(connection)
        lane.packets.append(packet)
        self._pump(lane)

    def pump(self) -> None:
        """Move what waited: a host reads again, or a fault is over."""
        for lane in tuple(self._lanes.values()):
            now_s = asyncio.get_running_loop().time()
            lane.not_before_s = min(lane.not_before_s, now_s + self._hold_s(lane.connection))
            self._pump(lane)

    def other_end(self, connection: Connection) -> "tuple[Chip, Connection] | None":
        """Return the link as the peer sees it; None if the peer has none."""
        for chip in self.chips:
            other = chip.le_connections.get(connection.self_address)
            if other is not None and other.self_address == connection.peer_address:
                return chip, other
        return None

    def drop(self, chip: "Chip", connection: Connection, reason: hci.HCI_ErrorCode) -> None:
        """End a link at both its ends, as if its peers could not hear each other any more."""
        other = self.other_end(connection)
        chip.on_le_disconnected(connection, reason)
        if other is not None:
            other[0].on_le_disconnected(other[1], reason)

    def forget(self, chip: "Chip", connection: Connection) -> None:
        """Drop what is on the way over a link that is down."""
        lane = self._lanes.get((chip, connection.handle))
        if lane is not None and lane.connection is connection:
            del self._lanes[chip, connection.handle]
            if lane.timer is not None:
                lane.timer.cancel()

    def guard(self, callback: Callable[[], None]) -> None:
        """Run what the bytes of a host or a peer set going; nonsense is counted, never raised."""
        self._harmless(callback)

    # What the base class asks for.

    def send_acl_data(
        self,
        sender_controller: Controller,
        destination_address: hci.Address,
        transport: PhysicalTransport,
        data: bytes,
    ) -> None:
        """Hand a whole packet of L2CAP to the other end of a link."""
        if self.muted & {destination_address, sender_controller.public_address}:
            self.lost[Lost.MUTED] += 1
            return
        connection = sender_controller.le_connections.get(destination_address)
        other = None if connection is None else self.other_end(connection)
        if connection is None or other is None:
            self.lost[Lost.PACKET_NO_LINK] += 1
            return
        other[0].on_link_acl_data(connection.self_address, transport, data)

    def send_advertising_pdu(
        self, sender_controller: Controller, packet: ll.AdvertisingPdu
    ) -> None:
        """Ask for a link; adverts come by `advertise`."""
        if isinstance(packet, ll.ConnectInd):
            loop = asyncio.get_running_loop()
            loop.call_soon(self._harmless, self._connect, sender_controller, packet)

    def send_ll_control_pdu(
        self,
        sender_address: hci.Address,
        receiver_address: hci.Address,
        packet: ll.ControlPdu,
    ) -> None:
        """Pass on what two controllers tell each other; nothing if the link is down."""
        for chip in self.chips:
            connection = chip.le_connections.get(sender_address)
            if connection is not None and connection.self_address == receiver_address:
                loop = asyncio.get_running_loop()
                loop.call_soon(self._harmless, chip.on_ll_control_pdu, sender_address, packet)
                return

    def _connect(self, initiator: Controller, packet: ll.ConnectInd) -> None:
        """Make the peripheral's end of a link; there is none if it went away meanwhile."""
        connection = initiator.le_connections.get(packet.advertiser_address)
        if connection is None:
            return
        for chip in self.chips:
            if chip is not initiator and chip.accepts(packet.advertiser_address):
                if (stale := chip.le_connections.get(packet.initiator_address)) is not None:
                    chip.on_le_disconnected(stale, hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
                chip.on_le_connect_ind(packet)
                return
        initiator.on_le_disconnected(
            connection, hci.HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR
        )

    def _pump(self, lane: _Lane) -> None:
        loop = asyncio.get_running_loop()
        while lane.packets:
            other = self.other_end(lane.connection)
            if other is not None and not other[0].has_room:
                return
            if (wait_s := lane.not_before_s - loop.time()) > 0:
                if lane.timer is not None:
                    lane.timer.cancel()
                lane.timer = None
                if wait_s != math.inf:
                    lane.timer = loop.call_later(wait_s, self._pump, lane)
                return
            packet = lane.packets.popleft()
            self._harmless(lane.connection.assembler.feed_packet, packet)
            lane.chip.complete(lane.connection)
            lane.not_before_s = loop.time() + self._hold_s(lane.connection)

    def _hold_s(self, connection: Connection) -> float:
        return self.holds(connection.self_address, connection.peer_address)

    def _harmless(self, callback: Callable[..., None], *args: object) -> None:
        try:
            callback(*args)
        except Exception:  # noqa: BLE001 bytes of a stranger, parsed by a library that trusts them
            self.lost[Lost.NONSENSE] += 1
            _log.debug("a simulated radio was sent nonsense", exc_info=True)
