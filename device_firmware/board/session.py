# The board's end of the protocol on one link. Sans-IO: lines and the time come in as arguments,
# lines go out as results. Needs only struct and json; runs unchanged on MicroPython and CPython.
#
# Session's arguments:
#   info       the fixed keys of the HELLO (id, name, fw, mp, plat, rst, caps, n ...): JSON, or dict
#   ring       board.ring.Ring; sessions of several links may share one: an ACK on any link
#              releases records for all, while each session has its own place in it
#   epoch      0..65535, the number of this boot
#   streams    list of tuples: name, format, channels. The index is the number of the stream in
#              records, fixed from boot, as the keys of all depend on all. None where a sensor has
#              not told its channels: HELLO's ns does not count it, so that the others need not wait
#              for it, and no answer is given for it. Call describe once it is known
#   actuators  list of objects whose describe() gives the dict of the ACTUATOR frame
#   commands   dict of name to callable, or an app, whose commands are files: a callable takes the
#              args, gives a result JSON can carry, and raises ValueError with a text for the caller
#   crash      what ended the last run: its end goes into HELLO, all of it into LOG once joined
#   max_frame  bytes of the largest frame the link takes (a line of 256 characters carries 189)
# Its methods:
#   on_line    a line arrived, at now_ms; waited_ms is how long it may have lain unread
#   next_line  gives the next line to write, or None: call it until it does
#   due_ms     ms until next_line has something to give; ask again after every on_line, log,
#              describe, report and push into the ring
#   tick       notices silence on a link that cannot write just now; next_line does it too
#   log, describe, report, bye  are what the board itself wants to say
# Attributes to set: on_up is called at each WELCOME, on_down when the gateway fell silent, on_epoch
# with the number of another epoch when the gateway refused the present one, on_time with the UTC in
# ms and what now_ms was then. keys is what board.sealed needs. unseal, which is board.sealed's
# open_body, is for a link on which others than the gateway may speak: there it has to prove itself
# by seals. Who does not is told all as well, but nothing is dropped for it.
#
# now_ms is a monotonic count of milliseconds; it may wrap at 2**32 or not at all.

import gc
import json
from struct import pack, unpack_from

from board.delivery import Delivery, left_ms
from board.frame import clip, open_line, seal
from board.parts import borrow

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_HELLO = const(0x01)
_WELCOME = const(0x02)
_PING = const(0x03)
_PONG = const(0x04)
_ACK = const(0x11)
_CMD = const(0x20)
_SEALED = const(0x80)
_LOG = const(0x30)
_BYE = const(0x50)

_OURS = const(b"\x01\x03\x05\x07\x10\x21\x30\x41\x43\x46\x50")  # types only a board sends
_WITH_KEY = const(b"\x20\x40\x42\x44\x45")  # a board with a key takes these only sealed
_PROVEN = const(b"\x02\x04\x11")  # these only if it has unseal: WELCOME, PONG, ACK

_HELLO_BYTES = const(400)  # of its payload
_HELLO_MS = const(1000)
_HEARTBEAT_MS = const(5000)  # until WELCOME says otherwise
_ACTUATORS_MS = const(60000)  # states are repeated: their frames are not acknowledged
_LOGS_MAX = const(12)
_LOG_BYTES = const(200)
_REWIND = const(1)  # flag of ACK
_MASK = const(0xFFFFFFFF)


