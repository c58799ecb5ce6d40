# Builds the board's program from config.json. What is needed only once, this module included, does
# not stay in memory; and the ring, the one large block, is taken before the rest breaks it up.

import sys

from board import log
from board.parts import borrow, forget, load
from micropython import const

_CRASH_BYTES = const(1000)
_RP2_WATCHDOG_MS = const(8388)  # its hardware counts no further
_TRIAL_S = const(30)  # a trial has a watchdog in any case: main.py has started it


# Fills an App. What is wrong costs only its own part, and is told.
def build(app, crash_path):
    from board import config

    path = borrow("slots").settings_path()
    settings, app.problems = config.load(path)
    layout = config.layout(path)
    forget("board", "config")
    beginning = borrow("beginning")
    beginning.make_ring(app, settings, layout)
    info = beginning.begin_epoch(app, settings)
    keys = beginning.load_keys(app)
    on_trial = "trial" in info
    if "rb" in info:
        app.rolled_back = True
    del beginning

    from board.supervisor import Supervisor

    app.supervisor = Supervisor(_start_watchdog(settings["watchdog_s"] or on_trial * _TRIAL_S))
    app.led = settings["led"]
    _make_actuators(app, settings["actuators"])
    _open_ports(app, settings["links"], info, keys, _read_crash(crash_path))
    _make_sensors(app, settings["sensors"])
    if "extra" in settings:
        borrow("extra").begin(app, settings["extra"], info["name"])
    borrow("beginning").begin_past(app, settings)
    if on_trial:
        app.trial = load("board", "trial").Trial(app)
    for problem in app.problems:
        log.write(log.ERROR, problem)


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
            _note(app, part["name"], error)


def _make_sensors(app, parts):
    from board.sensing import SensorTask

    for part in parts:
        app.sensors.append(SensorTask(part, app, len(app.streams)))
        app.streams.append(None)


def _open_ports(app, entries, info, keys, crash):
    from board.frame import to_json
    from board.port import Port
    from board.session import Session

    said = to_json(info)
    for link, is_sealed in _make_links(app, entries, info["name"]):
        session = Session(
            said,
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
        session.keys = keys
        if keys and is_sealed:
            session.unseal = borrow("sealed").open_body
        log.attach(session.log)
        app.ports.append(Port(link, session, app.supervisor))


def _make_links(app, entries, name):
    links = []
    for entry in entries:
        kind = entry["kind"]
        entry["board"] = name
        try:
            link = load("board", "link_" + kind).Link(entry)
            links.append((link, entry.get("sealed", kind == "ble")))
        except Exception as error:  # another link may work, and tell of it
            _note(app, "link " + kind, error)
    return links or [(load("board", "link_stdio").Link({}), False)]


def _read_crash(path):
    try:
        with open(path) as file:
            return file.read()[-_CRASH_BYTES:]
    except (OSError, ValueError):
        return ""


def _note(app, name, error):
    app.problems.append("%s: %s" % (name, borrow("making").describe_error(error)))
