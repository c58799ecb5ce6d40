# A watchdog that bites whatever the program does: a timer of the C library calls _exit(77) from a
# thread of its own. No Python code runs then, so a blocked event loop, an endless loop or a
# blocking system call cannot hold it off; like a chip's reset it flushes and tidies up nothing.
# Only Linux has such timers (timer_create with SIGEV_THREAD).
#
# A chip remembers that its watchdog bit, and so does this: the file watchdog.armed lies in the
# board's folder while it is awake, and a second timer removes watchdog.quiet just before the end.
# Where one is found without the other, the last run ended by the watchdog.

import struct
import time

from fakes import chip, libc
from micropython import const

_EXIT_CODE = const(77)

_ARMED, _QUIET = "watchdog.armed", "watchdog.quiet"
_CLOCK_MONOTONIC = const(1)
_SIGEV_THREAD = const(2)
_HEAD_START_MS = const(100)  # on a busy PC the two threads may start that far apart

_path = bytearray(_QUIET.encode() + b"\0")  # the C library points at it
_timers = []  # the one that removes the file, and the one that ends the process


# A timer that will call the C function `name` with one argument.
def _timer(name, argument):
    word = struct.calcsize("P")
    event = bytearray(64)  # struct sigevent: value, signo, notify, function, attributes
    struct.pack_into("P", event, 0, argument)
    struct.pack_into("iiP", event, word, 0, _SIGEV_THREAD, libc.address(name))
    timer = bytearray(word)
    if libc.function("timer_create", "ipp")(_CLOCK_MONOTONIC, event, timer):
        raise OSError("no timer for the watchdog")
    return struct.unpack("P", timer)[0]


# struct itimerspec: no interval, then seconds and nanoseconds.
def _after(ms):
    return bytearray(struct.pack("llll", 0, 0, ms // 1000, ms % 1000 * 1000000))


class WDT:
    def __init__(self, id=0, timeout=5000):
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        if timeout > 8388 and chip.family() == "rp2":
            raise ValueError("timeout exceeds 8388")
        if not _timers:
            _timers.append(_timer("unlink", libc.pointer(_path)))
            _timers.append(_timer("_exit", _EXIT_CODE))
            chip.write_file(_ARMED, b"")
            chip.write_file(_QUIET, b"")
        self._quiet_ms = max(timeout - _HEAD_START_MS, 1)
        self._fed_ms = time.ticks_ms()
        self._set = libc.function("timer_settime", "pipp")
        self._warning = _after(self._quiet_ms)
        self._end = _after(timeout)
        self.feed()

    def feed(self):
        if self._set(_timers[0], 0, self._warning, None) or self._set(
            _timers[1], 0, self._end, None
        ):
            raise OSError("the watchdog's timer was not set")
        now_ms = time.ticks_ms()
        if time.ticks_diff(now_ms, self._fed_ms) >= self._quiet_ms:  # it came late, but in time
            chip.write_file(_QUIET, b"")
        self._fed_ms = now_ms
