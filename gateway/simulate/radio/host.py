"""Bumble's host of a radio chip, without the text it makes of each packet."""

import logging
from typing import Any

from bumble import hci
from bumble.att import ATT_CID
from bumble.device import Device, DeviceConfiguration
from bumble.host import Connection, Host
from bumble.smp import SMP_CID
from bumble.transport.common import TransportLostError, TransportSink, TransportSource

_SMP_PAIRING = (1, 2)
"""Pairing Request and Response."""

_SMP_BYTES = {1: 7, 2: 7, 3: 17, 4: 17, 5: 2, 6: 17, 7: 11, 8: 17, 9: 8, 10: 17, 11: 2, 12: 65}
_SMP_BYTES |= {13: 17, 14: 2}
"""How long each packet of SMP is, with its code."""

_CAPABILITIES = range(5)
_KEY_BYTES = range(7, 17)

_log = logging.getLogger(__name__)


class QuietHost(Host):
    """Takes what a chip or a stranger behind it sends; nonsense is dropped, never raised."""

    _is_lost = False

    def on_packet(self, packet: bytes) -> None:
        """Take an event or data from the chip."""
        try:
            parsed = hci.HCI_Packet.from_bytes(packet)
            is_reset = (
                isinstance(parsed, hci.HCI_Command_Complete_Event)
                and parsed.command_opcode == hci.HCI_RESET_COMMAND
            )
            if self.ready or is_reset:
                self.on_hci_packet(parsed)
        except Exception:  # noqa: BLE001 bytes of a stranger, parsed by a library that trusts them
            _log.debug("a simulated radio was sent nonsense", exc_info=True)

    def on_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Act on a packet of the two kinds that are in use."""
        match packet:
            case hci.HCI_Event():
                self.on_hci_event_packet(packet)
            case hci.HCI_AclDataPacket():
                self.on_hci_acl_data_packet(packet)

    def on_command_processed(
        self, event: hci.HCI_Command_Complete_Event[Any] | hci.HCI_Command_Status_Event
    ) -> None:
        """Take the answer to a command, unless who gave it was cancelled meanwhile.

        Bumble would take it for the answer to the next one.
        """
        command, response = self.pending_command, self.pending_response
        if command is None or response is None or response.done():
            return
        if command.op_code == event.command_opcode:
            response.set_result(event)

    def on_l2cap_pdu(self, connection: Connection, cid: int, pdu: bytes) -> None:
        """Take what a peer sent: the channels that are in use, and only what is well formed.

        Bumble acts on the rest in tasks that nobody looks after.
        """
        if cid == ATT_CID or (cid == SMP_CID and _is_plausible(pdu)):
            super().on_l2cap_pdu(connection, cid, pdu)

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Send a command or data to the chip.

        Raises:
            TransportLostError: the chip is gone, and would never answer.
        """
        if self._is_lost:
            raise TransportLostError("transport lost")
        if self.hci_sink is not None:
            self.hci_sink.on_packet(bytes(packet))

    def on_transport_lost(self) -> None:
        """End the command that waits, and all links: the chip is gone."""
        self._is_lost = True
        if self.pending_response is not None and not self.pending_response.done():
            self.pending_response.set_exception(TransportLostError("transport lost"))
        self.emit("flush")


def _is_plausible(pdu: bytes) -> bool:
    """Tell whether bumble can act on a packet of SMP (Core 5.4, Vol 3 Part H 3.3 to 3.6)."""
    if not pdu or len(pdu) != _SMP_BYTES.get(pdu[0], 0):
        return False
    if pdu[0] not in _SMP_PAIRING:
        return True
    capability, out_of_band, key_bytes = pdu[1], pdu[2], pdu[4]
    return capability in _CAPABILITIES and out_of_band <= 1 and key_bytes in _KEY_BYTES


def make_device(source: TransportSource | None, sink: TransportSink, name: str) -> Device:
    """Return bumble's device on a chip; `power_on` it before use."""
    return Device(config=DeviceConfiguration(name=name), host=QuietHost(source, sink))
