"""A simulated radio chip: what bumble's controller does, on an air that can fail."""

import asyncio
import random
from dataclasses import dataclass
from typing import cast

from bumble import hci
from bumble.controller import Connection, Controller, LegacyAdvertiser
from bumble.host import Host

from gateway.simulate.radio.air import Air, Lost, Transmission

MOST_ADVERT_BYTES = 31
"""AD structures that a legacy advert holds (Core 5.4, Vol 6 Part B 2.3.1.1)."""

_LEAST_INTERVAL_S = 0.02
"""Advertising interval, for whoever asks for less (Core 5.4, Vol 4 Part E 7.8.5)."""

_INTERVAL_UNIT_S = 0.000625

_MOST_DELAY_S = 0.01
"""advDelay: what keeps two advertisers from meeting each time (Core 5.4, Vol 6 Part B 4.4.2.2)."""

_COMMANDS = frozenset({
    hci.HCI_DISCONNECT_COMMAND,
    hci.HCI_SET_EVENT_MASK_COMMAND,
    hci.HCI_SET_EVENT_MASK_PAGE_2_COMMAND,
    hci.HCI_RESET_COMMAND,
    hci.HCI_READ_LOCAL_VERSION_INFORMATION_COMMAND,
    hci.HCI_READ_LOCAL_SUPPORTED_COMMANDS_COMMAND,
    hci.HCI_READ_LOCAL_SUPPORTED_FEATURES_COMMAND,
    hci.HCI_READ_BUFFER_SIZE_COMMAND,
    hci.HCI_READ_BD_ADDR_COMMAND,
    hci.HCI_LE_SET_EVENT_MASK_COMMAND,
    hci.HCI_LE_READ_BUFFER_SIZE_COMMAND,
    hci.HCI_LE_READ_LOCAL_SUPPORTED_FEATURES_COMMAND,
    hci.HCI_LE_SET_RANDOM_ADDRESS_COMMAND,
    hci.HCI_LE_SET_ADVERTISING_PARAMETERS_COMMAND,
    hci.HCI_LE_SET_ADVERTISING_DATA_COMMAND,
    hci.HCI_LE_SET_SCAN_RESPONSE_DATA_COMMAND,
    hci.HCI_LE_SET_ADVERTISING_ENABLE_COMMAND,
    hci.HCI_LE_SET_SCAN_PARAMETERS_COMMAND,
    hci.HCI_LE_SET_SCAN_ENABLE_COMMAND,
    hci.HCI_LE_CREATE_CONNECTION_COMMAND,
    hci.HCI_LE_CREATE_CONNECTION_CANCEL_COMMAND,
    hci.HCI_LE_CONNECTION_UPDATE_COMMAND,
    hci.HCI_LE_READ_REMOTE_FEATURES_COMMAND,
    hci.HCI_LE_RAND_COMMAND,
    hci.HCI_LE_ENABLE_ENCRYPTION_COMMAND,
    hci.HCI_LE_LONG_TERM_KEY_REQUEST_REPLY_COMMAND,
    hci.HCI_LE_LONG_TERM_KEY_REQUEST_NEGATIVE_REPLY_COMMAND,
    hci.HCI_LE_READ_SUGGESTED_DEFAULT_DATA_LENGTH_COMMAND,
    hci.HCI_LE_WRITE_SUGGESTED_DEFAULT_DATA_LENGTH_COMMAND,
})  # fmt: skip
"""What a central or a peripheral on legacy adverts needs; others are unknown, also bumble's."""


@dataclass
class _Advertiser(LegacyAdvertiser):
    """Sends the adverts of a chip's host."""

    def _on_timer_fired(self) -> None:
        self.send_advertising_data()
        interval_s = max(self.advertising_interval_min * _INTERVAL_UNIT_S, _LEAST_INTERVAL_S)
        chip = cast("Chip", self.controller)
        self.timer_handle = asyncio.get_running_loop().call_later(
            interval_s + chip.chance.uniform(0, _MOST_DELAY_S), self._on_timer_fired
        )

    def send_advertising_data(self) -> None:
        if self.enabled:
            chip = cast("Chip", self.controller)
            kinds = hci.HCI_LE_Set_Advertising_Parameters_Command.AdvertisingType
            scan_response = b""
            if self.advertising_type in {kinds.ADV_IND, kinds.ADV_SCAN_IND}:
                scan_response = self.scan_response_data[:MOST_ADVERT_BYTES]
            transmission = Transmission(
                self.address,
                self.advertising_data[:MOST_ADVERT_BYTES],
                scan_response,
                chip.rssi_dbm,
                self.advertising_type == kinds.ADV_IND,
            )
            chip.air.advertise(transmission, chip)


