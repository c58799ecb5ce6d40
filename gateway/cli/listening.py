"""Listens on serial ports without ever sending: nobody's samples are taken from the gateway."""

from collections.abc import Callable

from gateway.drivers.base import OnCommandEnd, OnUpdateEvent, OutputSignal
from gateway.model import Event
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandReturned
from gateway.protocol.update import Update, UpdateEnded, UpdateOutcome


class ListenOnly:
    """A driver that hands the bytes on and answers nothing."""

    on_output: OutputSignal | None = None
    deadline_s: float | None = None

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self._on_data = on_data

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        """Hand `data` on."""
        del now_s
        self._on_data(data)
        return []

    def tick(self, now_s: float) -> list[Event]:
        """Do nothing."""
        del now_s
        return []

    def data_to_send(self) -> bytes:
        """Return nothing, ever."""
        return b""

    def command(self, order: Order, now_s: float, on_end: OnCommandEnd) -> None:
        """Do nothing: boards are not told anything."""
        del now_s
        on_end(CommandReturned(order.command_id, order.was_sent))

    def update(self, device: str, update: Update, now_s: float, on_event: OnUpdateEvent) -> None:
        """Do nothing: boards are not told anything."""
        del update, now_s
        on_event(UpdateEnded(device, UpdateOutcome.INTERRUPTED))

    def abort_update(self, device: str, why: str, now_s: float) -> None:
        """Do nothing: boards are not told anything."""
        del device, why, now_s

    def hold(self, *, paused: bool) -> None:
        """Do nothing: boards are not told anything."""
        del paused

    def close(self, now_s: float) -> list[Event]:
        """Do nothing."""
        del now_s
        return []
