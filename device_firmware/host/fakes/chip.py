# The microcontroller itself: how a run ends, why this one began, who it is.
# The files it leaves in the board's folder: reset_cause, sleep.json, board_id, watchdog.*. There
# are memories that outlive all but a loss of power: rtc_memory.bin, scratch.bin.

import os

from micropython import const

FAKES = os.getenv("BOARD_FAKES") or "fakes.json"

RTC_MEMORY = "rtc_memory.bin"
SCRATCH = "scratch.bin"

_RESET = const(75)  # exit codes
_DEEPSLEEP = const(76)
_HARD = const(2)  # causes of a reset
_WATCHDOG = const(3)
_SLEEP = const(4)
_SOFT = const(5)


# Whole or not at all.
def write_file(path, data):
    with open(path + ".new", "wb") as f:
        f.write(data)
    os.rename(path + ".new", path)


def read_file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


# Returns what a file held, None if there was none.
def take_file(path):
    try:
        with open(path, "rb") as f:
            data = f.read()
        os.remove(path)
    except OSError:
        return None
    return data


# To be called once, at the start: the files it looks at are for one run only.
def _begin():
    cause = take_file("reset_cause")
    armed, quiet = take_file("watchdog.armed"), take_file("watchdog.quiet")
    if cause is None and armed is not None and quiet is None:
        cause = _WATCHDOG
    if cause is None and (exists(RTC_MEMORY) or exists(SCRATCH)):
        cause = _HARD  # it was killed, and had power all the time
    return int(os.getenv("BOARD_RESET_CAUSE") or cause or 1)


_cause = _begin()


def reset_cause():
    return _cause


def _end(cause, code):
    write_file("reset_cause", b"%d" % cause)
    raise SystemExit(code)


def reset():
    _end(_HARD, _RESET)


def soft_reset():
    _end(_SOFT, _RESET)


def deepsleep(time_ms=None):
    write_file("sleep.json", b'{"ms": %d}' % time_ms if time_ms else b'{"ms": null}')
    _end(_SLEEP, _DEEPSLEEP)


# What fakes.json says under these keys. Without that file its reader is not even loaded.
def told(*keys, default=None):
    if not exists(FAKES):
        return default
    from fakes import settings

    return settings.told(*keys, default=default)


# Which port's quirks are shown: esp32 or rp2.
def family():
    return os.getenv("BOARD_FAMILY") or told("family", default="esp32")


def unique_id():
    from binascii import hexlify, unhexlify

    digits = os.getenv("BOARD_ID") or read_file("board_id")
    if not digits:
        digits = hexlify(os.urandom(6))
        write_file("board_id", digits)
    return unhexlify(digits)
