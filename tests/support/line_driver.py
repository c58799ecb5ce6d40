"""A driver small enough to test links with: numbers come in as lines, and are acknowledged."""

from typing import TYPE_CHECKING

from gateway.drivers.base import OnCommandEnd, OnUpdateEvent
from gateway.model import Event, Fault, Gone, Readings, Sample
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandReturned
from gateway.protocol.update import Update, UpdateEnded, UpdateOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.drivers.base import OutputSignal


class NumberDriver:
    """Reads lines of decimal digits; answers each with `ok N` once it is safe.

    `boom` raises, as a driver must not; any other line is a Fault.
    """

    def __init__(self, ticked: "Callable[[], None]" = lambda: None) -> None:
        """`ticked` is called at each tick."""
        self.on_output: OutputSignal | None = None
        self.deadline_s: float | None = None
        self.to_send = bytearray()
        self.ticks: list[float] = []
        self.next_deadline_s: float | None = None
        """What a tick moves the deadline to."""
        self.is_silent_at_tick = False
        self.paused: list[bool] = []
        self.is_closed = False
        self._ticked = ticked
        self._rest = b""

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-100:]
        return [self._event(line, now_s) for line in lines]

    def tick(self, now_s: float) -> list[Event]:
        self.ticks.append(now_s)
        self._ticked()
        self.deadline_s = self.next_deadline_s
        return [Gone("board", "silent")] if self.is_silent_at_tick else []

    def data_to_send(self) -> bytes:
        output = bytes(self.to_send)
        self.to_send.clear()
        return output

    def hold(self, *, paused: bool) -> None:
        self.paused.append(paused)
        self.to_send += b"pause\n" if paused else b"go\n"

    def command(self, order: Order, now_s: float, on_end: OnCommandEnd) -> None:
        del now_s
        on_end(CommandReturned(order.command_id, order.was_sent))

    def update(self, device: str, update: Update, now_s: float, on_event: OnUpdateEvent) -> None:
        del update, now_s
        on_event(UpdateEnded(device, UpdateOutcome.INTERRUPTED))

    def abort_update(self, device: str, why: str, now_s: float) -> None:
        del device, why, now_s

    def close(self, now_s: float) -> list[Event]:
        del now_s
        self.is_closed = True
        return [Gone("board", "closed")]

    def _event(self, line: bytes, now_s: float) -> Event:
        if line == b"boom":
            raise ZeroDivisionError("a bug in the driver")
        if not line.isdigit():
            return Fault("bad_line", repr(line[:20]))
        number = int(line)

        def on_safe() -> None:
            self.to_send += b"ok %d\n" % number
            if self.on_output is not None:
                self.on_output()

        return Readings("board", (Sample("board", 1, number, now_s, {"n": number}),), on_safe)
