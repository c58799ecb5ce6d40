# What of the flash runs: which slot, which settings, and what of that is on trial. boot_sel.py
# chose it; a board without slots, or without boot_sel.py, has none.

import json
import sys
from binascii import hexlify
from hashlib import sha256

from micropython import const

STATE = "slots.json"
_PIECE = const(256)


# The slot this program runs from, or None.
def running():
    return sys.path[0] if sys.path[0] in ("a", "b") else None


# slots.json. Without it there is neither a slot nor a trial.
def load():
    found = {}
    try:
        with open(STATE) as file:
            found = json.load(file)
    except (OSError, ValueError):
        pass
    return found if isinstance(found, dict) else {}


# What is on trial in this run: "a", "b", "config" or None. A start that boot_sel.py could not count
# as a try is none.
def trial():
    found = load().get("t")
    if found == "config":
        return found if "config.try" in sys.path else None
    return found if found == running() else None


# Where the settings in force are.
def settings_path():
    return "config.try" if trial() == "config" else "config.json"


# Adds the keys of HELLO that say what runs.
def describe(info):
    slot = running()
    if slot:
        path = slot + "/manifest"
        info["mh"] = digest(path)[:16]
        info["slot"] = slot
        with open(path) as file:
            info["fw"] = json.loads(file.readline())["v"]
    settings = digest(settings_path())
    if settings:
        info["ch"] = settings[:8]
    bytecode = getattr(sys.implementation, "_mpy", 0)
    if bytecode:
        info["mpy"] = bytecode & 0xFF
    if trial():
        info["trial"] = True
    reason = load().get("rb")
    if reason:
        info["rb"] = reason


# The SHA-256 of a file in hex; "" if it cannot be read.
def digest(path):
    hash = sha256()
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    try:
        with open(path, "rb") as file:
            while True:
                count = file.readinto(buffer)
                if not count:
                    break
                hash.update(view[:count])
    except OSError:
        return ""
    return hexlify(hash.digest()).decode()
