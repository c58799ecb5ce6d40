# A second UART, with buffers of its own.

import asyncio
import select

from machine import UART
from micropython import const

_LINE_MAX = const(400)  # characters taken in


class Link:
    max_line = _LINE_MAX

    def __init__(self, config):
        number = config.get("id", 1)
        options = {}
        for pin in ("tx", "rx"):
            if pin in config:
                from machine import Pin

                options[pin] = Pin(config[pin])
        self.name = "uart%d" % number
        self._uart = UART(
            number,
            baudrate=config.get("baudrate", 115200),
            rxbuf=2048,
            txbuf=2048,
            timeout=0,
            **options,
        )
        self._reader = asyncio.StreamReader(self._uart)
        self._room = select.poll()
        self._room.register(self._uart, select.POLLOUT)
        self._input = bytearray(_LINE_MAX + 1)
        self._used = 0
        self._dropping = False
        self.too_long = 0  # lines dropped

    # Returns the next line without its newline.
    async def read_line(self):
        while True:
            line = self._take_line()
            if line is not None:
                return line
            count = await self._reader.readinto(memoryview(self._input)[self._used :])
            self._used += count or 0

    def _take_line(self):
        input = self._input
        end = input.find(b"\n", 0, self._used)
        if end < 0:
            if self._used > _LINE_MAX:
                self._used = 0
                if not self._dropping:
                    self._dropping = True
                    self.too_long += 1
            return None
        crlf = end and input[end - 1] == 13
        line = bytes(memoryview(input)[: end - 1 if crlf else end])
        rest = self._used - end - 1
        input[:rest] = input[end + 1 : self._used]
        self._used = rest
        if self._dropping:
            self._dropping = False
            return self._take_line()
        return line

    # Where a port cannot say (ESP32), it says yes: what txbuf cannot hold leaves within its time.
    def has_room(self):
        for _ in self._room.ipoll(0):
            return True
        return False

    # Returns how many bytes were taken.
    def write(self, line):
        return self._uart.write(line) or 0
