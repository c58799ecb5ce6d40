"""The serial line of a simulated board: a pty, and what goes wrong on the way."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.simulate.faults import (
    FaultPlan,
    LineFaults,
    LinkAction,
    WireCounts,
    WireFaults,
    link_events,
)
from gateway.simulate.faults.timeline import Timeline
from gateway.simulate.pty_port import PtyPort

_RELEASE_EVERY_S = 2.0
"""How often a port on which the gateway is silent is looked after: see `PtyPort.release`."""


@dataclass(slots=True)
class WireStatus:
    """What one board's wire carried and lost."""

    from_board: WireCounts
    to_board: WireCounts
    bytes_sent: int = 0
    """Bytes the pty took from the board."""
    bytes_received: int = 0
    """Bytes the gateway sent."""
    bytes_dropped: int = 0
    """Bytes of the board that nobody took: nobody reads the port, it is unplugged or stalled."""
    events: dict[LinkAction, int] = field(default_factory=dict)
    """What happened to the wire, by plan or by call, and how often."""


class Wire:
    """Carries bytes between a board and the gateway; works by callbacks of the running loop.

    The board never waits: what the port does not take is dropped, as a UART does when nobody
    listens. `on_data` gets what arrives at the board, in pieces of at most 4 kB.
    """

    def __init__(
        self,
        port: PtyPort,
        on_data: Callable[[bytes], None],
        plan: FaultPlan | None = None,
        reactions: Mapping[LinkAction, Callable[[], None]] | None = None,
        *,
        has_port: bool = True,
    ) -> None:
        """`reactions` are what the board does when the plan says so: restart, or kill.

        Without a port there is nothing to plug in: the board is on the air only.
        """
        plan = plan or FaultPlan()
        faults = LineFaults(plan, port.link_path.name)
        self.status = WireStatus(faults.from_board.counts, faults.to_board.counts)
        self._port = port
        self._on_data = on_data
        self._reactions = reactions or {}
        self._timeline = Timeline(link_events(plan, port.link_path.name), self._apply)
        self._out = _Delayed(faults.from_board, self._write)
        self._in = _Delayed(faults.to_board, self._deliver)
        self._has_port = has_port
        self._is_open = False
        self._stalled = False
        self._release_timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Plug the board in; from here on the plan's failures happen.

        Raises:
            OSError: the port cannot be made.
        """
        loop = asyncio.get_running_loop()
        self._is_open = True
        self._plug()
        self._timeline.start()
        self._look_after(loop, 0)

    def close(self) -> None:
        """Unplug the board for good; idempotent."""
        self._is_open = False
        self._timeline.stop()
        if self._release_timer is not None:
            self._release_timer.cancel()
        self._out.close()
        self._in.close()
        self._unplug()

    def send(self, data: bytes) -> None:
        """Send what the board wrote."""
        if self._is_open:
            self._out.feed(data)

    def unplug(self) -> None:
        """Take the port away; the board itself keeps running."""
        self._apply(LinkAction.UNPLUG)

    def plug(self) -> None:
        """Bring the port back, under the same path."""
        self._apply(LinkAction.PLUG)

    def stall(self) -> None:
        """Let nothing pass in either direction, while the port stays there."""
        self._apply(LinkAction.STALL)

    def resume(self) -> None:
        """End a stall; what was sent meanwhile is lost."""
        self._apply(LinkAction.RESUME)

    def _apply(self, action: LinkAction) -> None:
        if not self._is_open:
            return
        self.status.events[action] = self.status.events.get(action, 0) + 1
        match action:
            case LinkAction.UNPLUG:
                self._unplug()
            case LinkAction.PLUG:
                self._plug()
            case LinkAction.STALL:
                self._stalled = True
            case LinkAction.RESUME:
                self._stalled = False
            case LinkAction.RESTART | LinkAction.KILL:
                if action in self._reactions:
                    self._reactions[action]()

    def _plug(self) -> None:
        if self._has_port and not self._port.is_plugged:
            self._port.plug()
            asyncio.get_running_loop().add_reader(self._port.fileno(), self._on_readable)

    def _unplug(self) -> None:
        if self._port.is_plugged:
            asyncio.get_running_loop().remove_reader(self._port.fileno())
            self._port.unplug()

    def _on_readable(self) -> None:
        data = self._port.read()
        self.status.bytes_received += len(data)
        if data and not self._stalled:
            self._in.feed(data)

    def _deliver(self, data: bytes) -> None:
        if self._is_open:
            self._on_data(data)

    def _write(self, data: bytes) -> None:
        taken = 0 if self._stalled or not self._port.is_plugged else self._port.write(data)
        self.status.bytes_sent += taken
        self.status.bytes_dropped += len(data) - taken

    def _look_after(self, loop: asyncio.AbstractEventLoop, received: int) -> None:
        """Free the port from a gateway that was killed, as the last close frees a real one."""
        if self._port.is_plugged and received == self.status.bytes_received:
            self._port.release()
        self._release_timer = loop.call_later(
            _RELEASE_EVERY_S, self._look_after, loop, self.status.bytes_received
        )


class _Delayed:
    """Passes bytes through faults to `deliver`, some of them later."""

    def __init__(self, faults: WireFaults, deliver: Callable[[bytes], None]) -> None:
        self._faults = faults
        self._deliver = deliver
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._pass_on(self._faults.feed(data, loop.time()), loop)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass_on(self, data: bytes, loop: asyncio.AbstractEventLoop) -> None:
        if data:
            self._deliver(data)
        deadline_s = self._faults.deadline_s
        if deadline_s is not None and self._timer is None:
            self._timer = loop.call_at(deadline_s, self._on_due, loop)

    def _on_due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._pass_on(self._faults.take(max(loop.time(), self._faults.deadline_s or 0.0)), loop)
