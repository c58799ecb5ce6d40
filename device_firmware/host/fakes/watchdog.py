# A watchdog that bites whatever the program does: a timer of the C library calls _exit(77) from a
# thread of its own. No Python code runs then, so a blocked event loop, an endless loop or a
# blocking system call cannot hold it off; like a chip's reset it flushes and tidies up nothing.
# Only Linux has such timers (timer_create with SIGEV_THREAD).
#
# A chip remembers that its watchdog bit, and so does this: the file watchdog.armed lies in the
# board's folder while it is awake, and a second timer removes watchdog.quiet just before the end.
# Where one is found without the other, the last run ended by the watchdog.

import os
import struct

from fakes import libc, settings

EXIT_CODE = 77

_ARMED, _QUIET = "watchdog.armed", "watchdog.quiet"
_CLOCK_MONOTONIC = 1
_SIGEV_THREAD = 2
_HEAD_START_MS = 20

_timers = []
_kept = []  # what the C library still points at


# True when the watchdog ended the run before this one; forgets it.
def has_bitten():
    bitten = _exists(_ARMED) and not _exists(_QUIET)
    for path in (_ARMED, _QUIET):
        try:
            os.remove(path)
        except OSError:
            pass
    return bitten


def _exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


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


class WDT:
    def __init__(self, id=0, timeout=5000):
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        if settings.family() == "rp2" and timeout > 8388:
            raise ValueError("timeout exceeds 8388")
        self._set = libc.function("timer_settime", "pipp")
        self._timeout_ms = timeout
        if not _timers:
            quiet = bytearray(_QUIET.encode() + b"\0")
            _kept.append(quiet)
            _timers.append(_timer("unlink", _address_of(quiet)))
            _timers.append(_timer("_exit", EXIT_CODE))
            for path in (_ARMED, _QUIET):
                with open(path, "w"):
                    pass
        self.feed()

    def feed(self):
        warning_ms = max(self._timeout_ms - _HEAD_START_MS, 1)
        for timer, ms in zip(_timers, (warning_ms, self._timeout_ms)):
            # struct itimerspec: no interval, then seconds and nanoseconds
            spec = bytearray(struct.pack("llll", 0, 0, ms // 1000, ms % 1000 * 1000000))
            if self._set(timer, 0, spec, None):
                raise OSError("the watchdog's timer was not set")


def _address_of(buffer):
    try:
        import uctypes
    except ImportError:
        return libc._pointer(buffer)
    return uctypes.addressof(buffer)
