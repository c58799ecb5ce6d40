"""Boards that print text, as most Arduino sketches do.

`Printing`  prints each reading once and forgets it, as JSON or as values between commas (T0)
`Acked`     numbers its readings and keeps each until `{"ack":N}` says that it is safe (T1)

Both are models without I/O of what a sketch does; `TextBoard` runs one on a pty.
"""

import asyncio
import json
import math
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from gateway.simulate.faults import FaultPlan, LinkAction
from gateway.simulate.pty_port import PtyPort
from gateway.simulate.wire import Wire

Values: TypeAlias = Mapping[str, float]

_MAX_INPUT = 256
"""Longest line a board reads, in bytes; an Arduino's buffer is smaller still."""


class Sketch(Protocol):
    """What a board prints and how it answers; time comes in as seconds that never step."""

    due_s: float
    """When `loop` has something to do."""

    def setup(self, now_s: float) -> bytes:
        """Begin after power on, with empty memory; return what is printed."""

    def loop(self, now_s: float) -> bytes:
        """Return what is printed now; moves `due_s` on."""

    def on_line(self, line: bytes, now_s: float) -> bytes:
        """Return the answer to a line of the gateway."""


def room_climate(number: int) -> Values:
    """Return the `number`-th reading in a made-up room: slow waves, without chance."""
    return {
        "temperature": round(21 + 3 * math.sin(number / 50), 2),
        "humidity": round(45 + 10 * math.cos(number / 80), 1),
    }


def json_line(values: Mapping[str, float]) -> bytes:
    """Return `{"temperature":21.5,"humidity":45.2}`."""
    return json.dumps(values, separators=(",", ":")).encode()


def csv_line(values: Values) -> bytes:
    """Return `21.5,45.2`; the gateway's configuration names the columns."""
    return ",".join(str(value) for value in values.values()).encode()


class Printing:
    """Prints a reading each `interval_s`; what nobody hears is lost."""

    def __init__(self, interval_s: float, form: Callable[[Values], bytes] = json_line) -> None:
        self.due_s = 0.0
        self.printed = 0
        """Readings printed, over all its lives."""
        self._interval_s = interval_s
        self._form = form

    def setup(self, now_s: float) -> bytes:
        """Print a greeting, as sketches do."""
        self.due_s = now_s + self._interval_s
        return b"\r\nroom sensor 1.0 ready\r\n"

    def loop(self, now_s: float) -> bytes:
        """Read the sensor and print."""
        self.due_s = max(self.due_s + self._interval_s, now_s)
        line = self._form(room_climate(self.printed))
        self.printed += 1
        return line + b"\r\n"

    def on_line(self, line: bytes, now_s: float) -> bytes:  # noqa: ARG002 it does not listen
        """Ignore the gateway."""
        return b""


class Acked:
    r"""Numbers its readings; prints the oldest again and again until the gateway has it safe.

    This is all a sketch has to do for at-least-once delivery, here in Arduino's C++:

        struct { long seq; float t; } waiting[16];  // a queue: first, count
        void print() { Serial.printf("{\"seq\":%ld,\"t\":%.2f}\n", front().seq, front().t);
                       printedAt = millis(); }
        void loop() {
          if (timeToRead()) push({seq++, readSensor()});               // full: drops the oldest
          if (count && millis() - printedAt >= 1000) print();          // not acknowledged: again
          if (Serial.available()) {
            long n = -1; sscanf(Serial.readStringUntil('\n').c_str(), "{\"ack\":%ld}", &n);
            if (count && n == front().seq) { pop(); if (count) print(); }
          }
        }

    The numbers begin at 0 after each power on. `epoch` makes it count them, which a board can do
    that has an EEPROM. Lines end in a tab and a CRC-32, so that a damaged one is not believed; a
    board may leave that out.
    """

    RESEND_S = 1.0
    """How long it waits for an acknowledgement."""

    MAX_WAITING = 16
    """Readings it remembers."""

    def __init__(self, interval_s: float, epoch: int | None = None) -> None:
        self.due_s = 0.0
        self.epoch = epoch
        """Counts power ons; None for a board that cannot."""
        self.taken = 0
        """Readings taken, over all its lives."""
        self.acked = 0
        """Readings the gateway has acknowledged."""
        self.lost = 0
        """Readings lost to a full queue or to a power cut."""
        self.waiting: deque[tuple[int, Values]] = deque()
        """Number and values of what is not acknowledged, oldest first."""
        self._interval_s = interval_s
        self._next_seq = 0
        self._read_s = 0.0
        self._print_s = 0.0

    def setup(self, now_s: float) -> bytes:
        """Forget everything but the epoch."""
        self.lost += len(self.waiting)
        self.waiting.clear()
        self._next_seq = 0
        if self.epoch is not None:
            self.epoch += 1
        self._read_s = self._print_s = self.due_s = now_s + self._interval_s
        return b"\r\nmeter 1.0 ready\r\n"

    def loop(self, now_s: float) -> bytes:
        """Read the sensor when it is time, print what is due."""
        out = b""
        if now_s >= self._read_s:
            if len(self.waiting) == self.MAX_WAITING:
                self.waiting.popleft()
                self.lost += 1
            if not self.waiting:
                self._print_s = now_s
            self.waiting.append((self._next_seq, room_climate(self.taken)))
            self._next_seq += 1
            self.taken += 1
            self._read_s = max(self._read_s + self._interval_s, now_s)
        if self.waiting and now_s >= self._print_s:
            out = self._print(now_s)
        self.due_s = min(self._read_s, self._print_s) if self.waiting else self._read_s
        return out

    def on_line(self, line: bytes, now_s: float) -> bytes:
        """Take an acknowledgement and print the next reading."""
        try:
            answer = json.loads(line)
        except ValueError:
            return b""
        if not self.waiting or answer != {"ack": self.waiting[0][0]}:
            return b""
        self.waiting.popleft()
        self.acked += 1
        return self._print(now_s) if self.waiting else b""

    def _print(self, now_s: float) -> bytes:
        self._print_s = now_s + self.RESEND_S
        seq, values = self.waiting[0]
        head = {"seq": seq} if self.epoch is None else {"ep": self.epoch, "seq": seq}
        line = json_line({**head, **values})
        return b"%b\t%08x\n" % (line, zlib.crc32(line))


class TextBoard:
    """Runs a sketch on a pty, by callbacks of the running loop."""

    def __init__(self, path: Path, sketch: Sketch, plan: FaultPlan | None = None) -> None:
        """`path` is where the port appears."""
        self.path = path
        self.sketch = sketch
        self.restarts = 0
        self.wire = Wire(PtyPort(path), self._on_data, plan, {LinkAction.RESTART: self.restart})
        self._input = b""
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Be plugged in until cancelled."""
        self.wire.open()
        try:
            self._begin()
            await asyncio.get_running_loop().create_future()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.wire.close()

    def restart(self) -> None:
        """Cut the power for a moment."""
        self.restarts += 1
        self._begin()

    def _begin(self) -> None:
        self._input = b""
        self.wire.send(self.sketch.setup(asyncio.get_running_loop().time()))
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self.sketch.due_s, self._loop)

    def _loop(self) -> None:
        self.wire.send(self.sketch.loop(asyncio.get_running_loop().time()))
        self._schedule()

    def _on_data(self, data: bytes) -> None:
        *lines, rest = (self._input + data).split(b"\n")
        self._input = rest[-_MAX_INPUT:]
        now_s = asyncio.get_running_loop().time()
        for line in lines:
            self.wire.send(self.sketch.on_line(line[-_MAX_INPUT:], now_s))
        self._schedule()
