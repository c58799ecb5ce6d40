"""A `serial.Serial` made for asyncio: one descriptor a port, never select(), nothing that blocks.

pyserial's own class opens five descriptors a port and waits with select(), which fails above
descriptor 1,023; it locks nothing, and its close may wait for a stuck peer for 30 s.
"""

import contextlib
import errno
import fcntl
import os
import struct
import termios
import time
from typing import TYPE_CHECKING

import serial

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

_READ_SIZE = 4096
"""Bytes asked for per read; the kernel's terminal layer hands out no more at once."""

_DRAIN_STEP_S = 0.005
"""How often the closing thread looks whether the last output is gone; there is no event for it."""

_RTS = struct.pack("I", termios.TIOCM_RTS)
_DTR = struct.pack("I", termios.TIOCM_DTR)
_BOTH = struct.pack("I", termios.TIOCM_RTS | termios.TIOCM_DTR)


class PosixSerial(serial.Serial):
    """One open port, as serial_asyncio's transport uses it.

    An error of the line does not raise, because the transport would log each pulled plug as fatal:
    it is told to `on_failure`, again and again until the transport is closed.
    """

    fd: int | None = None
    is_broken = False
    """An error was met."""

    def __init__(self, path: str, baudrate: int) -> None:
        """Settle how to open `path`; `open` does it."""
        # inter_byte_timeout=0 is pyserial's way to VMIN=1: with its VMIN=0 an empty line reads
        # like one that was hung up.
        super().__init__(baudrate=baudrate, timeout=0, write_timeout=0, inter_byte_timeout=0)
        self.port = path
        self.on_failure: Callable[[OSError], None] = lambda _error: None

    def open(self) -> None:
        """Open and lock the port; may block, so call it from a thread.

        The kernel raises DTR and RTS together, which resets no ESP32; lowering them one by one
        would. Nothing that waits in the kernel is thrown away: a board may wait for its answer.

        Raises:
            OSError: it is missing, forbidden, busy, or no port.
            ValueError: the driver knows no such baud rate.
        """
        self.fd = os.open(self.port or "", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            # root passes by exclusive mode, and programs that ask for no lock pass by that
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.ioctl(self.fd, termios.TIOCEXCL)
            self._reconfigure_port(force_update=True)
            with contextlib.suppress(OSError):  # a pty has no such lines
                fcntl.ioctl(self.fd, termios.TIOCMBIS, _BOTH)
        except BaseException as exc:
            os.close(self.fd)
            self.fd = None
            if isinstance(exc, termios.error):
                raise OSError(*exc.args) from exc
            raise
        self.is_open = True

    def _reconfigure_port(self, force_update: bool = False) -> None:  # noqa: FBT001, FBT002  # pyserial's signature
        """Set the line's mode once; the transport's later wishes for timeouts change nothing."""
        if not force_update or self.fd is None:
            return
        mode = termios.tcgetattr(self.fd)
        mode[0] &= ~termios.BRKINT
        mode[2] &= ~termios.HUPCL  # DTR and RTS are lowered by us, in the order that resets nothing
        termios.tcsetattr(self.fd, termios.TCSANOW, mode)
        super()._reconfigure_port(force_update=True)  # type: ignore[misc]  # not in the stubs

    def read(self, size: int = _READ_SIZE) -> bytes:
        """Return what the line has, which may be more than `size`; empty if nothing waits."""
        del size
        try:
            data = os.read(self.fileno(), _READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as exc:
            self._fail(exc)
            return b""
        if not data:
            self._fail(OSError(errno.EIO, "hung up"))
        return data

    def write(self, b: "ReadableBuffer", /) -> int:
        """Return how many bytes the line took; all of them once it is broken."""
        try:
            return os.write(self.fileno(), b)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self._fail(exc)
            return len(memoryview(b))

    def flush(self) -> None:
        """Do nothing: serial_asyncio calls it in the event loop, and a stuck peer would stop it."""

    def take_descriptor(self) -> int:
        """Give the open descriptor away, for `close_descriptor`; the port counts as closed."""
        descriptor = self.fileno()
        self.fd = None
        self.is_open = False
        return descriptor

    def close(self) -> None:
        """Close the port, if it is open; what was not sent yet is dropped."""
        if self.is_open:
            close_descriptor(self.take_descriptor(), drain_s=0.0)

    def _fail(self, error: OSError) -> None:
        self.is_broken = True
        self.on_failure(error)


def close_descriptor(descriptor: int, drain_s: float) -> None:
    """Send what is left for at most `drain_s`, then close; blocks that long, so use a thread.

    RTS goes down before DTR: the other way round resets an ESP32. A board on native USB sees DTR
    go and knows that nobody listens.
    """
    deadline_s = time.monotonic() + drain_s
    with contextlib.suppress(OSError, termios.error):  # a line that was hung up takes no request
        while _unsent(descriptor):
            if time.monotonic() >= deadline_s:
                termios.tcflush(descriptor, termios.TCOFLUSH)  # else close() waits for it, 30 s
                break
            time.sleep(_DRAIN_STEP_S)
        fcntl.ioctl(descriptor, termios.TIOCNXCL)
        for line in (_RTS, _DTR):
            fcntl.ioctl(descriptor, termios.TIOCMBIC, line)
    with contextlib.suppress(OSError):  # EIO of a device that is gone; it is closed all the same
        os.close(descriptor)


def _unsent(descriptor: int) -> int:
    """Return how many bytes wait in the kernel to be sent."""
    (count,) = struct.unpack("I", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    return int(count)
