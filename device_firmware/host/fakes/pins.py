# Pins whose levels a test can see and drive.
# Modelled: modes, pulls, output latches, open drain, edges with interrupts. Not modelled: voltages
# in between, drive strength, which pins a chip has, hard interrupts: a handler runs inside the
# call that caused the edge.
#
# drive(5, 1) sets the level from outside; watch(5, f) calls f(level) at each change of the wire.

import json
import time

from fakes import chip

_lines = {}


# The wire at one pin: all Pin objects of a number share it.
class Line:
    def __init__(self, number):
        self.number = number
        self.mode = self.pull = -1
        self.latch = 0
        self.outside = None
        self.handler = None
        self.trigger = 0
        self.edges = [0, 0]  # falling, rising
        self.watchers = []
        self.last = 0

    def level(self):
        if self.mode == Pin.OUT:
            return self.latch
        if self.mode == Pin.OPEN_DRAIN and not self.latch:
            return 0
        if self.outside is not None:
            return self.outside
        told = chip.told("pins", self.number)
        if told is not None:
            from fakes import settings

            return 1 if settings.value_of(told) else 0
        return 1 if self.pull == Pin.PULL_UP or self.mode == Pin.OPEN_DRAIN else 0

    # To be called after anything that may have changed the level.
    def settle(self):
        level = self.level()
        if level == self.last:
            return
        self.last = level
        self.edges[level] += 1
        for watcher in self.watchers:
            watcher(level)
        if self.mode in (Pin.OUT, Pin.OPEN_DRAIN):
            note(self.number, "value", level)
        if self.handler and self.trigger & (Pin.IRQ_RISING if level else Pin.IRQ_FALLING):
            self.handler(Pin(self.number))


def line(number):
    if number not in _lines:
        _lines[number] = Line(number)
    return _lines[number]


def drive(number, level):
    wire = line(number)
    wire.outside = level
    wire.settle()


def watch(number, watcher):
    line(number).watchers.append(watcher)


# Writes a change of an output to pins.log, when fakes.json asks for it.
def note(number, what, value):
    if chip.told("log_pins"):
        with open("pins.log", "a") as f:
            f.write(
                json.dumps({"ms": time.time_ns() // 1000000, "pin": number, what: value}) + "\n"
            )


class Pin:
    IN, OUT, OPEN_DRAIN = 0, 1, 2
    PULL_UP, PULL_DOWN = 1, 2
    IRQ_RISING, IRQ_FALLING = 1, 2

    def __init__(self, id, mode=-1, pull=-1, *, value=None, drive=0, alt=-1):
        if isinstance(id, Pin):
            id = id.number
        self.number = id
        self._line = line(id)
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None, drive=0, alt=-1):
        wire = self._line
        if value is not None:  # before the mode: an output starts at this level
            wire.latch = 1 if value else 0
        if mode != -1:
            wire.mode = mode
        if pull != -1:
            wire.pull = pull
        wire.settle()

    def value(self, level=None):
        if level is None:
            self._line.settle()
            return self._line.level()
        self._line.latch = 1 if level else 0
        self._line.settle()
        return None

    def __call__(self, level=None):
        return self.value(level)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def toggle(self):
        self.value(not self._line.latch)

    def irq(self, handler=None, trigger=3, *, priority=1, wake=None, hard=False):
        self._line.handler = handler
        self._line.trigger = trigger
        self._line.settle()

    def __repr__(self):
        return "Pin(%s)" % self.number
