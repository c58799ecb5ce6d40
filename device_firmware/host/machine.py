# Stands in for MicroPython's module machine on a PC: found before the built-in one, because the
# folder of this file is first on sys.path. The current folder is the board's flash.
#
# fakes/ holds the parts, loaded when they are first used, as a board's heap is small:
# fakes/settings.py says how they are configured, and each part what it models and what it does not.
#
# How a run ends, as SystemExit: 75 after reset() and soft_reset(), 76 after deepsleep(), with the
# milliseconds in sleep.json; 77 when the watchdog bit. Whoever started it starts it again.
# reset_cause() is then right, or what BOARD_RESET_CAUSE says (1 to 5).
# RTC().memory() is the file rtc_memory.bin: remove it, and the board has been without power.
# unique_id() is BOARD_ID (hex), else made at random once and kept in the file board_id.

import binascii
import json
import os
import time

from fakes.pins import Pin

__all__ = ["Pin"]

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5

_RESET, _DEEPSLEEP = 75, 76  # exit codes
_RTC_MEMORY_SIZE = 2048
_CAUSE_FILE = "reset_cause"

_PARTS = {
    "ADC": ("fakes.analog", "Esp32ADC"),
    "PWM": ("fakes.analog", "PWM"),
    "Counter": ("fakes.analog", "Counter"),
    "I2C": ("fakes.i2c", "I2C"),
    "SoftI2C": ("fakes.i2c", "SoftI2C"),
    "UART": ("fakes.uart", "UART"),
    "WDT": ("fakes.watchdog", "WDT"),
    "dht_readinto": ("fakes.dht_line", "dht_readinto"),
}
# The Pico W has neither; its ADC knows no microvolts.
_RP2_PARTS = {"ADC": ("fakes.analog", "ADC"), "Counter": None}


def __getattr__(name):
    part = _PARTS.get(name)
    if name in _RP2_PARTS:
        from fakes import settings

        if settings.family() == "rp2":
            part = _RP2_PARTS[name]
    if part is None:
        raise AttributeError(name)
    module, attribute = part
    value = globals()[name] = getattr(__import__(module, None, None, (attribute,)), attribute)
    return value


def _write_file(path, data):
    with open(path + ".new", "wb") as f:
        f.write(data)
    os.rename(path + ".new", path)


def _read_file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


# Finds out once, at the start, why the run before this one ended, and forgets it.
def _cause_of_start():
    cause = PWRON_RESET
    kept = _read_file(_CAUSE_FILE)
    if kept:
        os.remove(_CAUSE_FILE)
        cause = int(kept)
    try:
        os.stat("watchdog.armed")
    except OSError:
        pass
    else:
        from fakes import watchdog

        if watchdog.has_bitten() and not kept:
            cause = WDT_RESET
    return int(os.getenv("BOARD_RESET_CAUSE") or cause)


_cause = _cause_of_start()


def reset_cause():
    return _cause


def _end(cause, code):
    _write_file(_CAUSE_FILE, b"%d" % cause)
    raise SystemExit(code)


def reset():
    _end(HARD_RESET, _RESET)


def soft_reset():
    _end(SOFT_RESET, _RESET)


def deepsleep(time_ms=None):
    _write_file("sleep.json", json.dumps({"ms": time_ms}).encode())
    _end(DEEPSLEEP_RESET, _DEEPSLEEP)


def lightsleep(time_ms=0):
    time.sleep(time_ms / 1000)


def idle():
    time.sleep(0.001)


def freq(hz=None):
    if hz is None:
        return 160000000
    return None


def unique_id():
    given = os.getenv("BOARD_ID")
    if given:
        return binascii.unhexlify(given)
    kept = _read_file("board_id")
    if not kept:
        kept = binascii.hexlify(os.urandom(6))
        _write_file("board_id", kept)
    return binascii.unhexlify(kept)


def disable_irq():
    return 0


def enable_irq(state):
    pass


# The ESP32's memory that outlives all but a loss of power.
class RTC:
    def memory(self, data=None):
        if data is None:
            return _read_file("rtc_memory.bin")
        if len(data) > _RTC_MEMORY_SIZE:
            raise ValueError("buffer too long")
        _write_file("rtc_memory.bin", bytes(data))
        return None

    def datetime(self):
        year, month, day, hour, minute, second, weekday = time.localtime()[:7]
        return year, month, day, weekday, hour, minute, second, 0
