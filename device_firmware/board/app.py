# The board's program: sensors fill the ring, ports empty it, the supervisor watches.

import asyncio
import os

import micropython
from board import log
from board.parts import borrow, forget, load
from micropython import const

CRASH = "crash.txt"  # main.py writes it
_TICK_MS = const(100)  # longest time between two looks at what is due
_FULL_MS = const(10)  # the same while a line cannot take what there is to write
_SETTLE_MS = const(30000)  # for a sensor task to begin
_LAST_SEQ = const(0xFFFF0000)  # records are numbered in 32 bits: a new epoch begins before they end


class App:
    trial = None  # of what runs now, if it has to prove itself
    update = None  # an update under way
    rolled_back = False  # what was on trial failed, and no gateway knows

    def __init__(self):
        self.epoch = 0
        self.ring = self.supervisor = None
        self.past = None  # earlier epochs that are not delivered yet
        self.streams = []  # (name, format, channels) of each sensor; None: not known yet
        self.sensors = []
        self.actuators = []
        self.ports = []
        self.answers = []  # (cid, body) of the last commands
        self.problems = []  # what is wrong with the configuration
        self.extra = None  # adverts, sleep: has tick(app)
        self.led = None
        self.blinking = None  # the task of the command identify
        self.ending = None  # why the run ends: "reset", "repl", "closed", "failed"
        self._tasks = []
        self._failure = None

    # Returns "closed" when the line is closed for good, or "reset", or for how many ms to sleep;
    # raises what was not expected.
    async def run(self):
        for sensor in self.sensors:  # before the first HELLO, which says how many streams there are
            borrow("making").start(sensor)
        for port in self.ports:
            self.start(self._listen(port))
        if self.trial:
            self.start(self.trial.run())
        for sensor in self.sensors:
            task = self.start(sensor.run())
            sensor.watch = self.supervisor.watch(sensor.name, _SETTLE_MS, task)
        while not self.ending:
            await asyncio.sleep_ms(self.tick())
        if self._failure:
            raise self._failure
        if self.ending == "closed":
            return "closed"
        return await load("board", "leaving").leave(self)

    # Does what is due; returns how long nothing will be.
    def tick(self):
        if self.supervisor.check():
            self.ring.tick()
            if self.past and not self.past.tick():
                self.past = None
        if self.extra:
            self.extra.tick(self)
        wait_ms = _TICK_MS
        for port in self.ports:
            wait_ms = min(wait_ms, port.pump())
        return max(wait_ms, _FULL_MS)

    def start(self, coroutine):
        task = asyncio.create_task(self._guarded(coroutine))
        self._tasks.append(task)
        return task

    # A bug in one of the core's own tasks ends the program, with a record of it.
    async def _guarded(self, coroutine):
        try:
            await coroutine
        except Exception as error:
            self._failure = error
            self.ending = "failed"

    async def _listen(self, port):
        await port.listen()
        self.ending = "closed"

    # ---- what sensors and sessions call

    # The sensor of this number, its place in the configuration, says what it measures.
    def add_stream(self, number, *stream):
        if self.streams[number] == stream:
            return
        self.streams[number] = stream
        for port in self.ports:
            if port.session.streams is self.streams:
                port.session.describe(number)

    def add_record(self, record):
        self.ring.push(record, len(record))
        if self.ring.first > _LAST_SEQ:
            self.ending = "reset"
        for port in self.ports:
            port.pump()

    def on_up(self):
        try:
            os.remove(CRASH)  # the gateway knows of it now
        except OSError:
            pass
        if self.rolled_back:
            borrow("verdict").tell_rollback(self)

    # The gateway knew the epoch from another life: another one begins.
    def on_epoch(self, epoch):
        self.epoch = epoch
        self.ring.rename(epoch)
        borrow("identity").keep_epoch(epoch)

    def on_down(self):
        for port in self.ports:
            if port.session.up:
                return
        for actuator in self.actuators:
            try:
                actuator.safe()
            except Exception as error:  # the others must become safe all the same
                log.write(log.ERROR, "not safe: %r" % error)


# Modules that are in memory for a moment only. Their names stay, though: all are loaded once before
# the rest, or the names would lie between what is free later, and no line would fit there.
_PASSING = (
    "setup",
    "config",
    "beginning",
    "identity",
    "recovery",
    "making",
    "hello",
    "welcome",
    "answers",
    "asked",
    "saying",
    "slots",
)


def start():
    for kind in _PASSING:
        borrow(kind)
    for kind in ("session", "port", "supervisor", "sensing"):
        load("board", kind)
    app = App()
    load("board", "setup").build(app, CRASH)
    forget("board", "setup")
    made = [app, app.supervisor] + app.sensors
    for port in app.ports:
        made += [port, port.session, port.link]
    for each in made:  # none is made again: what makes them leaves the memory
        type(each).__init__ = None  # `del` would leave it in the class's table
    micropython.kbd_intr(-1)  # a stray 0x03 on the line is noise
    try:
        return asyncio.run(app.run())
    finally:
        micropython.kbd_intr(3)
