# A ring of which a few numbers outlive a reset, in the scratch registers of an RP2's watchdog: the
# epoch, the next seq and what is safe. The records do not, but it is told exactly which are gone.
# Registers 0 to 3 are nobody's: the SDK and the boot ROM use 4 to 7.

from board.ring import Ring
from machine import mem32
from micropython import const

_MAGIC = const(0x6564)


# A register is written at once, or not. A new epoch is noted last, and the old one forgotten first.
class ScratchRing(Ring):
    # at: address of the first register
    def __init__(self, size_bytes, at):
        super().__init__(size_bytes)
        self._at = at
        epoch, next_seq, safe, inverse = [mem32[at + 4 * k] & 0xFFFFFFFF for k in range(4)]
        if epoch >> 16 == _MAGIC and epoch ^ inverse == 0xFFFFFFFF and safe < next_seq:
            self.previous = epoch & 0xFFFF, next_seq, safe
        for k in range(3):
            mem32[at + 4 * k] = 0

    def rename(self, epoch):
        word = _MAGIC << 16 | epoch
        mem32[self._at + 12] = word ^ 0xFFFFFFFF
        mem32[self._at] = word

    def push(self, record, n):
        seq = super().push(record, n)
        mem32[self._at + 4] = seq + 1
        return seq

    def release(self, seq):
        super().release(seq)
        mem32[self._at + 8] = self.safe
