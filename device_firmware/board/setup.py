# Builds the board's program from config.json. What is needed only once, this module included, does
# not stay in memory; and the ring, the one large block, is taken before the rest breaks it up.

import sys
from binascii import crc32

from board import log
from board.making import describe_error
from board.parts import borrow, forget, load
from board.ring import Ring
from micropython import const

_CRASH_BYTES = const(1000)
_RP2_WATCHDOG_MS = const(8388)  # its hardware counts no further
_RP2040 = const(0x4005800C)  # WATCHDOG's SCRATCH0 in the datasheets
_RP2350 = const(0x400D800C)


# Fills an App. What is wrong costs only its own part, and is told.
def build(app, crash_path):
    from board import config

    settings, app.problems = config.load()
    layout = _read_layout(config.PATH)
    forget("board", "config")
    app.ring = _make_ring(settings["ring_bytes"], layout, app.problems)

    from board import identity

    app.epoch = app.ring.epoch
    if app.epoch is None:
        app.epoch = identity.begin_epoch()
    app.ring.rename(app.epoch)
    info = identity.describe(settings["name"])
    forget("board", "identity")

    from board.supervisor import Supervisor

    app.supervisor = Supervisor(_start_watchdog(settings["watchdog_s"]))
    app.led = settings["led"]
    _make_actuators(app, settings["actuators"])
    _open_ports(app, settings["links"], info, _read_crash(crash_path))
    _make_sensors(app, settings["sensors"])
    forget("board", "making")
    for problem in app.problems:
        log.write(log.ERROR, problem)


# A number that changes with the configuration and the firmware: then records mean something else.
def _read_layout(path):
    check = crc32(borrow("identity").FIRMWARE.encode())
    try:
        with open(path, "rb") as file:
            return crc32(file.read(), check)
    except OSError:
        return check


def _make_ring(size_bytes, layout, problems):
    while True:
        try:
            return _make_lasting_ring(size_bytes, layout) or Ring(size_bytes)
        except MemoryError:
            problems.append("no memory for a ring of %d bytes: half of it" % size_bytes)
            size_bytes //= 2


# A ring of which something outlives a reset, if the chip has a memory for that.
def _make_lasting_ring(size_bytes, layout):
    if sys.platform == "rp2":
        at = _RP2350 if "RP2350" in sys.implementation._machine else _RP2040
        return load("board", "scratch").ScratchRing(size_bytes, at)
    return borrow("recovery").make(size_bytes, layout)


# From here on it has to be fed: what is left of the set-up takes less than it allows.
def _start_watchdog(watchdog_s):
    if not watchdog_s:
        return None
    from machine import WDT

    timeout_ms = watchdog_s * 1000
    if sys.platform == "rp2":
        timeout_ms = min(timeout_ms, _RP2_WATCHDOG_MS)
    return WDT(timeout=timeout_ms)


def _make_actuators(app, parts):
    for part in parts:
        try:
            app.actuators.append(load("actuators", part["kind"]).Actuator(part))
        except Exception as error:  # whatever its driver raises concerns this one only
            app.problems.append("%s: %s" % (part["name"], describe_error(error)))


def _make_sensors(app, parts):
    from board.sensing import SensorTask

    for part in parts:
        app.sensors.append(SensorTask(part, app, len(app.streams)))
        app.streams.append(None)


def _open_ports(app, entries, info, crash):
    from board.port import Port
    from board.session import Session

    for link in _make_links(entries, app.problems):
        session = Session(
            info,
            app.ring,
            app.epoch,
            app.streams,
            app.actuators,
            app,
            crash,
            (link.max_line - 2) // 4 * 3,
        )
        session.answers = app.answers  # a command may be repeated on another link
        session.on_up = app.on_up
        session.on_down = app.on_down
        session.on_epoch = app.on_epoch
        log.attach(session.log)
        app.ports.append(Port(link, session, app.supervisor))


def _make_links(entries, problems):
    links = []
    for entry in entries:
        kind = entry["kind"]
        try:
            links.append(load("board", "link_" + kind).Link(entry))
        except Exception as error:  # another link may work, and tell of it
            problems.append("link %s: %s" % (kind, describe_error(error)))
    return links or [load("board", "link_stdio").Link({})]


def _read_crash(path):
    try:
        with open(path) as file:
            return file.read()[-_CRASH_BYTES:]
    except (OSError, ValueError):
        return ""
