# One task per sensor: reads it in its rhythm, and packs what it says into the ring.
# A sensor that fails is told once, tried again ever more seldom, and never stops the others.

import asyncio
import random
from struct import pack_into

from board import clock
from board.parts import borrow
from micropython import const

_READ_MS = const(15000)  # a reading that takes longer is given up
_SLICE_MS = const(1000)  # longest sleep at once, so that a new interval is soon obeyed
_BACKOFF_MS = const(300000)  # longest wait after failures
_RECORD_HEAD = const(6)  # len, stream, mono_ms: see making.py


class SensorTask:
    phase_ms = 1000  # sensors of one interval do not all read at the same moment

    # number: of its stream
    def __init__(self, config, app, number=0):
        self.name = config["name"]
        self.number = number
        self.interval_ms = config["interval_ms"]
        self.error = None  # text of what is wrong now
        self.watch = None
        self.config = config
        self.app = app
        self.sensor = None
        self.form = None
        self.record = None
        self.failures = 0
        self._due_ms = 0  # when the last reading was due

    async def run(self):
        phase_ms = random.getrandbits(16) % min(self.interval_ms, self.phase_ms)
        self._due_ms = (clock.now_ms() + phase_ms - self.interval_ms) & 0xFFFFFFFF
        while True:
            await self._wait()
            self.watch.report(_READ_MS)
            try:
                if self.sensor is None:
                    borrow("making").make(self)
                self._push(await self.sensor.read())
            except asyncio.CancelledError:
                if not self.watch.was_overdue:
                    raise
                late = ValueError("no answer within %d s" % (_READ_MS // 1000))
                borrow("making").fail(self, late)
            except Exception as error:  # whatever a driver raises concerns this sensor only
                borrow("making").fail(self, error)
            else:
                if self.failures:
                    borrow("making").work_again(self)

    # Ms from one reading to the next: after failures longer and longer.
    def _period_ms(self):
        if not self.failures:
            return self.interval_ms
        backoff_ms = 1000 << min(self.failures - 1, 9)
        return max(self.interval_ms, min(backoff_ms, _BACKOFF_MS))

    async def _wait(self):
        await asyncio.sleep_ms(0)  # the others' turn, however late this sensor is
        while True:
            period_ms = self._period_ms()
            passed_ms = clock.since_ms(self._due_ms)
            if passed_ms >= period_ms:
                break
            self.watch.report(_SLICE_MS + _READ_MS)
            await asyncio.sleep_ms(min(period_ms - passed_ms, _SLICE_MS))
        if passed_ms < 2 * period_ms:
            self._due_ms = (self._due_ms + period_ms) & 0xFFFFFFFF
        else:  # readings were missed, and are not made up for
            self._due_ms = clock.now_ms()

    def _push(self, values):
        record = self.record
        pack_into("<I", record, 2, clock.now_ms())
        pack_into(self.form, record, _RECORD_HEAD, *values)
        self.app.add_record(record)
