# Who the board is, and which of its lives this one is.

import json
import os
import sys
from binascii import hexlify

import machine

FIRMWARE = "0.1.0"
STATE = "boot.json"  # {"epoch": 7}


def board_id():
    return sys.platform + "-" + hexlify(machine.unique_id()).decode()


# Such as "MicroPython 1.25.0".
def runtime():
    name = sys.implementation.name
    name = {"micropython": "MicroPython", "cpython": "CPython"}.get(name, name)
    return name + " " + ".".join(str(part) for part in sys.implementation.version[:3])


# A port knows only some of these.
def reset_cause():
    cause = machine.reset_cause()
    for name, text in (
        ("PWRON_RESET", "power"),
        ("WDT_RESET", "watchdog"),
        ("DEEPSLEEP_RESET", "sleep"),
        ("SOFT_RESET", "soft"),
        ("HARD_RESET", "hard"),
    ):
        if getattr(machine, name, None) == cause:
            return text
    return "unknown"


def random_u32():
    return int.from_bytes(os.urandom(4), "little")


# The HELLO's keys that do not change.
def describe(name):
    identity = board_id()
    return {
        "id": identity,
        "name": name or identity,
        "fw": FIRMWARE,
        "mp": runtime(),
        "plat": sys.platform,
        "rst": reset_cause(),
        "n": random_u32(),
    }


# Begins a new epoch, as records are numbered from 0 again and the clock starts anew.
# On an erased or unreadable flash the epoch is drawn at random: counting from 0 again would give
# new records numbers that the gateway has seen.
def begin_epoch():
    try:
        with open(STATE) as file:
            epoch = (json.load(file)["epoch"] + 1) & 0xFFFF
    except (OSError, ValueError, KeyError, TypeError):
        epoch = random_u32() & 0xFFFF
    if not keep_epoch(epoch):
        epoch = random_u32() & 0xFFFF  # the next boot would take the same one
    return epoch


# Whole or not at all, whenever the power goes. Returns whether it did.
def keep_epoch(epoch):
    try:
        with open(STATE + ".new", "w") as file:
            json.dump({"epoch": epoch}, file)
        os.rename(STATE + ".new", STATE)
    except OSError:
        return False
    return True
