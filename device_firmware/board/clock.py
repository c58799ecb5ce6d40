# The board's clock: milliseconds since boot, which never step back, as the real-time clock may when
# somebody sets it. ticks_ms alone wraps after 12 days on small chips, so it is followed here;
# the supervisor reads the clock every second, and twice in six days is enough.

import time

_ticks = time.ticks_ms()
_total_ms = 0
_shift_ms = 0


def _advance():
    global _ticks, _total_ms
    ticks = time.ticks_ms()
    _total_ms += time.ticks_diff(ticks, _ticks)
    _ticks = ticks


# As it stands in records and frames: wraps at 2**32, after 49.7 days.
def now_ms():
    _advance()
    return (_total_ms + _shift_ms) & 0xFFFFFFFF


def uptime_s():
    _advance()
    return _total_ms // 1000


# Lets a simulated board begin at another time than 0, such as shortly before the wrap.
def start_at(ms):
    global _shift_ms
    _shift_ms = ms


# How long ago a time of this clock was.
def since_ms(then_ms):
    return (now_ms() - then_ms) & 0xFFFFFFFF
