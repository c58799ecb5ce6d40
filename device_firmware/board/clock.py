# The board's clock: milliseconds since boot, which never step back, as the real-time clock may when
# somebody sets it. ticks_ms alone wraps after 12 days on small chips, so it is followed here;
# the supervisor reads the clock every second, and twice in six days is enough.

import time

_ticks = time.ticks_ms()
_total_ms = 0
shift_ms = 0  # what the clock showed at boot, where it goes on from an earlier run
wall_shift_ms = 0  # lets a simulated board's real-time clock be wrong


# As it stands in records and frames: wraps at 2**32, after 49.7 days.
def now_ms():
    global _ticks, _total_ms
    ticks = time.ticks_ms()
    _total_ms += time.ticks_diff(ticks, _ticks)
    _ticks = ticks
    return (_total_ms + shift_ms) & 0xFFFFFFFF


# How long ago a time of this clock was.
def since_ms(then_ms):
    return (now_ms() - then_ms) & 0xFFFFFFFF


def uptime_s():
    now_ms()
    return _total_ms // 1000


# The real-time clock's milliseconds, which on an ESP32 count through a reset; they wrap too.
def wall_ms():
    return (time.time_ns() // 1000000 + wall_shift_ms) & 0xFFFFFFFF


# Shows ms from now on: the clock of an epoch that goes on after a reset.
def resume(ms):
    global shift_ms
    shift_ms = (ms - now_ms() + shift_ms) & 0xFFFFFFFF
