# machine.mem32, as far as it reaches the scratch registers of an RP2040's watchdog: the file
# scratch.bin, as they outlive all but a loss of power.

from struct import pack, unpack_from

from fakes import chip

_AT = 0x4005800C
_COUNT = 8


class _Registers:
    def __getitem__(self, at):
        return unpack_from("<I", self._content(), self._offset(at))[0]

    def __setitem__(self, at, word):
        content = bytearray(self._content())
        start = self._offset(at)
        content[start : start + 4] = pack("<I", word & 0xFFFFFFFF)
        chip.write_file(chip.SCRATCH, content)

    def _offset(self, at):
        if at & 3 or not _AT <= at < _AT + 4 * _COUNT:
            raise ValueError("no register at %x" % at)
        return at - _AT

    def _content(self):
        return chip.read_file(chip.SCRATCH) or bytes(4 * _COUNT)


mem32 = _Registers()
