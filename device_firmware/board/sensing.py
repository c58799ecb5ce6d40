# One task per sensor: reads it in its rhythm, and packs what it says into the ring.
# A sensor that fails is told once, tried again ever more seldom, and never stops the others.

import asyncio
import random
from struct import calcsize, pack_into

from board import clock, log
from board.parts import describe_error, load
from micropython import const

_READ_MS = const(15000)  # a reading that takes longer is given up
_SLICE_MS = const(1000)  # longest sleep at once, so that a new interval is soon obeyed
_PHASE_MS = const(1000)  # sensors of one interval do not all read at the same moment
_BACKOFF_MS = const(300000)  # longest wait after failures
_RECORD_HEAD = const(6)  # len, stream, mono_ms


class SensorTask:
    # number: of its stream
    def __init__(self, config, app, number=0):
        self.name = config["name"]
        self._number = number
        self.interval_ms = config["interval_ms"]
        self.error = None  # text of what is wrong now
        self.watch = None
        self._config = config
        self._app = app
        self._sensor = None
        self._form = None
        self._record = None
        self._failures = 0
        self._due_ms = 0  # when the last reading was due

    # The first try to make the sensor; if it fails, run tries again. A kind whose channels do not
    # depend on the configuration is described all the same, as the keys of the others depend on it.
    def start(self):
        kind = None
        try:
            kind = self._kind()
            self._make(kind)
        except Exception as error:  # whatever a driver raises concerns this sensor only
            self._failed(describe_error(error))
            if hasattr(kind, "fmt") and hasattr(kind, "channels"):
                self._app.add_stream(self._number, self.name, kind.fmt, kind.channels)

    async def run(self):
        phase_ms = random.getrandbits(16) % min(self.interval_ms, _PHASE_MS)
        self._due_ms = (clock.now_ms() + phase_ms - self.interval_ms) & 0xFFFFFFFF
        while True:
            await self._wait()
            self.watch.report(_READ_MS)
            try:
                if self._sensor is None:
                    self._make(self._kind())
                self._push(await self._sensor.read())
            except asyncio.CancelledError:
                if not self.watch.was_overdue:
                    raise
                self._failed("no answer within %d s" % (_READ_MS // 1000))
            except Exception as error:  # whatever a driver raises concerns this sensor only
                self._failed(describe_error(error))
            else:
                self._worked()

    # Ms from one reading to the next: after failures longer and longer.
    def _period_ms(self):
        if not self._failures:
            return self.interval_ms
        backoff_ms = 1000 << min(self._failures - 1, 9)
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

    def _kind(self):
        return load("sensors", self._config["kind"]).Sensor

    def _make(self, kind):
        sensor = kind(self._config)
        self._form = "<" + sensor.fmt
        size = _RECORD_HEAD + calcsize(self._form)
        if size > 255:
            raise ValueError("a record of %d bytes is too long" % size)
        self._record = bytearray(size)
        self._record[0] = size
        self._record[1] = self._number
        self._app.add_stream(self._number, self.name, sensor.fmt, sensor.channels)
        self._sensor = sensor

    def _push(self, values):
        record = self._record
        pack_into("<I", record, 2, clock.now_ms())
        pack_into(self._form, record, _RECORD_HEAD, *values)
        self._app.add_record(record)

    def _failed(self, text):
        self._failures += 1
        if text != self.error:
            self.error = text
            log.write(log.WARNING, "%s: %s" % (self.name, text))

    def _worked(self):
        if self._failures:
            log.write(log.INFO, "%s: works again (failures: %d)" % (self.name, self._failures))
            self._failures = 0
            self.error = None
