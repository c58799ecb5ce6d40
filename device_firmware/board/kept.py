# A ring whose newest records outlive a reset, as the RTC memory of an ESP32 has a copy of them.
#
# That memory can only be written from its start on, so the heap has an image of it, little endian:
#   two states, written in turn   u16: counter, epoch, records lost before `safe`, epoch before;
#                                 u32: safe, mono_ms, mono_ms - real-time clock, layout, next seq
#                                 and acked of the epoch before, crc32 of all that
#   two blocks, filled in turn    u32: number of the first record, crc32 of that; then records, each
#                                 followed by the crc32 of all that is before it in the block
# A reset may come between any two bytes that are written, in whatever order they are. So nothing
# that is valid and needed is written over, but the older block once the newer one is full: a record
# comes behind the last one, a state in the place of the older one. What is found after a reset
# counts as far as its checks are right (recovery.py).

from binascii import crc32
from struct import pack_into

from board import clock
from board.ring import Ring
from micropython import const

_STATE = const(36)
_STATES = const(72)
_FORM = const("<HHHHIIIIII")
_HEAD = const(8)  # of a block
_MASK = const(0xFFFFFFFF)


class KeptRing(Ring):
    # memory: RTC().memory; layout: a number that changes when records mean something else
    def __init__(self, size_bytes, image_bytes, memory, layout):
        super().__init__(size_bytes)
        self.image = memoryview(bytearray(image_bytes))
        self.memory = memory
        self.layout = layout
        self.turn = self.block = 0  # the first record of the newer block, and where it is
        self.kept = 0  # the record that comes next in it
        self.end = _STATES  # of the newest record
        self.limit = self.check = 0  # of the newer block
        self.top = 0  # so much is written at least
        self.counter = 0  # of states

    def rename(self, epoch):
        self.epoch = epoch
        self.tick()

    def push(self, record, n):
        seq = self.first + self.count
        end = self.end + n
        if end + 4 > self.limit or seq != self.kept:  # or there was no memory for the last one
            self._begin_block(seq)
            end = self.end + n
        if len(record) != n:
            record = memoryview(record)[:n]
        image = self.image
        image[end - n : end] = record
        self.check = crc32(record, self.check)
        pack_into("<I", image, end, self.check)
        end += 4
        self.memory(image[: end if end > self.top else self.top])
        self.end = end
        self.kept = seq + 1
        return Ring.push(self, record, n)  # not before: what is sent has to be kept

    # Writes the state. It may lag behind: what is safe is then found once more, and sent again.
    def tick(self):
        self.counter = (self.counter + 1) & 0xFFFF
        at = _STATE * (self.counter & 1)
        epoch, next_seq, acked = self.previous or (0, 0, 0)
        safe = self.safe or 0
        lost = max(0, min(self.lost - max(self.first - safe, 0), 0xFFFF))
        mono_ms = clock.now_ms()
        offset_ms = (mono_ms - clock.wall_ms()) & _MASK
        state = (self.counter, self.epoch, lost, epoch, safe, mono_ms, offset_ms, self.layout)
        pack_into(_FORM, self.image, at, *state, next_seq, acked)
        at += _STATE - 4
        pack_into("<I", self.image, at, crc32(self.image[at + 4 - _STATE : at]))
        self.memory(self.image[: max(self.end, self.top)])
        # Only now less may be written: until then the blocks told the next number.
        if safe >= self.turn:
            self.top = 0
        if not self.count:
            self.end = _STATES
            self.limit = 0

    def _begin_block(self, seq):
        self.tick()
        size = len(self.image)
        half = (size - _STATES) // 2
        start = _STATES + _HEAD
        self.top = 0
        if self.count:  # else nothing is needed any more, and the first block will do
            if self.block == start:
                start += half
            else:
                self.top = size
        self.turn = seq
        self.block = self.end = start
        self.limit = start - _HEAD + half
        pack_into("<I", self.image, start - _HEAD, seq)
        self.check = crc32(self.image[start - _HEAD : start - 4])
        pack_into("<I", self.image, start - 4, self.check)
