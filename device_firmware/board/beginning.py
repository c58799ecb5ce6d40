# What a run begins with: its ring and its epoch, and what earlier ones left.

import os
import sys
from binascii import crc32

from board.parts import borrow, load
from board.ring import Ring
from micropython import const

_RP2040 = const(0x4005800C)  # WATCHDOG's SCRATCH0 in the datasheets
_RP2350 = const(0x400D800C)


# layout: a number that changes with the configuration
def make_ring(app, settings, layout):
    layout = crc32(borrow("identity").FIRMWARE.encode(), layout)
    size_bytes = settings["ring_bytes"]
    while not app.ring:
        try:
            app.ring = _lasting(size_bytes, layout) or Ring(size_bytes)
        except MemoryError:
            app.problems.append("no memory for a ring of %d bytes: half of it" % size_bytes)
            size_bytes //= 2


# A ring of which something outlives a reset, if the chip has a memory for that.
def _lasting(size_bytes, layout):
    if sys.platform == "rp2":
        at = _RP2350 if "RP2350" in sys.implementation._machine else _RP2040
        return load("board", "scratch").ScratchRing(size_bytes, at)
    return borrow("recovery").make(size_bytes, layout)


# Returns what HELLO says of the board.
def begin_epoch(app, settings):
    identity = borrow("identity")
    app.epoch = app.ring.epoch
    if app.epoch is None:
        app.epoch = identity.begin_epoch()
        while _exists("q") and borrow("scanning").has(app.epoch):  # drawn, and by chance the same
            app.epoch = identity.begin_epoch()
    app.ring.rename(app.epoch)
    if settings["durability"] == "batch":
        app.ring = borrow("scanning").make_backlog(app, settings["flash_bytes"])
    info = identity.describe(settings["name"])
    borrow("slots").describe(info)
    return info


# The board's key; None without one.
def load_keys(app):
    return borrow("sealed").load(app.problems) if _exists("device.key") else None


# Once there are sessions: they first speak of what is left of earlier epochs.
def begin_past(app, settings):
    if settings["durability"] == "batch" or _exists("q"):
        app.past = borrow("scanning").make_past(app)


def _exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True
