# The board's program: sensors fill the ring, ports empty it, the supervisor watches.

import asyncio
import gc
import os
import sys

import board
import micropython
from board import clock, log
from micropython import const

CRASH = "crash.txt"  # main.py writes it
_TICK_MS = const(100)  # longest time between two looks at what is due
_FULL_MS = const(10)  # the same while a line cannot take what there is to write
_DRAIN_MS = const(3000)  # longest time to deliver what is in the ring before a reset
_FLUSH_MS = const(200)  # for the last lines to leave the buffers of a UART or of USB
_BACK_MS = const(4000)  # until a board that was reset says HELLO
_SETTLE_MS = const(30000)  # for a sensor task to begin
_LAST_SEQ = const(0xFFFF0000)  # records are numbered in 32 bits: a new epoch begins before they end


class App:
    def __init__(self):
        self.epoch = 0
        self.ring = self.supervisor = None
        self.streams = []  # (name, format, channels) of the sensors that have started
        self.sensors = []
        self.actuators = []
        self.ports = []
        self.answers = []  # (cid, body) of the last commands
        self.problems = []  # what is wrong with the configuration
        self.led = None
        self._tasks = []
        self._blinking = None
        self._failure = None
        self._ending = None

    # Returns "closed" when the line is closed for good, or "reset"; raises what was not expected.
    async def run(self):
        for port in self.ports:
            self._start(self._listen(port))
        for sensor in self.sensors:
            task = self._start(sensor.run())
            sensor.watch = self.supervisor.watch(sensor.name, _SETTLE_MS, task)
        self.supervisor.start_watchdog()
        while not self._ending:
            await asyncio.sleep_ms(self._tick())
        if self._failure:
            raise self._failure
        if self._ending == "closed":
            return "closed"
        await self._leave()
        return "reset"

    # Returns how long nothing will be due.
    def _tick(self):
        self.supervisor.check()
        wait_ms = _TICK_MS
        for port in self.ports:
            wait_ms = min(wait_ms, port.pump())
        return max(wait_ms, _FULL_MS)

    # Whoever made us leave gets the answer, and the gateway what was measured, if it takes it soon.
    async def _leave(self):
        for sensor in self.sensors:
            sensor.stop()
        await self._tick_until(lambda: self.ring.count == 0, _DRAIN_MS)
        for port in self.ports:
            port.session.bye(_BACK_MS if self._ending == "reset" else 0)
        await self._tick_until(lambda: False, _FLUSH_MS)
        if self._ending == "repl":
            with open("repl", "w"):  # main.py finds it
                pass

    async def _tick_until(self, condition, limit_ms):
        start_ms = clock.now_ms()
        while not condition() and clock.since_ms(start_ms) < limit_ms:
            self._tick()
            await asyncio.sleep_ms(_FULL_MS)

    def _start(self, coroutine):
        task = asyncio.create_task(self._guarded(coroutine))
        self._tasks.append(task)
        return task

    # A bug in one of the core's own tasks ends the program, with a record of it.
    async def _guarded(self, coroutine):
        try:
            await coroutine
        except Exception as error:
            self._failure = error
            self._ending = "failed"

    async def _listen(self, port):
        await port.listen()
        self._ending = "closed"

    # ---- what sensors and sessions call

    # A sensor has started; returns the number of its stream.
    def add_stream(self, name, form, channels):
        number = len(self.streams)
        self.streams.append((name, form, channels))
        for port in self.ports:
            port.session.describe(number)
        return number

    def add_record(self, record):
        self.ring.push(record, len(record))
        if self.ring.first > _LAST_SEQ:
            self.leave("reset")
        for port in self.ports:
            port.pump()

    def on_up(self):
        try:
            os.remove(CRASH)  # the gateway knows of it now
        except OSError:
            pass

    def on_down(self):
        for port in self.ports:
            if port.session.up:
                return
        for actuator in self.actuators:
            try:
                actuator.safe()
            except Exception as error:  # the others must become safe all the same
                log.write(log.ERROR, "not safe: %r" % error)

    # Finds a command for a session, or None.
    def get(self, name):
        from board import commands

        self.forget("commands")
        if name in commands.NAMES:
            return getattr(commands.Commands(self), name)
        return None

    # Lets go of a module; whoever needs it again imports it again.
    def forget(self, name):
        del sys.modules["board." + name]
        delattr(board, name)
        gc.collect()

    # ---- what commands call

    # Returns (index, actuator).
    def actuator(self, key):
        for index, actuator in enumerate(self.actuators):
            if actuator.key == key:
                return index, actuator
        raise ValueError("no actuator %s" % key)

    def report(self, index):
        for port in self.ports:
            port.session.report(index)

    # Returns name -> text of all that is wrong now.
    def errors(self):
        errors = {}
        if self.problems:
            errors["config"] = "; ".join(self.problems)
        for sensor in self.sensors:
            if sensor.error:
                errors[sensor.name] = sensor.error
        return errors

    # Returns False if there is no LED.
    def blink(self):
        if self.led is None:
            return False
        if self._blinking:
            self._blinking.cancel()
        self._blinking = asyncio.create_task(self._blink())
        return True

    async def _blink(self):
        from machine import Pin

        led = Pin(self.led, Pin.OUT)
        for half in range(20):
            led.value(1 - half % 2)
            await asyncio.sleep_ms(250)

    # "reset" or "repl"
    def leave(self, how):
        self._ending = how


def start():
    app = _make_app()
    micropython.kbd_intr(-1)  # a stray 0x03 on the line is noise
    try:
        return asyncio.run(app.run())
    finally:
        micropython.kbd_intr(3)


def _make_app():
    from board import setup

    app = App()
    setup.build(app, CRASH)
    app.forget("setup")
    return app
