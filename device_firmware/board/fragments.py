# Frames on BLE, joined from fragments and cut into them. A fragment is `header u8 | bytes`; header:
# bit 7 first of its frame, bit 6 last, bits 0 to 5 a counter that runs on over all fragments of one
# direction. On this side of the cut a frame is the line it would be on a serial line.
# Sans-IO; runs unchanged on MicroPython and CPython.

from binascii import a2b_base64, b2a_base64

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_FIRST = const(0x80)
_LAST = const(0x40)
_COUNTER = const(0x3F)
_LEAST = const(6)  # bytes of a frame: type, mid and crc32
_MOST = const(512)


# Both directions of one connection.
class Fragments:
    def __init__(self):
        self.dropped = 0  # frames begun and given up
        self.strays = 0  # fragments of no frame under way
        self.joined = bytearray()  # what there is of a frame
        self._next = -1  # the counter of the next fragment; -1: no frame is under way
        self._counter = 0  # of the next one sent
        self._frame = None  # what is sent, behind a byte for a header
        self._at = self._end = 0

    # Returns the line of the frame that this fragment completes, or None.
    def feed(self, fragment):
        header = fragment[0] if fragment else 0
        if header & _FIRST:
            if self._next >= 0:
                self._drop()
        elif self._next < 0 or not fragment:
            self.strays += 1
            return None
        elif header & _COUNTER != self._next:
            self.strays += 1
            return self._drop()
        frame = self.joined
        frame.extend(memoryview(fragment)[1:])
        self._next = (header + 1) & _COUNTER
        if len(frame) > _MOST or (header & _LAST and len(frame) < _LEAST):
            return self._drop()
        if not header & _LAST:
            return None
        self._forget()
        return b"~" + b2a_base64(frame)

    def _drop(self):
        self.dropped += 1
        self._forget()

    def _forget(self):
        self.joined = bytearray()
        self._next = -1

    # What is left of a frame is not sent.
    def stop(self):
        self._frame = None

    # The next frame to send, once the last one is sent.
    def start(self, line):
        frame = a2b_base64(memoryview(line)[1:])
        self._frame = bytearray(len(frame) + 1)
        self._frame[1:] = frame
        self._at = 1

    # The fragment to send, with at most `room` bytes of the frame; None if there is none. Its
    # header stands in the place of the byte before it, which is sent already.
    def fragment(self, room):
        frame = self._frame
        if frame is None:
            return None
        at = self._at
        self._end = end = min(at + room, len(frame))
        header = self._counter
        if at == 1:
            header |= _FIRST
        if end == len(frame):
            header |= _LAST
        frame[at - 1] = header
        return memoryview(frame)[at - 1 : end]

    # It is sent.
    def advance(self):
        self._counter = (self._counter + 1) & _COUNTER
        self._at = self._end
        if self._at == len(self._frame):
            self._frame = None
