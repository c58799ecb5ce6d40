# What is done before the board's program runs: a moment for people to interrupt, and the choice of
# what runs, slot a or b, or for a trial what is new. Like main.py it is not updated over the air.
#
# slots.json, replaced by rename only (board/slots.py writes it too):
#   a    the slot that has proven itself
#   t    what is on trial: "a" or "b", or "config" for the settings in config.try; null: nothing
#   n    how often that was started
#   m    the first 16 hex digits of its manifest's hash
#   why  what ended its last try, if the program knew
#   q    true: no sensor worked before it, so none has to for it to prove itself
#   c    crashes in a row, outside a trial, of which no gateway heard
#   rb   why the last trial, or slot, was given up, until a gateway has heard of it

import json
import os
import sys
import time
from binascii import hexlify
from hashlib import sha256

import machine

try:
    from boot_settings import WATCHDOG_MS, WINDOW_MS, prepare
except ImportError:
    WINDOW_MS = 1500  # Ctrl-C works for this long, then no more
    WATCHDOG_MS = 8300 if sys.platform == "rp2" else 30000  # until what is on trial feeds it
    prepare = None

STATE = "slots.json"
SETTINGS = "config.try"
TRIES = 2
CRASHES = 3  # then the other slot may do better: the flash of this one may have gone bad


# Returns whether the board's program is to run; it can be imported then.
def choose():
    try:
        os.remove("repl")  # the command `repl` leaves this flag
        return False
    except OSError:
        pass
    if WINDOW_MS and machine.reset_cause() != getattr(machine, "DEEPSLEEP_RESET", None):
        print("starting in %d ms; Ctrl-C for the REPL" % WINDOW_MS)
        time.sleep_ms(WINDOW_MS)
    slot, on_trial = select()
    if slot:
        sys.path.insert(0, slot)
    if on_trial:
        machine.WDT(timeout=WATCHDOG_MS)  # what hangs before it has a watchdog must not stay
    if prepare:
        prepare()
    return True


# A board without slots has none in it either; one whose file is lost takes what is whole.
def load():
    state = {}
    try:
        with open(STATE) as file:
            state = json.load(file)
    except (OSError, ValueError):
        pass
    if not isinstance(state, dict):
        state = {}
    slots = [state.get("a"), "a", "b"]
    state["a"] = None
    for slot in slots:
        if slot in ("a", "b") and exists(slot + "/manifest"):  # written last: the rest is there
            state["a"] = slot
            break
    if state.get("t") not in ("a", "b", "config"):
        state["t"] = None
    if not isinstance(state.get("n"), int):
        state["n"] = 0
    return state


# Whole or not at all, whenever the power goes.
def save(state):
    with open(STATE + ".new", "w") as file:
        json.dump(state, file)
    os.rename(STATE + ".new", STATE)


def exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


# Returns the slot to run, None if there are none, and whether anything is on trial.
def select():
    state = load()
    trial = state["t"]
    if trial:
        if not exists(SETTINGS if trial == "config" else trial + "/manifest"):
            trial = None  # the power went while it was made what is proven
        elif state["n"] < TRIES:
            state["n"] += 1
        else:
            state["rb"] = state.get("why") or reason()
            trial = None
        state["t"] = trial
        state["why"] = None
        try:
            save(state)
        except OSError:
            trial = None  # a try that is not counted might be the first of many
    if trial in ("a", "b"):
        return trial, True
    if trial:
        sys.path.append(SETTINGS)  # for board/slots.py: this start is one of its tries
    return state["a"], trial is not None


# Why the last try ended.
def reason():
    try:
        with open("crash.txt") as file:
            lines = file.read().strip().split("\n")
            return ("crash: " + lines[-1])[:80]
    except (OSError, ValueError):
        pass
    cause = machine.reset_cause()
    if cause == getattr(machine, "WDT_RESET", None):
        return "it hung: the watchdog reset the board"
    if cause == getattr(machine, "PWRON_RESET", None):
        return "the power went before it had proven itself"
    return "it was reset before it had proven itself"


# The program crashed; is_told: a gateway has heard of the crash before this one, if there was one.
# Where nothing is on trial the other slot takes over after some, if it is whole.
def note_crash(error, is_told):
    state = load()
    if state["t"] or not state["a"]:
        return
    count = state.get("c")
    count = 1 if is_told or not isinstance(count, int) else count + 1
    state["c"] = count
    slot = state["a"]
    other = "b" if slot == "a" else "a"
    if count >= CRASHES and exists(other + "/manifest"):
        del state["c"]
        state["a"] = other
        state["m"] = digest(slot + "/manifest")
        state["rb"] = ("slot %s crashed %d times: %r" % (slot, count, error))[:80]
    save(state)


# As a HELLO says it (`mh`).
def digest(path):
    with open(path, "rb") as file:
        return hexlify(sha256(file.read()).digest()).decode()[:16]