class Session:
    keys = None  # of sealed frames; None: anybody may command
    unseal = None
    unproven_frames = 0  # that would have made room in the ring, had they been sealed
    # What mostly stays so takes no room in each session.
    closed = False  # the epoch is over: what is left of it comes from flash
    crash_told = False
    on_time = None
    rtt_ms = None  # of the last PING
    logs_lost = bad_lines = bad_frames = unknown_frames = 0

    def __init__(
        self,
        info,
        ring,
        epoch,
        streams=(),
        actuators=(),
        commands=None,
        crash="",
        max_frame=189,
    ):
        self.info = info
        self.ring = ring
        self.epoch = epoch
        self.streams = streams
        self.actuators = actuators
        self.commands = commands or {}
        self.crash = crash.strip()
        self.max_frame = max_frame
        self.answers = []  # (cid, body) of the last commands: none is executed twice
        self.joined = False  # WELCOME received, and not told to start over
        self.up = False  # the gateway is there: stays True while it asks for another HELLO
        self.on_up = self.on_down = self.on_epoch = None
        self.frames_sent = 0
        self.delivery = Delivery(ring)
        self.hello_now = True
        self._hello_ms = self._heard_ms = self._sent_ms = self.actuators_ms = 0
        self.heartbeat_ms = _HEARTBEAT_MS
        self.is_proven = False  # that the gateway said the last frame
        self.queue = []  # (type, mid, body) to send before anything else
        self.logs = []
        self.streams_due = []  # to describe
        self.actuators_due = []

    @property
    def batches_resent(self):
        return self.delivery.batches_resent

    # ---- what the board says

    # Queues a line for the gateway's log; when full, the oldest is dropped and counted.
    def log(self, level, text):
        if len(self.logs) >= _LOGS_MAX:
            self.logs.pop(0)
            self.logs_lost += 1
        self.logs.append(bytes((level,)) + clip(text, _LOG_BYTES))

    # A stream of `streams` is known now.
    def describe(self, stream):
        if self.joined and stream not in self.streams_due:
            self.streams_due.append(stream)

    # An actuator's state changed.
    def report(self, actuator):
        if self.joined and actuator not in self.actuators_due:
            self.actuators_due.append(actuator)

    # The board leaves on purpose; 0 means it does not know when it will be back.
    def bye(self, back_in_ms):
        if self.joined:
            self.queue.append((_BYE, 0, pack("<I", back_in_ms)))

    # ---- lines in

    def on_line(self, line, now_ms, waited_ms=0):
        frame = open_line(line)
        if frame is None:
            self.bad_lines += 1
            return
        kind, mid, body = frame
        if kind & ~_SEALED in _OURS:
            return  # an echo: no sign of life
        welcomed = False
        try:
            welcomed = self._receive(kind, mid, body, now_ms, waited_ms)
        except Exception as error:  # a valid frame with an impossible payload
            self.bad_frames += 1
            if self.bad_frames == 1:
                self.log(3, "refused a frame of type %d: %r" % (kind, error))
            if self.unseal:
                return  # no sign of the gateway's life
        if self.joined and (self.is_proven or not self.up):
            self._heard_ms = now_ms
        if welcomed and self.on_up:
            self.on_up()

    def _receive(self, kind, mid, body, now_ms, waited_ms):
        if not self.joined and kind & ~_SEALED != _WELCOME:
            return False  # meant for the session before; a command runs once we are joined
        self.is_proven = not self.unseal
        if kind & _SEALED or (self.keys and kind in _WITH_KEY):
            body = self._open(kind, mid, body)
            kind &= ~_SEALED
            self.is_proven = True
        elif not self.is_proven and kind in _PROVEN:
            self.unproven_frames += 1
            if self.up:
                raise ValueError("not sealed")  # the gateway is here, and can do better
        if kind == _WELCOME:
            return borrow("welcome").welcome(self, json.loads(body), now_ms)
        if kind == _ACK:
            self._ack(body, now_ms)
        elif kind == _PONG:
            self._pong(body, now_ms)
        elif kind == _CMD:
            borrow("answers").command(self, mid, json.loads(body), waited_ms)
        else:
            borrow("asked").receive(self, kind, mid, body, now_ms)
        return False

    def _open(self, kind, mid, body):
        if self.unseal and kind & ~_SEALED in _PROVEN:  # often: its module is not loaded for each
            return self.unseal(self.keys, kind, mid, body)
        return borrow("saying").open_body(self, kind, mid, body)

    def _pong(self, body, now_ms):
        sent_ms, utc_s, ms = unpack_from("<IIH", body)
        self.rtt_ms = (now_ms - sent_ms) & _MASK
        if self.on_time and self.is_proven:
            self.on_time(utc_s * 1000 + ms + self.rtt_ms // 2, now_ms)

    def _ack(self, body, now_ms):
        epoch, safe, credit, flags = unpack_from("<HIBB", body)
        got = safe
        if len(body) >= 12:  # the tail is an addition: an older gateway leaves it out
            got = unpack_from("<I", body, 8)[0]
        if self.closed:  # the gateway may have had more of the epoch than was kept of it
            end = self.ring.next_seq()
            safe = min(safe, end)
            got = min(got, end)
        if not self.is_proven:
            safe = min(safe, self.ring.safe or 0)
        if epoch == self.epoch:
            self.delivery.acknowledge(safe, got, credit, flags & _REWIND, now_ms)

    # ---- lines out

    # Notices silence. next_line does it too; this is for a link that cannot write just now.
    def tick(self, now_ms):
        is_there = self.up or self.joined
        if is_there and left_ms(self._heard_ms, 3 * self.heartbeat_ms, now_ms) <= 0:
            was_up = self.up
            self.joined = self.up = False
            self.hello_now = True
            if was_up and self.on_down:
                self.on_down()

    def next_line(self, now_ms):
        self.tick(now_ms)
        if not self.joined:
            waits = not self.hello_now and left_ms(self._hello_ms, _HELLO_MS, now_ms) > 0
            return None if waits else self._hello(now_ms)
        if self.queue:
            frame = self.queue.pop(0)
            try:
                return self._line(now_ms, *frame)
            except MemoryError:
                gc.collect()  # if that is of no use, what it answers is asked again
                return self._line(now_ms, *frame)
        if left_ms(self.actuators_ms, _ACTUATORS_MS, now_ms) <= 0:
            self.actuators_due = list(range(len(self.actuators)))
            self.actuators_ms = now_ms
        if self.streams_due or self.actuators_due:
            line = self._line(now_ms, *borrow("hello").description(self))
            (self.streams_due or self.actuators_due).pop(0)
            return line
        if self.delivery.wait_ms(now_ms) <= 0:
            self._sent_ms = now_ms
            self.frames_sent += 1
            return self.delivery.next_line(self.epoch, now_ms)
        if self.logs and self.up:
            line = self._line(now_ms, _LOG, 0, self.logs[0])
            self.logs.pop(0)
            return line
        if left_ms(self._sent_ms, self.heartbeat_ms, now_ms) <= 0:
            body = pack("<II", now_ms & _MASK, self.ring.next_seq() & _MASK)
            return self._line(now_ms, _PING, 0, body)
        return None

    def due_ms(self, now_ms):
        if not self.joined:
            left = 0 if self.hello_now else left_ms(self._hello_ms, _HELLO_MS, now_ms)
        elif self.queue or self.streams_due or self.actuators_due or (self.logs and self.up):
            left = 0
        else:
            left = min(
                self.delivery.wait_ms(now_ms),
                left_ms(self._sent_ms, self.heartbeat_ms, now_ms),
                left_ms(self.actuators_ms, _ACTUATORS_MS, now_ms),
            )
        if self.up or self.joined:
            left = min(left, left_ms(self._heard_ms, 3 * self.heartbeat_ms, now_ms))
        return max(0, left)

    def _hello(self, now_ms):
        body = borrow("hello").hello(self, _HELLO_BYTES)
        self.hello_now = False
        self._hello_ms = now_ms
        return self._line(now_ms, _HELLO, 0, body)

    # ---- frames

    def _line(self, now_ms, kind, mid, body):
        buffer = bytearray(len(body) + 6)
        buffer[0] = kind
        buffer[1] = mid
        buffer[2 : 2 + len(body)] = body
        self._sent_ms = now_ms
        self.frames_sent += 1
        return seal(buffer, 2 + len(body))
