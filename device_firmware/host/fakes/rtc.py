# The ESP32's RTC: its memory outlives all but a loss of power; here it is the file rtc_memory.bin,
# the length (2 bytes) and then the content. It is written in place and piece by piece, as memory
# is: who is killed meanwhile leaves some of the old and some of the new.
# The clock is the PC's, and cannot be set. The RP2's RTC has no memory.

import time
from struct import pack, unpack_from

from fakes import chip
from micropython import const

_SIZE = const(2048)
_PIECE = const(64)


class RTC:
    def datetime(self):
        year, month, day, hour, minute, second, weekday = time.localtime()[:7]
        return year, month, day, weekday, hour, minute, second, 0

    if chip.family() != "rp2":

        def memory(self, data=None):
            if data is None:
                found = chip.read_file(chip.RTC_MEMORY)
                return found[2 : 2 + unpack_from("<H", found)[0]] if found else b""
            if len(data) > _SIZE:
                raise ValueError("buffer too long")
            if not chip.exists(chip.RTC_MEMORY):
                chip.write_file(chip.RTC_MEMORY, bytes(2 + _SIZE))
            view = memoryview(data)
            with open(chip.RTC_MEMORY, "r+b", 0) as file:
                file.seek(2)
                for at in range(0, len(view), _PIECE):
                    file.write(view[at : at + _PIECE])
                file.seek(0)  # the length comes last
                file.write(pack("<H", len(view)))
            return None
