"""Serial links: the only module that imports serial_asyncio."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import serial_asyncio

from gateway.clock import Clock
from gateway.drivers.base import StreamDriver
from gateway.errors import LinkError
from gateway.links.asked import Asked
from gateway.links.conversation import Conversation
from gateway.links.port_failures import explain
from gateway.links.posix_serial import PosixSerial, close_descriptor
from gateway.links.threads import Call
from gateway.log_fields import on_link
from gateway.model import Event, Fault
from gateway.progress import Progress, Stage
from gateway.status import LinkStatus

_log = logging.getLogger(__name__)

Sink = Callable[[str, list[Event]], None]
"""Takes the name of a link and what its driver said, in order; must not block."""


@dataclass(frozen=True, slots=True)
class SerialOptions:
    """How to use a port."""

    baudrate: int = 115_200
    open_s: float = 10.0
    """An adapter opens within milliseconds; the kernel itself gives up a USB request after 5 s."""
    settle_s: float = 0.2
    """Nothing is sent so long after opening: a board that was reset by it is still booting."""
    silence_s: float | None = None
    """A port without a byte for so long is opened anew; None for never."""
    close_s: float = 1.0
    """Closing holds up the link no longer, whatever the peer does."""


class SerialLink(Asked):
    """One serial port with a driver on it, a new one at each opening."""

    def __init__(  # noqa: PLR0913, PLR0917  # the composition root has them all
        self,
        path: str,
        options: SerialOptions,
        make_driver: Callable[[], StreamDriver],
        sink: Sink,
        status: LinkStatus,
        clock: Clock,
        stage: Stage | None = None,
    ) -> None:
        """`stage` is told of each step."""
        self._path = path
        self._options = options
        self._make_driver = make_driver
        self._sink = sink
        self._status = status
        self._clock = clock
        self._stage = stage or Progress().stage(path)
        self._told_driver_error = False
        self._stuck: Call[PosixSerial] | None = None
        """The opening that was given up last; its thread may live on."""
        self._stuck_since_s = 0.0

    async def run(self, progress: Callable[[], None]) -> NoReturn:
        """Open the port and serve its driver until the line is lost.

        Raises:
            LinkError: the port does not open, was unplugged or fell silent.
        """
        self._status.state = "opening"
        self._stage.works("opening")
        state = "closed"
        try:
            port = await self._open()
            self._status.state = "open"
            self._status.opens += 1
            await self._serve(port, progress)
        except LinkError:
            state = "lost"
            raise
        finally:
            self._status.state = state

    async def _open(self) -> PosixSerial:
        if self._stuck is not None and self._stuck.is_running:  # another would be a thread more
            for_s = self._clock.monotonic_s() - self._stuck_since_s
            raise LinkError(f"{self._path}: still opening since {for_s:.0f} s")
        port = PosixSerial(self._path, self._options.baudrate)

        def open_port() -> PosixSerial:
            try:
                port.open()
            except (OSError, ValueError) as exc:
                raise LinkError(f"cannot open {self._path}: {explain(self._path, exc)}") from exc
            return port

        limit_s = self._options.open_s
        started_s = self._clock.monotonic_s()
        opening = Call(open_port, PosixSerial.close)
        try:
            async with asyncio.timeout(limit_s):
                return await opening.result()
        except TimeoutError as exc:
            self._stuck, self._stuck_since_s = opening, started_s
            raise LinkError(f"{self._path} does not open within {limit_s:g} s") from exc

    async def _serve(self, port: PosixSerial, progress: Callable[[], None]) -> NoReturn:
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        conversation = Conversation(
            self._make_driver(),
            self._status,
            self._clock,
            settle_s=self._options.settle_s,
            silence_s=self._options.silence_s,
            write_now=port.write,
            sink=partial(self._sink, self._status.name),
            progress=progress,
            driver_failed=self._driver_failed,
            let_go=partial(self._let_go, port, closed),
        )
        port.on_failure = conversation.line_failed
        if self._is_paused:
            conversation.hold(paused=True)
        self._conversation = conversation
        # It must not be closed twice, and closes itself on an error; but PosixSerial raises none.
        transport, _ = await serial_asyncio.connection_for_serial(
            asyncio.get_running_loop(), lambda: conversation, port
        )
        try:
            ended = conversation.ended
            await self._stage.attend(
                lambda within_s: asyncio.wait([ended], timeout=within_s), ended.done
            )
            raise ended.result()
        finally:
            self._stage.works("closing")
            self._conversation = None
            transport.abort()
            conversation.stop()
            await asyncio.wait([closed], timeout=self._options.close_s)
            if not closed.done():
                _log.warning(
                    "%s: the kernel does not let go of the port", on_link(self._status.name)
                )

    def _let_go(self, port: PosixSerial, closed: asyncio.Future[None]) -> None:
        """Close the descriptor in a thread, for the transport would do it in the event loop."""
        descriptor = port.take_descriptor()
        drain_s = 0.0 if port.is_broken else self._options.close_s / 2
        try:
            closing = Call(partial(close_descriptor, descriptor, drain_s))
        except LinkError:
            close_descriptor(descriptor, drain_s=0.0)  # better here than not at all
            closed.set_result(None)
        else:
            closing.outcome.add_done_callback(lambda _closing: closed.set_result(None))

    def _driver_failed(self, error: Exception) -> Fault:
        if not self._told_driver_error:
            self._told_driver_error = True
            _log.error(
                "%s: the driver failed on its input", on_link(self._status.name), exc_info=error
            )
        return Fault("driver_error", repr(error)[:200])
