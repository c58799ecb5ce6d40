# The board's end of the protocol on one link. Sans-IO: lines and the time come in as arguments,
# lines go out as results. Needs only struct and json; runs unchanged on MicroPython and CPython.
#
# Session's arguments:
#   info       dict with the fixed keys of the HELLO (id, name, fw, mp, plat, rst, caps, n ...)
#   ring       board.ring.Ring; sessions of several links may share one: an ACK on any link
#              releases records for all, while each session has its own place in it
#   epoch      0..65535, the number of this boot
#   streams    list of tuples: name, format, channels. The index is the number of the stream in
#              records. It may grow while the session runs: call describe with the new index
#   actuators  list of objects whose describe() gives the dict of the ACTUATOR frame
#   commands   dict of name to callable, or whatever has its get(name): a callable takes the args,
#              gives a result JSON can carry, and raises ValueError with the text for the caller
#   crash      what ended the last run: its end goes into HELLO, all of it into LOG once joined
#   max_frame  bytes of the largest frame the link takes (a line of 256 characters carries 189)
# Its methods:
#   on_line    a line arrived, at now_ms; waited_ms is how long it may have lain unread
#   next_line  gives the next line to write, or None: call it until it does
#   due_ms     ms until next_line has something to give; ask again after every on_line, log,
#              describe, report and push into the ring
#   tick       notices silence on a link that cannot write just now; next_line does it too
#   log, describe, report, bye  are what the board itself wants to say
# Attributes to set: on_up is called at each WELCOME, on_down when the gateway fell silent.
#
# now_ms is a monotonic count of milliseconds; it may wrap at 2**32 or not at all.

import json
from struct import pack, pack_into, unpack_from

from board.frame import clip, open_line, payload_room, seal, to_json

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_HELLO = const(0x01)
_WELCOME = const(0x02)
_PING = const(0x03)
_PONG = const(0x04)
_STREAM = const(0x05)
_STREAM_REQ = const(0x06)
_ACTUATOR = const(0x07)
_HELLO_REQ = const(0x08)
_READ = const(0x10)
_ACK = const(0x11)
_CMD = const(0x20)
_RSP = const(0x21)
_LOG = const(0x30)
_BYE = const(0x50)

_OURS = b"\x01\x03\x05\x07\x10\x21\x30\x50"  # types only a board sends

_PROTOCOL = const(1)
_LINE_MAX = const(400)  # characters of a READ or HELLO line, newline included
_HELLO_MS = const(1000)
_HEARTBEAT_MS = const(5000)  # until WELCOME says otherwise
_RETRY_MS = const(400)  # a batch is sent again after this, doubling up to _RETRY_MAX_MS
_RETRY_MAX_MS = const(8000)
_PROBE_MS = const(8000)  # asks for an ACK while paused, and while all is received, nothing safe
_CREDIT_MAX = const(32)  # bounds the list of batches in flight
_ACTUATORS_MS = const(60000)  # states are repeated: their frames are not acknowledged
_ANSWERS_MAX = const(8)
_ANSWER_BYTES = const(900)
_QUEUE_MAX = const(8)
_LOGS_MAX = const(12)
_LOG_BYTES = const(200)
_EVERYTHING = const(255)  # in STREAM_REQ
_READ_HEAD = const(18)  # type, mid and the header of 16
_RESENT = const(1)  # flags of READ
_OLDEST = const(2)
_MORE = const(4)
_REWIND = const(1)  # flag of ACK
_FOREVER_MS = const(0x3FFFFFFF)
_MASK = const(0xFFFFFFFF)


# How much is left of a time that began at since_ms.
def _left(since_ms, length_ms, now_ms):
    return length_ms - ((now_ms - since_ms) & _MASK)


