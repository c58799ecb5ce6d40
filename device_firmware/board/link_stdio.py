# The line of the REPL: USB, or UART0 behind a USB adapter.

import asyncio
import select
import sys

from micropython import const

_LINE_MAX = const(400)  # characters taken in
_BURST = const(256)  # bytes read before other tasks get their turn


# Waits until there is something to read: the half that is needed of MicroPython's StreamReader,
# whose module takes a kilobyte of memory. Elsewhere asyncio has a coroutine for it.
def _readable(stream):
    yield asyncio.core._io_queue.queue_read(stream)


_wait = getattr(asyncio, "readable", _readable)


class Link:
    name = "stdio"
    # What the gateway may send: UART0 buffers 260 bytes, and has no flow control.
    max_line = 256

    def __init__(self, _config):
        self._in = sys.stdin.buffer
        self._out = sys.stdout.buffer
        self._more = select.poll()
        self._more.register(self._in, select.POLLIN)
        self._room = select.poll()
        self._room.register(self._out, select.POLLOUT)
        self._byte = bytearray(1)
        self._line = bytearray(_LINE_MAX)
        self._used = 0
        self.too_long = 0  # lines dropped

    # Returns the next line without its newline, or None when the line is closed for good.
    # read(n) of this stream blocks until there are n bytes, so it is read byte by byte, for as
    # long as poll says there is one.
    async def read_line(self):
        byte = self._byte
        burst = 0
        while True:
            try:
                if not burst or not self._has_more():
                    burst = _BURST
                    await _wait(self._in)
                count = self._in.readinto(byte)
            except OSError:  # the other end of a pty is gone
                return None
            burst -= 1
            if count == 0:
                return None
            if count:
                line = self._take(byte[0])
                if line is not None:
                    return line

    # Returns the line that this byte ends.
    def _take(self, byte):
        used = self._used
        if byte != 10:
            if used < _LINE_MAX:
                self._line[used] = byte
            if used <= _LINE_MAX:
                self._used = used + 1
            return None
        self._used = 0
        if used > _LINE_MAX:
            self.too_long += 1
            return None
        if used and self._line[used - 1] == 13:
            used -= 1
        return bytes(memoryview(self._line)[:used])

    def _has_more(self):
        for _ in self._more.ipoll(0):
            return True
        return False

    # True if a line can be written without waiting for the other end.
    def has_room(self):
        for _ in self._room.ipoll(0):
            return True
        return False

    # Returns how many bytes were taken.
    def write(self, line):
        try:
            return self._out.write(line) or 0
        except OSError:  # nobody will ever read it; read_line notices
            return len(line)
