# What the fakes are told: fakes.json in the board's folder, or the file named by BOARD_FAKES.
# It is read again when it changes; replace it (rename another over it) rather than write into it.
#
# {
#   "family": "esp32" or "rp2",            which port's quirks machine shows
#   "i2c": {"0": {"faults": [...], "devices": [
#       {"kind": "bme280", "address": 118, "temperature": V, "humidity": V, "pressure": V,
#        "faults": [...]},
#       {"kind": "sht3x", "address": 68, "temperature": V, "humidity": V, "faults": [...]}]}},
#   "onewire": {"4": {"faults": [...], "probes": [{"rom": "28ff641e8b160371", "temperature": V}]}},
#   "dht": {"15": {"temperature": V, "humidity": V, "faults": [...]}},
#   "adc": {"34": V in microvolts},  "pins": {"5": V, 0 or 1},
#   "pulses": {"5": pulses a second, for machine.Counter, not for Pin.irq},
#   "chip_temperature": V in °C,  "log_pins": true (each change of an output as a line of pins.log)
# }
# A bus or a pin that is not named has one of everything, with slowly changing values.
#
# V, a value over time, is a number, or {"steps": [[second, value], ...]}, each in force from its
# second on, or {"points": [[second, value], ...]}, joined by straight lines, both in seconds since
# this process started, or {"sine": [low, high], "period_s": 60} on the wall clock, so that a board
# that sleeps between readings sees it move.
# A fault is its name, or {"fault": name, "from_s": 2, "to_s": 5} or {"fault": name, "every": 3}:
# each third transaction. Each fake says which faults it knows.

import json
import math
import os
import time

from fakes import chip

_born_ns = time.time_ns()
_seen = None
_tree = {}


def _read_tree():
    global _seen, _tree
    try:
        stat = os.stat(chip.FAKES)
    except OSError:
        _seen, _tree = None, {}
        return _tree
    mark = (stat[1], stat[6], stat[8])  # inode, size, whole seconds
    if mark != _seen:
        with open(chip.FAKES) as f:
            _tree = json.load(f)
        _seen = mark
    return _tree


# What the file says under these keys, or `default`.
def told(*keys, default=None):
    part = _read_tree()
    for key in keys:
        if not isinstance(part, dict) or str(key) not in part:
            return default
        part = part[str(key)]
    return part


def elapsed_s():
    return (time.time_ns() - _born_ns) / 1e9


# The value that `wave` has now.
def value_of(wave):
    if not isinstance(wave, dict):
        return wave
    if "sine" in wave:
        low, high = wave["sine"]
        turn = time.time() / wave.get("period_s", 60) % 1
        return low + (high - low) * (0.5 + 0.5 * math.sin(2 * math.pi * turn))
    rows = wave["steps"] if "steps" in wave else wave["points"]
    now_s = elapsed_s()
    before = rows[0]
    for row in rows:
        if row[0] > now_s:
            if "points" in wave and row is not rows[0]:
                part = (now_s - before[0]) / (row[0] - before[0])
                return before[1] + (row[1] - before[1]) * part
            break
        before = row
    return before[1]


# True when `name` is among the faults at the `count`th transaction (from 1).
def has_fault(faults, name, count):
    for fault in faults or ():
        if fault == name:
            return True
        if isinstance(fault, str) or fault["fault"] != name:
            continue
        if not fault.get("from_s", 0) <= elapsed_s() < fault.get("to_s", 1e9):
            continue
        if count % fault.get("every", 1) == 0:
            return True
    return False
