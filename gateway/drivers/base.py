"""The driver boundary: bytes of one link in, events out, bytes for the device back."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from gateway.model import Event
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandEnded, CommandReturned
from gateway.protocol.update import Update, UpdateEvent

OnCommandEnd: TypeAlias = Callable[[CommandEnded | CommandReturned], None]
"""Told what became of a command: its end, or that its board left and it may be given again."""

OnUpdateEvent: TypeAlias = Callable[[UpdateEvent], None]
"""Told how an update gets on, and once, at last, how it ended."""


class StreamDriver(Protocol):
    """Speaks with whatever is on one serial port; pure, so it is fed time as well as bytes.

    The link calls `feed` with what it read, hands the events on, and writes `data_to_send`.
    It calls `tick` once `deadline_s` has passed. When `on_safe` of some `Readings` is called,
    the driver may have an acknowledgement to send: it then calls `on_output`.
    """

    on_output: "OutputSignal | None"
    """Set by the link; called (cheaply, any number of times) when there is something to send
    although nothing was fed, so that the link collects it with `data_to_send` soon."""

    @property
    def deadline_s(self) -> float | None:
        """Monotonic time at which `tick` wants to be called; None for never.

        Read it after each call, and after `on_output` was called.
        """

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        """Return what `data` completed, in wire order; never raise on bad bytes."""

    def tick(self, now_s: float) -> list[Event]:
        """Do what time makes due: repeat a request, notice silence; may move `deadline_s`."""

    def data_to_send(self) -> bytes:
        """Return bytes due to the device (acks, requests) and forget them."""

    def hold(self, *, paused: bool) -> None:
        """Tell boards to keep their samples for now (the outbox is nearly full), or go on."""

    def command(self, order: Order, now_s: float, on_end: OnCommandEnd) -> None:
        """Have the board of `order` do something at most once; `on_end` is called once.

        It may be called before this returns: the board is not there, for example.
        """

    def update(self, device: str, update: Update, now_s: float, on_event: OnUpdateEvent) -> None:
        """Update the board, if it is that device; `on_event` is told its end once.

        It may be called before this returns.
        """

    def abort_update(self, device: str, why: str, now_s: float) -> None:
        """End the update of that device, if one is under way here."""

    def close(self, now_s: float) -> list[Event]:
        """Say which devices went with the link; the driver is not used afterwards."""


class OutputSignal(Protocol):
    """A callback without arguments."""

    def __call__(self) -> None:
        """Note that there is output."""
