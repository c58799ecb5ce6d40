"""A driver talking over one opening of a line: bytes in, events on, answers out, deadlines kept."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.clock import Clock
from gateway.drivers.base import OnCommandEnd, OnUpdateEvent, StreamDriver
from gateway.errors import LinkError
from gateway.model import Event, Fault, Gone, Readings, Seen
from gateway.protocol.requests import Order
from gateway.protocol.update import Update
from gateway.status import LinkStatus

MAX_OUTPUT: Final = 16_384
"""Bytes held for a peer that takes none; more is dropped and counted, for the protocol repeats."""

_LEAST_DELAY_S = 0.01
"""A driver that leaves its deadline in the past is asked again after this, not at once."""

_SILENT = "silent"
"""The reason of a `Gone` that asks for the line to be opened anew."""


class Conversation(asyncio.Protocol):
    """Serves one driver until the line is lost; `ended` then says why.

    One timer serves all deadlines, and is moved only when one comes nearer: that one became later
    is found out when the timer fires. So a line costs no timer work, however often it is heard.
    """

    def __init__(  # noqa: PLR0913  # what the link has, handed down once
        self,
        driver: StreamDriver,
        status: LinkStatus,
        clock: Clock,
        *,
        settle_s: float,
        silence_s: float | None,
        write_now: Callable[[bytes], int],
        sink: Callable[[list[Event]], None],
        progress: Callable[[], None],
        driver_failed: Callable[[Exception], Fault],
        let_go: Callable[[], None],
    ) -> None:
        """Nothing is sent for `settle_s`; a line without a byte for `silence_s` is lost.

        `write_now` writes without waiting and returns how many bytes went. `progress` is called
        on every good datum, `driver_failed` with what the driver should not have raised,
        `let_go` when the transport does not use the line any more.
        """
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exception] = self._loop.create_future()
        """What ended it, to be raised: a LinkError, or a bug."""
        self._driver = driver
        self._status = status
        self._monotonic_s = clock.monotonic_s
        self._settle_s = settle_s
        self._silence_s = silence_s
        self._write_now = write_now
        self._sink = sink
        self._progress = progress
        self._driver_failed = driver_failed
        self._let_go = let_go
        self._transport: asyncio.WriteTransport | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._heard_s = clock.monotonic_s()
        self._is_settled = False
        self._is_output_noted = False
        self._is_stopped = False
        driver.on_output = self._note_output

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; what is to be sent waits until the settle time is over."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport
        self._settling = self._loop.call_later(self._settle_s, self._relay, self._settle)
        self._relay(self._arm, 0.0)

    def data_received(self, data: bytes) -> None:
        """Take what the port had."""
        self._relay(self._take, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the transport is done with the line; in the turn after it was told to."""
        del exc
        self._let_go()

    def line_failed(self, error: OSError) -> None:
        """End it: the line is gone."""
        self._end(LinkError(f"unplugged ({error.strerror})"))

    def fail(self, reason: Exception) -> None:
        """End it: the link knows why."""
        self._end(reason)

    def hold(self, *, paused: bool) -> None:
        """Tell the driver, and send what it has to say about it."""
        self._driver.hold(paused=paused)
        self._note_output()

    def command(self, order: Order, on_end: OnCommandEnd) -> None:
        """Have the driver give the board a command, and send it."""
        self._driver.command(order, self._monotonic_s(), on_end)
        self._note_output()

    def update(self, device: str, update: Update, on_event: OnUpdateEvent) -> None:
        """Have the driver update the board, if it is that device."""
        self._driver.update(device, update, self._monotonic_s(), on_event)
        self._note_output()

    def abort_update(self, device: str, why: str) -> None:
        """Have the driver end the update of that device, if one is under way."""
        self._driver.abort_update(device, why, self._monotonic_s())
        self._note_output()

    def stop(self) -> None:
        """Be silent from now on, and say which devices went."""
        self._is_stopped = True
        for timer in (self._settling, self._timer):
            if timer is not None:
                timer.cancel()
        self._driver.on_output = None
        self._sink(self._ask(self._driver.close, self._monotonic_s()))

    def _relay(self, step: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401  # of `step`
        """Do the work of a callback; what it raises is `run`'s, not the event loop's to log."""
        if self._is_stopped:
            return
        try:
            step(*arguments)
        except Exception as exc:  # noqa: BLE001  # raised again by `run`
            self._end(exc)

    def _ask(self, call: Callable[..., list[Event]], *arguments: object) -> list[Event]:
        """Ask the driver; a bug in it costs the input that met it, not the port."""
        try:
            return call(*arguments)
        except Exception as exc:  # noqa: BLE001  # untrusted input: logged once, counted
            return [self._driver_failed(exc)]

    def _take(self, data: bytes) -> None:
        now_s = self._heard_s = self._monotonic_s()
        self._status.bytes_in += len(data)
        events = self._ask(self._driver.feed, data, now_s)
        if events:
            self._hand_on(events)
        self._send()
        self._arm(0.0)

    def _hand_on(self, events: list[Event]) -> None:
        is_good = is_silent = False
        for event in events:
            kind = type(event)
            if kind is Readings or kind is Seen:
                is_good = True
            elif isinstance(event, Gone) and event.reason == _SILENT:
                is_silent = True
        if is_good:
            self._progress()
        self._sink(events)
        if is_silent:
            self._end(LinkError("the board fell silent"))

    def _settle(self) -> None:
        self._is_settled = True
        self._send()

    def _note_output(self) -> None:
        if not self._is_output_noted:
            self._is_output_noted = True
            self._loop.call_soon(self._relay, self._send_noted)

    def _send_noted(self) -> None:
        self._is_output_noted = False
        self._send()
        self._arm(0.0)

    def _send(self) -> None:
        if not self._is_settled or self._transport is None:
            return
        output = self._driver.data_to_send()
        if not output:
            return
        held = self._transport.get_write_buffer_size()
        if held + len(output) > MAX_OUTPUT:
            self._sink([Fault("output_dropped", f"{held} bytes wait for the board to take them")])
            return
        sent = 0 if held else self._write_now(output)
        if sent < len(output):
            self._transport.write(output[sent:])
        self._status.bytes_out += len(output)

    def _arm(self, least_delay_s: float) -> None:
        """Have the timer fire no later than the next deadline."""
        due_s = self._driver.deadline_s
        if self._silence_s is not None:
            silent_s = self._heard_s + self._silence_s
            due_s = silent_s if due_s is None else min(due_s, silent_s)
        if due_s is None:
            return
        if self._timer is not None:
            if self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer_due_s = due_s
        delay_s = max(due_s - self._monotonic_s(), least_delay_s)
        self._timer = self._loop.call_later(delay_s, self._relay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now_s = self._monotonic_s()
        deadline_s = self._driver.deadline_s
        if deadline_s is not None and deadline_s <= now_s:
            events = self._ask(self._driver.tick, now_s)
            if events:
                self._hand_on(events)
            self._send()
        if self._silence_s is not None and now_s - self._heard_s >= self._silence_s:
            self._end(LinkError(f"no byte for {self._silence_s:g} s"))
        else:
            self._arm(_LEAST_DELAY_S)

    def _end(self, reason: Exception) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
