# Which records go to the gateway when: window, credit, retransmission, pause. Half of a session,
# and like it sans-IO; the ring may be shared with the sessions of other links.

from struct import pack_into

from board.frame import payload_room, seal

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_READ = const(0x10)
_HEAD = const(18)  # type, mid and the header of 16
_RESENT = const(1)  # flags of READ
_OLDEST = const(2)
_MORE = const(4)

_LINE_MAX = const(400)  # characters of a READ line, newline included
_RETRY_MS = const(400)  # a batch is sent again after this, doubling up to the next
_RETRY_MAX_MS = const(8000)
_PROBE_MS = const(8000)  # asks for an ACK while paused, and while all is received, nothing safe
_CREDIT_MAX = const(32)  # bounds the list of batches in flight
_FOREVER_MS = const(0x3FFFFFFF)
_MASK = const(0xFFFFFFFF)


# How much is left of a time that began at since_ms; negative when it is over.
def left_ms(since_ms, length_ms, now_ms):
    return length_ms - ((now_ms - since_ms) & _MASK)


class Delivery:
    _buffer = bytearray(payload_room(_LINE_MAX) + 6)  # for all: a batch leaves it at once

    def __init__(self, ring):
        self.ring = ring
        self.batches_resent = 0
        self._mid = 0
        self._credit = 0  # batches that may be in flight
        self._got = 0  # the gateway has all records before this one
        self._cursor = 0  # next record to send
        self._sent_to = 0  # records before this one were sent at least once
        self._flight = []  # for each batch in flight, the number after its last record
        self._retry_ms = _RETRY_MS
        self._timer_ms = 0  # when the oldest batch in flight was sent, or the last progress

    # The gateway takes records, beginning with the oldest, or with `got`.
    def start(self, credit, now_ms, got=0):
        self._credit = min(credit, _CREDIT_MAX)
        self._retry_ms = _RETRY_MS
        self._timer_ms = now_ms
        self._got = max(self.ring.first, self.ring.safe or 0, got)
        self._seek(self._got)

    # All before `safe` may be dropped; all before `got` need not be sent again.
    def acknowledge(self, safe, got, credit, rewind, now_ms):
        ring = self.ring
        if not safe <= got <= ring.next_seq():
            raise ValueError("ack of what was never sent")
        before = self._base()
        ring.release(safe)
        rewind = rewind and got < self._cursor
        if rewind or got > self._got:
            self._got = got
        if rewind:
            self._seek(self._base())
        if self._base() > before or (credit and not self._credit):
            self._retry_ms = _RETRY_MS
            self._timer_ms = now_ms
        self._credit = min(credit, _CREDIT_MAX)

    # The first record the gateway does not have.
    def _base(self):
        return max(self._got, self.ring.first)

    # Go on sending from this record.
    def _seek(self, seq):
        self._cursor = seq
        self._flight.clear()

    # Ms until a READ is to be sent.
    def wait_ms(self, now_ms):
        base = self._base()
        flight = self._flight
        while flight and flight[0] <= base:
            flight.pop(0)
        if self._cursor < base:  # the ring dropped them, or another link's gateway has them
            self._seek(base)
        if len(flight) < self._credit and self._cursor < self.ring.ready():
            return 0
        if not self.ring.count:
            return _FOREVER_MS
        patience_ms = self._retry_ms if flight and self._credit else _PROBE_MS
        return left_ms(self._timer_ms, patience_ms, now_ms)

    # The next READ, once wait_ms says 0.
    def next_line(self, epoch, now_ms):
        ring = self.ring
        flight = self._flight
        if len(flight) >= self._credit or self._cursor >= ring.ready():
            # The timer ran out.
            self._timer_ms = now_ms
            if not (flight and self._credit):
                # Nothing may be sent, or nothing is left to send: the oldest record, which is
                # already received, brings an ACK in case the last one was lost.
                return self._batch(epoch, now_ms, ring.first)[0]
            self._seek(self._base())
            self._retry_ms = min(2 * self._retry_ms, _RETRY_MAX_MS)
        if not flight:
            self._timer_ms = now_ms
        line, records = self._batch(epoch, now_ms, self._cursor)
        self._cursor += records
        self._sent_to = max(self._sent_to, self._cursor)
        flight.append(self._cursor)
        return line

    def _batch(self, epoch, now_ms, first):
        buffer = self._buffer
        ring = self.ring
        size, records = ring.copy(first, buffer, _HEAD, len(buffer) - _HEAD - 4)
        flags = 0
        if first < self._sent_to:
            flags |= _RESENT
            self.batches_resent += 1
        if first == ring.first:
            flags |= _OLDEST
        if first + records < ring.next_seq():
            flags |= _MORE
        self._mid = (self._mid + 1) & 255
        pack_into(
            "<BBBBHIIHBB",
            buffer,
            0,
            _READ,
            self._mid,
            _HEAD - 2,
            flags,
            epoch,
            first & _MASK,
            now_ms & _MASK,
            min(ring.lost, 0xFFFF),
            records,
            0,
        )
        return seal(buffer, _HEAD + size), records