class Chip(Controller):
    """On the air from its making until `leave`; its host speaks HCI to it by `on_packet`."""

    le_features = (
        hci.LeFeatureMask.LE_ENCRYPTION
        | hci.LeFeatureMask.LE_PING
        | hci.LeFeatureMask.LE_DATA_PACKET_LENGTH_EXTENSION
    )
    le_acl_data_packet_length = 251
    total_num_le_acl_data_packets = 12
    """As many as an ESP32's controller has by default."""
    supported_commands = set(_COMMANDS)  # noqa: RUF012 the base class declares it so

    def __init__(self, air: Air, address: str) -> None:
        """`address` is the chip's public one."""
        public = hci.Address(address, hci.Address.PUBLIC_DEVICE_ADDRESS)
        super().__init__(address, link=air, public_address=public)
        self.air = air
        self.rssi_dbm = -60
        """How strong others hear it."""
        self.has_room = True
        """Whether its host reads what it is told."""
        self.has_left = False
        self.chance = random.Random(address)  # noqa: S311 spreads adverts, guards no secret
        self.le_legacy_advertiser = _Advertiser(self)

    @property
    def listens(self) -> bool:
        """Whether adverts matter to it."""
        return self.le_scan_enable or self.pending_le_connection is not None

    @property
    def is_peripheral(self) -> bool:
        """Whether somebody is connected to it."""
        return any(link.role == hci.Role.PERIPHERAL for link in self.le_connections.values())

    def accepts(self, address: hci.Address) -> bool:
        """Tell whether it can be connected to by this address now."""
        advertiser = self.le_legacy_advertiser
        kinds = hci.HCI_LE_Set_Advertising_Parameters_Command.AdvertisingType
        is_connectable = advertiser.enabled and advertiser.advertising_type == kinds.ADV_IND
        return is_connectable and advertiser.address == address

    def leave(self) -> None:
        """Go off the air; peers lose their links, as by a supervision timeout."""
        if self.has_left:
            return
        self._fall_silent(hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
        self.has_left = True
        self.air.remove_controller(self)
        host, self.host = self.host, None
        if isinstance(host, Host):
            host.on_transport_lost()  # type: ignore[no-untyped-call]  # bumble's has no annotations

    def hear(self, transmission: Transmission) -> None:
        """Tell the host of an advert, and make the link it waits for."""
        if self.le_scan_enable:
            self._report(transmission)
        pending = self.pending_le_connection
        if pending is None or not transmission.is_connectable:
            return
        if pending.peer_address == transmission.address:
            self.create_le_connection(transmission.address)

    def complete(self, connection: Connection) -> None:
        """Tell the host that one of its packets is gone."""
        self.send_hci_packet(
            hci.HCI_Number_Of_Completed_Packets_Event(
                connection_handles=[connection.handle], num_completed_packets=[1]
            )
        )

    # What the base class does, changed.

    def on_packet(self, packet: bytes) -> None:
        """Obey the host; what makes no sense is counted."""
        self.air.guard(lambda: self.on_hci_packet(hci.HCI_Packet.from_bytes(packet)))

    def on_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Do as the base class, without making a text of each packet."""
        match packet:
            case hci.HCI_AclDataPacket():
                self.on_hci_acl_data_packet(packet)
            case hci.HCI_Command() if packet.op_code in _COMMANDS:
                self.on_hci_command_packet(packet)
            case hci.HCI_Command():
                self._send_hci_command_status(
                    hci.HCI_ErrorCode.UNKNOWN_HCI_COMMAND_ERROR, packet.op_code
                )
            case _:
                self.air.lost[Lost.NONSENSE] += 1

    def on_hci_acl_data_packet(self, packet: hci.HCI_AclDataPacket) -> None:
        """Put a packet of the host on the air."""
        connection = self.find_le_connection_by_handle(packet.connection_handle)
        if connection is None:
            self.air.lost[Lost.PACKET_NO_LINK] += 1
        elif len(packet.data) > self.le_acl_data_packet_length:
            self.air.lost[Lost.NONSENSE] += 1
        else:
            self.air.carry(self, connection, packet)

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Tell the host something, in its next turn."""
        if self.hci_sink is not None:
            asyncio.get_running_loop().call_soon(self._tell, bytes(packet))

    def on_le_disconnected(self, connection: Connection, reason: int) -> None:
        """End a link, once."""
        if self.le_connections.get(connection.peer_address) is connection:
            self.air.forget(self, connection)
            super().on_le_disconnected(connection, reason)

    def on_hci_reset_command(
        self, _command: hci.HCI_Reset_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Begin anew: no links, no adverts, no scan."""
        self._fall_silent(hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_le_create_connection_command(
        self, command: hci.HCI_LE_Create_Connection_Command
    ) -> None:
        """Wait for the peer's next advert; refused if there is a link to it."""
        if command.peer_address in self.le_connections:
            self._send_hci_command_status(
                hci.HCI_ErrorCode.CONNECTION_ALREADY_EXISTS_ERROR, command.op_code
            )
        else:
            super().on_hci_le_create_connection_command(command)

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Stop waiting; the wait ends with an event, as it should and bumble's does not."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        ended = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address.address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, ended)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def _tell(self, packet: bytes) -> None:
        sink = self.hci_sink
        if sink is not None:
            self.air.guard(lambda: sink.on_packet(packet))

    def _report(self, transmission: Transmission) -> None:
        kinds = hci.HCI_LE_Advertising_Report_Event.EventType
        kind = kinds.ADV_IND if transmission.is_connectable else kinds.ADV_NONCONN_IND
        parts = [(kind, transmission.data)]
        if transmission.scan_response:
            if not transmission.is_connectable:
                parts[0] = (kinds.ADV_SCAN_IND, transmission.data)
            if self.le_scan_type:
                parts.append((kinds.SCAN_RSP, transmission.scan_response))
        self.send_hci_packet(
            hci.HCI_LE_Advertising_Report_Event(
                [
                    hci.HCI_LE_Advertising_Report_Event.Report(
                        event_type=kind,
                        address_type=transmission.address.address_type,
                        address=transmission.address,
                        data=data,
                        rssi=transmission.rssi_dbm,
                    )
                    for kind, data in parts
                ]
            )
        )

    def _fall_silent(self, reason: hci.HCI_ErrorCode) -> None:
        self.le_legacy_advertiser.stop()
        self.le_scan_enable = False
        self.pending_le_connection = None
        for connection in tuple(self.le_connections.values()):
            self.air.drop(self, connection, reason)
