# The ESP32's RTC: its memory outlives all but a loss of power; here it is the file rtc_memory.bin.
# The clock is the PC's, and cannot be set. The RP2's RTC has no memory.

import time

from fakes import chip
from micropython import const

_SIZE = const(2048)


class RTC:
    def datetime(self):
        year, month, day, hour, minute, second, weekday = time.localtime()[:7]
        return year, month, day, weekday, hour, minute, second, 0

    if chip.family() != "rp2":

        def memory(self, data=None):
            if data is None:
                return chip.read_file("rtc_memory.bin")
            if len(data) > _SIZE:
                raise ValueError("buffer too long")
            chip.write_file("rtc_memory.bin", bytes(data))
            return None
