# A UART over the tty or pty whose path is in BOARD_UART1 (BOARD_UART2 ...), raw, never blocking.
# Works under MicroPython's asyncio.StreamReader and select.poll, and on CPython with select or a
# loop's add_reader. Modelled: read and write as machine.UART has them, speed on a real tty. Not
# modelled: the time bytes take, the size of the receive buffer, framing errors, break.
#
# When the other end of a pty closes, the board is switched off: SystemExit(0), as at the end of
# stdin.

import io
import os
import select
import sys

from micropython import const

_MICROPYTHON = sys.implementation.name == "micropython"
_EIO = const(5)
_POLL = const(3)  # requests of MicroPython's stream protocol
_CLOSE = const(4)
_FILENO = const(10)
_O_RDWR_NOCTTY_NONBLOCK = const(0o4402)


class UART(io.IOBase):
    def __init__(self, id, baudrate=115200, **options):
        path = os.getenv("BOARD_UART%d" % id)
        if not path:
            raise ValueError("BOARD_UART%d names no tty" % id)
        self._open(path)
        self.init(baudrate, **options)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self._fd, select.POLLOUT)

    if _MICROPYTHON:

        def _open(self, path):
            import termios

            from fakes import libc

            # Not as the process's terminal: its end would be a signal.
            self._fd = libc.function("open", "si")(path, _O_RDWR_NOCTTY_NONBLOCK)
            if self._fd < 0:
                raise OSError(os.errno(), path)
            self._file = open(self._fd, "r+b")
            termios.setraw(self._fd)

        def _read(self, nbytes):
            return self._file.read(nbytes)

        def _write(self, buf):
            return self._file.write(buf)

    else:

        def _open(self, path):
            import tty

            self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(self._fd)

        def _read(self, nbytes):
            try:
                return os.read(self._fd, nbytes)
            except BlockingIOError:
                return None

        def _write(self, buf):
            try:
                return os.write(self._fd, buf)
            except BlockingIOError:
                return None

    # Pins, buffers and timeouts are taken and mean nothing here.
    def init(self, baudrate=115200, **options):
        import termios

        speed = getattr(termios, "B%d" % baudrate, None)
        if speed is None:
            raise ValueError("no such baudrate: %d" % baudrate)
        modes = termios.tcgetattr(self._fd)
        modes[4] = modes[5] = speed
        termios.tcsetattr(self._fd, termios.TCSANOW, modes)

    def any(self):
        return 1 if self._poll.poll(0) else 0

    # At most nbytes, None when there are none.
    def read(self, nbytes=256):
        try:
            data = self._read(nbytes)
        except OSError as e:
            raise self._gone(e)
        if data == b"":  # the end, where nothing yet would be None
            raise SystemExit(0)
        return data

    def readinto(self, buf, nbytes=None):
        data = self.read(len(buf) if nbytes is None else min(nbytes, len(buf)))
        if data is None:
            return None
        buf[: len(data)] = data
        return len(data)

    # What has come of a line, at most up to its newline.
    def readline(self):
        line = b""
        while not line.endswith(b"\n"):
            byte = self.read(1)
            if byte is None:
                break
            line += byte
        return line or None

    # How many bytes were taken, None when the line is full.
    def write(self, buf):
        try:
            return self._write(buf)
        except OSError as e:
            raise self._gone(e)

    def _gone(self, error):
        return SystemExit(0) if error.errno == _EIO else error

    def flush(self):
        pass

    def txdone(self):
        return True

    def fileno(self):
        return self._fd

    def deinit(self):
        if self._fd is None:
            return
        if _MICROPYTHON:
            self._file.close()
        else:
            os.close(self._fd)
        self._fd = None

    def close(self):
        self.deinit()

    def ioctl(self, request, argument):
        if request == _FILENO:
            return self._fd
        if request == _POLL:
            ready = argument & select.POLLIN if self.any() else 0
            return ready | (argument & select.POLLOUT if self._writable.poll(0) else 0)
        if request == _CLOSE:
            self.deinit()
        return 0
