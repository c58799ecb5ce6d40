# What the gateway can tell the board to do. Each returns what JSON can carry, or raises ValueError.
# Commands are seldom: this module is loaded for each, and does not stay in memory.

import gc

from board import clock, log

INTERVAL_MS = (1, 86400000)
NAMES = ("set", "interval", "identify", "info", "reset", "repl")


class Commands:
    def __init__(self, app):
        self._app = app

    # args: {actuator: value, ...}; the answer has their states.
    def set(self, args):
        app = self._app
        for key in _names(args):
            app.actuator(key)  # all are known before the first moves
        states = {}
        for key, value in args.items():
            index, actuator = app.actuator(key)
            try:
                actuator.set(value)
            finally:
                app.report(index)
            states[key] = actuator.state
        return states

    # args: {stream: ms, ...}; until the next boot.
    def interval(self, args):
        sensors = {sensor.name: sensor for sensor in self._app.sensors}
        low, high = INTERVAL_MS
        for name in _names(args):
            ms = args[name]
            if name not in sensors:
                raise ValueError("no stream %s" % name)
            if not isinstance(ms, int) or not low <= ms <= high:
                raise ValueError("%s: an interval is from %d to %d ms" % (name, low, high))
        for name, ms in args.items():
            sensors[name].interval_ms = ms
        return args

    def identify(self, _args):
        if not self._app.blink():
            raise ValueError("config.json names no led")
        log.write(log.INFO, "here I am")

    def info(self, _args):
        app = self._app
        ring = app.ring
        gc.collect()
        return {
            "uptime_s": clock.uptime_s(),
            "heap_free": gc.mem_free(),
            "heap_used": gc.mem_alloc(),
            "ring_bytes": ring.size,
            "ring_used": ring.used,
            "unacked": ring.count,
            "lost": ring.lost,
            "epoch": app.epoch,
            "errors": app.errors(),
            "links": [port.statistics() for port in app.ports],
        }

    def reset(self, _args):
        self._app.leave("reset")

    # The next boot leaves the board to its REPL, without this program and without the watchdog.
    def repl(self, _args):
        self._app.leave("repl")


def _names(args):
    if not isinstance(args, dict) or not args:
        raise ValueError('the arguments must be an object such as {"name": value}')
    return args
