"""The gateway's end of one serial port, without the daemon: the real session on a descriptor.

It declares every record safe as soon as it arrives. For tests of boards; whole paths are tested
with the daemon.
"""

import asyncio
import contextlib
import fcntl
import os
import termios
import time
import tty
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from gateway.model import device_slug
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.fields import Json
from gateway.protocol.frames import Frame, open_frame
from gateway.protocol.lines import LineSplitter
from gateway.protocol.records import Scaling
from gateway.protocol.requests import Order
from gateway.protocol.session import Session
from gateway.protocol.session_events import (
    ActuatorStated,
    CommandEnded,
    Described,
    Joined,
    Logged,
    Missed,
    Received,
    SessionEvent,
)

if TYPE_CHECKING:
    from gateway.protocol.message_values import ActuatorReport, Hello, Stream


class Arrived(NamedTuple):
    """One record."""

    epoch: int
    seq: int
    stream: str
    values: Mapping[str, object]


class GatewayEnd:
    """Speaks with the board on a port for the length of an `async with`."""

    def __init__(self, path: Path, book: DeliveryBook | None = None) -> None:
        self.arrived: list[Arrived] = []
        self.missed: list[tuple[int, int, int]] = []
        """Epoch, first and last seq of what the board lost."""
        self.hellos: list[Hello] = []
        self.streams: tuple[Stream, ...] = ()
        self.actuators: dict[str, ActuatorReport] = {}
        self.logs: list[str] = []
        self.text_lines: list[bytes] = []
        self.events: Counter[str] = Counter()
        self.ended: dict[str, CommandEnded] = {}
        self._commands = 0
        self.is_open = False
        self._path = path
        self._book = book or DeliveryBook()
        self._session = Session(self._book, "test", heartbeat_s=1.0)
        self._splitter = LineSplitter()
        self._scalings: list[Scaling] = []
        self._descriptor = -1
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[tuple[Callable[[GatewayEnd], object], asyncio.Event]] = []

    async def __aenter__(self) -> Self:
        """Open the port, which must be there."""
        self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def open(self) -> None:
        """Open the port, exclusively and raw, as the daemon does, with a session of its own."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._descriptor)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(self._descriptor, termios.TIOCEXCL)
        self._session = Session(self._book, "test", heartbeat_s=1.0)
        self._session.on_output = self._flush
        self._splitter = LineSplitter()
        self.is_open = True
        asyncio.get_running_loop().add_reader(self._descriptor, self._on_readable)

    def close(self) -> None:
        """Close the port; harmless if it is closed."""
        if not self.is_open:
            return
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._session.on_output = None
        self._session.close()
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._descriptor, termios.TIOCNXCL)
        os.close(self._descriptor)

    async def until(
        self, reached: Callable[["GatewayEnd"], object], timeout_s: float = 20.0
    ) -> None:
        """Return as soon as `reached(self)` is true; it is asked after every input.

        Raises:
            AssertionError: it was not within the time; the text says what did come.
        """
        reached_now = asyncio.Event()
        waiter = (reached, reached_now)
        self._waiters.append(waiter)
        try:
            self._wake()
            async with asyncio.timeout(timeout_s):
                await reached_now.wait()
        except TimeoutError:
            raise AssertionError(
                f"not within {timeout_s} s; {len(self.arrived)} records, {dict(self.events)}, "
                f"last {self.arrived[-3:]}, logs {self.logs[-5:]}, text {self.text_lines[-5:]}"
            ) from None
        finally:
            self._waiters.remove(waiter)

    async def until_more(self, count: int) -> None:
        """Return once `count` more records have arrived."""
        enough = len(self.arrived) + count
        await self.until(lambda gateway: len(gateway.arrived) >= enough)

    async def command(self, name: str, arguments: Json = None, ttl_s: float = 10.0) -> CommandEnded:
        """Have the board do something and return its answer."""
        now_s = asyncio.get_running_loop().time()
        hello = self.hellos[-1]
        self._commands += 1
        order = Order(
            f"test.{self._commands}",
            name,
            arguments,
            now_s + ttl_s,
            device_slug(hello.id),
            hello.life,
        )
        ended = self._session.command(order, now_s)
        self._flush()
        if isinstance(ended, CommandEnded):
            return ended
        assert ended is None, "the board is not there"
        await self.until(lambda _: order.command_id in self.ended)
        return self.ended[order.command_id]

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:  # EIO: the board was unplugged
            data = b""
        if not data:
            self.close()
            self._wake()
            return
        now_s = asyncio.get_running_loop().time()
        for line in self._splitter.feed(data):
            frame = open_frame(line)
            if isinstance(frame, Frame):
                for event in self._session.receive(frame, now_s, time.time()):
                    self._note(event)
            elif frame is None:
                self.text_lines.append(line)
        self._flush()
        self._wake()

    def _on_timer(self) -> None:
        for event in self._session.tick(asyncio.get_running_loop().time()):
            self._note(event)
        self._flush()
        self._wake()

    def _note(self, event: SessionEvent) -> None:
        self.events[type(event).__name__] += 1
        match event:
            case Joined(hello=hello):
                self.hellos.append(hello)
            case Described(streams=streams, actuators=actuators):
                self.streams = streams
                self.actuators = {actuator.key: actuator for actuator in actuators}
                self._scalings = [
                    Scaling(stream, [channel.key for channel in stream.channels])
                    for stream in streams
                ]
            case ActuatorStated(actuator=actuator):
                self.actuators[actuator.key] = actuator
            case Received(watermark=watermark, first_seq=first_seq, records=records):
                for seq, record in enumerate(records, first_seq):
                    assert record is not None
                    number = record[1]
                    assert isinstance(number, int)
                    values = self._scalings[number].values(record)
                    stream = self.streams[number].name
                    self.arrived.append(Arrived(watermark.epoch, seq, stream, values))
                watermark.mark_safe(first_seq, first_seq + len(records) - 1)
            case Missed(watermark=watermark, first_seq=first_seq, last_seq=last_seq):
                self.missed.append((watermark.epoch, first_seq, last_seq))
                watermark.mark_safe(first_seq, last_seq)
            case Logged(text=text):
                self.logs.append(text)
            case CommandEnded(command_id=command_id):
                self.ended[command_id] = event
            case _:
                self.events[str(event)] += 1

    def _flush(self) -> None:
        if not self.is_open:
            return
        if data := self._session.data_to_send():
            with contextlib.suppress(BlockingIOError):
                os.write(self._descriptor, data)
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        if (deadline_s := self._session.deadline_s) is not None:
            self._timer = loop.call_at(deadline_s, self._on_timer)

    def _wake(self) -> None:
        for reached, reached_now in self._waiters:
            if reached(self):
                reached_now.set()
