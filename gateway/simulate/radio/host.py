"""Bumble's host of a radio chip, without the text it makes of each packet."""

import logging

from bumble import hci
from bumble.device import Device, DeviceConfiguration
from bumble.host import Host
from bumble.transport.common import TransportLostError, TransportSink, TransportSource

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


def make_device(source: TransportSource | None, sink: TransportSink, name: str) -> Device:
    """Return bumble's device on a chip; `power_on` it before use."""
    return Device(config=DeviceConfiguration(name=name), host=QuietHost(source, sink))