class Session:
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
        self.on_up = self.on_down = None
        self.frames_sent = self.batches_resent = self.logs_lost = 0
        self.bad_lines = self.bad_frames = self.unknown_frames = 0
        self.rtt_ms = None  # of the last PING
        self._buffer = bytearray(payload_room(_LINE_MAX) + 6)
        self._hello_now = True
        self._hello_ms = self._heard_ms = self._sent_ms = self._actuators_ms = 0
        self._heartbeat_ms = _HEARTBEAT_MS
        self._queue = []  # (type, mid, body) to send before anything else
        self._logs = []
        self._crash_told = False
        self._streams_due = []
        self._actuators_due = []
        self._mid = 0
        self._credit = 0  # batches that may be in flight
        self._got = 0  # the gateway has all records before this one
        self._cursor = 0  # next record to send, and where it lies in the ring
        self._position = 0
        self._sent_to = 0  # records before this one were sent at least once
        self._flight = []  # for each batch in flight, the number after its last record
        self._retry_ms = _RETRY_MS
        self._timer_ms = 0  # when the oldest batch in flight was sent, or the last progress

    # ---- what the board says

    # Queues a line for the gateway's log; when full, the oldest is dropped and counted.
    def log(self, level, text):
        if len(self._logs) >= _LOGS_MAX:
            self._logs.pop(0)
            self.logs_lost += 1
        self._logs.append(bytes((level,)) + clip(text, _LOG_BYTES))

    # A stream was added to `streams`.
    def describe(self, stream):
        if self.joined and stream not in self._streams_due:
            self._streams_due.append(stream)

    # An actuator's state changed.
    def report(self, actuator):
        if self.joined and actuator not in self._actuators_due:
            self._actuators_due.append(actuator)

    # The board leaves on purpose; 0 means it does not know when it will be back.
    def bye(self, back_in_ms):
        if self.joined:
            self._queue.append((_BYE, 0, pack("<I", back_in_ms)))

    # ---- lines in

    def on_line(self, line, now_ms, waited_ms=0):
        frame = open_line(line)
        if frame is None:
            self.bad_lines += 1
            return
        kind, mid, body = frame
        if kind in _OURS:
            return  # an echo: no sign of life
        welcomed = False
        try:
            welcomed = self._receive(kind, mid, body, now_ms, waited_ms)
        except Exception as error:  # a valid frame with an impossible payload
            self.bad_frames += 1
            if self.bad_frames == 1:
                self.log(3, "refused a frame of type %d: %r" % (kind, error))
        if self.joined:
            self._heard_ms = now_ms
        if welcomed and self.on_up:
            self.on_up()

    def _receive(self, kind, mid, body, now_ms, waited_ms):
        if kind == _WELCOME:
            return self._welcome(json.loads(body), now_ms)
        if not self.joined:
            pass  # meant for the session before; a command runs once we are joined
        elif kind == _ACK:
            self._ack(body, now_ms)
        elif kind == _PONG:
            self.rtt_ms = (now_ms - unpack_from("<I", body)[0]) & _MASK
        elif kind == _CMD:
            self._command(mid, json.loads(body), waited_ms)
        elif kind == _STREAM_REQ:
            if body[0] == _EVERYTHING:
                self._describe_all(now_ms)
            elif body[0] < len(self.streams):
                self.describe(body[0])
        elif kind == _HELLO_REQ:
            self.joined = False
            self._hello_now = True
        else:
            self.unknown_frames += 1
        return False

    # Returns True if the board is now joined.
    def _welcome(self, message, now_ms):
        ring = self.ring
        first_unsafe = message["nx"]
        credit = message["cr"]
        heartbeat_ms = int(message["hb"] * 1000)
        if message["ep"] != self.epoch:
            return False  # an answer to the boot before this one
        if min(first_unsafe, credit) < 0 or not 100 <= heartbeat_ms <= 3600000:
            raise ValueError(message)
        if first_unsafe > ring.next_seq():
            # The gateway knows this epoch from another life of the board (its flash was erased,
            # or could not be written). It would take new records for old ones: leave the epoch.
            # Every session of the board takes the same step.
            self.epoch = (self.epoch + 0x4001) & 0xFFFF
            self._hello_now = True
            self.joined = False
            return False
        ring.release(first_unsafe)
        self._heartbeat_ms = heartbeat_ms
        self._credit = min(credit, _CREDIT_MAX)
        self._retry_ms = _RETRY_MS
        self._timer_ms = now_ms
        self._got = ring.first
        self._seek(ring.first)
        self._describe_all(now_ms)
        if self.crash and not self._crash_told:
            self._crash_told = True
            for text in self.crash.split("\n"):
                self._logs.append(b"\4" + clip(text, _LOG_BYTES))
        self.joined = self.up = True
        return True

    def _describe_all(self, now_ms):
        self._streams_due = list(range(len(self.streams)))
        self._actuators_due = list(range(len(self.actuators)))
        self._actuators_ms = now_ms

    def _ack(self, body, now_ms):
        epoch, safe, credit, flags = unpack_from("<HIBB", body)
        got = safe
        if len(body) >= 12:  # the tail is an addition: an older gateway leaves it out
            got = unpack_from("<I", body, 8)[0]
        ring = self.ring
        if epoch != self.epoch:
            return
        if not safe <= got <= ring.next_seq():
            raise ValueError("ack of what was never sent")
        before = self._base()
        ring.release(safe)
        rewind = flags & _REWIND and got < self._cursor
        if rewind or got > self._got:
            self._got = got
        if rewind:
            self._seek(self._base())
        if self._base() > before or (credit and not self._credit):
            self._retry_ms = _RETRY_MS
            self._timer_ms = now_ms
        self._credit = min(credit, _CREDIT_MAX)

    def _command(self, mid, request, waited_ms):
        cid = request["cid"]
        if not isinstance(cid, str):
            raise ValueError("cid")
        answer = None
        for known, kept in self.answers:
            if known == cid:
                answer = kept
        if answer is None:
            answer = self._execute(cid, request, waited_ms)
            self.answers.append((cid, answer))
            if len(self.answers) > _ANSWERS_MAX:
                self.answers.pop(0)
        if len(self._queue) >= _QUEUE_MAX:
            self._queue.pop(0)
        self._queue.append((_RSP, mid, answer))

    def _execute(self, cid, request, waited_ms):
        try:
            ttl_ms = request.get("ttl_ms")
            if ttl_ms is not None and waited_ms >= ttl_ms:
                raise ValueError("expired")
            command = self.commands.get(request["c"])
            if command is None:
                raise ValueError("unknown command")
            answer = to_json({"cid": cid, "ok": command(request.get("a"))})
            if len(answer) > _ANSWER_BYTES:
                raise ValueError("done, but the result is too long to send")
        except ValueError as error:
            answer = to_json({"cid": cid, "err": str(error)})
        except Exception as error:  # a bug in a command is the caller's answer, not our end
            answer = to_json({"cid": cid, "err": repr(error)})
        return answer

    # ---- lines out

    # Notices silence. next_line does it too; this is for a link that cannot write just now.
    def tick(self, now_ms):
        if self.up and _left(self._heard_ms, 3 * self._heartbeat_ms, now_ms) <= 0:
            self.joined = self.up = False
            self._hello_now = True
            if self.on_down:
                self.on_down()

    def next_line(self, now_ms):
        self.tick(now_ms)
        if not self.joined:
            waits = not self._hello_now and _left(self._hello_ms, _HELLO_MS, now_ms) > 0
            return None if waits else self._hello(now_ms)
        if self._queue:
            return self._line(now_ms, *self._queue.pop(0))
        if _left(self._actuators_ms, _ACTUATORS_MS, now_ms) <= 0:
            self._actuators_due = list(range(len(self.actuators)))
            self._actuators_ms = now_ms
        if self._streams_due or self._actuators_due:
            return self._description(now_ms)
        if self._read_left(now_ms) <= 0:
            return self._read(now_ms)
        if self._logs:
            return self._line(now_ms, _LOG, 0, self._logs.pop(0))
        if _left(self._sent_ms, self._heartbeat_ms, now_ms) <= 0:
            return self._line(now_ms, _PING, 0, pack("<I", now_ms & _MASK))
        return None

    def _description(self, now_ms):
        if self._streams_due:
            index = self._streams_due.pop(0)
            name, form, channels = self.streams[index]
            stream = {"i": index, "n": name, "f": form, "c": channels}
            return self._line(now_ms, _STREAM, 0, to_json(stream))
        actuator = self.actuators[self._actuators_due.pop(0)]
        return self._line(now_ms, _ACTUATOR, 0, to_json(actuator.describe()))

    def due_ms(self, now_ms):
        if not self.joined:
            left = 0 if self._hello_now else _left(self._hello_ms, _HELLO_MS, now_ms)
        elif self._queue or self._streams_due or self._actuators_due or self._logs:
            left = 0
        else:
            left = min(
                self._read_left(now_ms),
                _left(self._sent_ms, self._heartbeat_ms, now_ms),
                _left(self._actuators_ms, _ACTUATORS_MS, now_ms),
            )
        if self.up:
            left = min(left, _left(self._heard_ms, 3 * self._heartbeat_ms, now_ms))
        return max(0, left)

    # Nothing on the wire takes the crash's place: HELLO keeps to LINE_MAX, with as much of the end
    # of the traceback (the exception and the innermost call) as there is room for.
    def _hello(self, now_ms):
        ring = self.ring
        message = {
            "p": _PROTOCOL,
            "ep": self.epoch,
            "sq": ring.next_seq(),
            "un": ring.count,
            "mf": self.max_frame,
            "ns": len(self.streams),
            "na": len(self.actuators),
        }
        if ring.safe is not None:
            message["ak"] = ring.safe
        message.update(self.info)
        body = to_json(message)
        room = payload_room(_LINE_MAX) - len(body) - 11  # ,"crash":""
        if self.crash and room > 0:
            crash = self.crash[-room:]
            excess = len(to_json(crash)) - 2 - room
            while excess > 0:  # JSON writes a character in up to six
                crash = crash[(excess + 5) // 6 :]
                excess = len(to_json(crash)) - 2 - room
            message["crash"] = crash
            body = to_json(message)
        self._hello_now = False
        self._hello_ms = now_ms
        return self._line(now_ms, _HELLO, 0, body)

    # ---- records

    # The first record the gateway does not have.
    def _base(self):
        return max(self._got, self.ring.first)

    # Go on sending from this record.
    def _seek(self, seq):
        self._cursor = seq
        self._position = self.ring.locate(seq)
        self._flight.clear()

    # Ms until a READ is to be sent.
    def _read_left(self, now_ms):
        base = self._base()
        flight = self._flight
        while flight and flight[0] <= base:
            flight.pop(0)
        if self._cursor < base:  # the ring dropped them, or another link's gateway has them
            self._seek(base)
        if len(flight) < self._credit and self._cursor < self.ring.next_seq():
            return 0
        if not self.ring.count:
            return _FOREVER_MS
        patience_ms = self._retry_ms if flight and self._credit else _PROBE_MS
        return _left(self._timer_ms, patience_ms, now_ms)

    def _read(self, now_ms):
        ring = self.ring
        flight = self._flight
        if len(flight) >= self._credit or self._cursor >= ring.next_seq():
            # The timer ran out.
            self._timer_ms = now_ms
            if not (flight and self._credit):
                # Nothing may be sent, or nothing is left to send: the oldest record, which is
                # already received, brings an ACK in case the last one was lost.
                return self._batch(now_ms, ring.first, ring.start)[0]
            self._seek(self._base())
            self._retry_ms = min(2 * self._retry_ms, _RETRY_MAX_MS)
        if not flight:
            self._timer_ms = now_ms
        line, size, records = self._batch(now_ms, self._cursor, self._position)
        self._cursor += records
        self._position = (self._position + size) % ring.size
        self._sent_to = max(self._sent_to, self._cursor)
        flight.append(self._cursor)
        return line

    def _batch(self, now_ms, first, position):
        buffer = self._buffer
        ring = self.ring
        left = ring.next_seq() - first
        room = len(buffer) - _READ_HEAD - 4
        size, records = ring.copy(position, left, buffer, _READ_HEAD, room)
        flags = 0
        if first < self._sent_to:
            flags |= _RESENT
            self.batches_resent += 1
        if first == ring.first:
            flags |= _OLDEST
        if records < left:
            flags |= _MORE
        self._mid = (self._mid + 1) & 255
        pack_into(
            "<BBBBHIIHBB",
            buffer,
            0,
            _READ,
            self._mid,
            _READ_HEAD - 2,
            flags,
            self.epoch,
            first & _MASK,
            now_ms & _MASK,
            min(ring.lost, 0xFFFF),
            records,
            0,
        )
        self._sent_ms = now_ms
        self.frames_sent += 1
        return seal(buffer, _READ_HEAD + size), size, records

    # ---- frames

    def _line(self, now_ms, kind, mid, body):
        buffer = bytearray(len(body) + 6)
        buffer[0] = kind
        buffer[1] = mid
        buffer[2 : 2 + len(body)] = body
        self._sent_ms = now_ms
        self.frames_sent += 1
        return seal(buffer, 2 + len(body))
