"""The serial boot loader of an ESP32's ROM, as far as esptool uses it; bytes in, bytes out.

Source: docs.espressif.com/projects/esptool, "Serial Protocol". It answers SYNC, reads and writes
registers (the SPI controller's as well: the flash says its id), takes code into RAM, and then
speaks as esptool's stub flasher does, whose code it does not run: erase, compressed writing, MD5.
What it does not model: lines that reset it, other baud rates, encryption, secure boot.
"""

import hashlib
import struct
import zlib
from typing import Final

MAGIC_REGISTER: Final = 0x40001000
MAGIC: Final = 0x00F01D83
"""By which esptool knows an ESP32."""

FLASH_ID: Final = 0x16_40_C8
"""GigaDevice, 4 MB, as the flash's answer to 0x9F: the lowest byte first."""

_SPI = 0x3FF42000
_SPI_W0 = _SPI + 0x80
_CLOCK_DIVIDER = 0x3FF40014
_CLOCKS_PER_BIT = 347
"""40 MHz / 115200: from it esptool computes the crystal's frequency."""

_SYNCED = 0x20120707
"""The value in the ROM's answers to SYNC; a stub's is 0."""

_ESC = {b"\xdb\xdc": b"\xc0", b"\xdb\xdd": b"\xdb"}

FLASH_BEGIN, FLASH_DATA, FLASH_END = 0x02, 0x03, 0x04
MEM_BEGIN, MEM_END, MEM_DATA, SYNC = 0x05, 0x06, 0x07, 0x08
WRITE_REG, READ_REG, SPI_SET_PARAMS, SPI_ATTACH = 0x09, 0x0A, 0x0B, 0x0D
CHANGE_BAUDRATE, DEFL_BEGIN, DEFL_DATA, DEFL_END, FLASH_MD5 = 0x0F, 0x10, 0x11, 0x12, 0x13
GET_SECURITY_INFO, ERASE_FLASH, ERASE_REGION = 0x14, 0xD0, 0xD1
_INVALID = b"\x01\x05"


class EspRom:
    """One chip, and its flash of 4 MB."""

    def __init__(self, image_chip: bytes = b"\xe9", offset: int = 0x1000) -> None:
        self.flash = bytearray(b"\xff" * (4 << 20))
        self.commands: list[int] = []
        """All it was told, in order."""
        self.writes = 0
        """Commands that changed the flash."""
        self.spoils_at: int | None = None
        """An address that does not keep what is written to it."""
        self._image_chip = image_chip
        self._offset = offset
        self._buffer = b""
        self._registers = {MAGIC_REGISTER: MAGIC, _CLOCK_DIVIDER: _CLOCKS_PER_BIT}
        self._is_stub = False
        self._at = 0
        self._unpacker = zlib.decompressobj()

    @property
    def can_boot(self) -> bool:
        """Whether an image begins where the ROM looks for one."""
        return self.flash[self._offset] == self._image_chip[0]

    @property
    def is_amid(self) -> bool:
        """Whether it has half a packet."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> bytes:
        """Take what the PC says, return what is answered."""
        self._buffer += data
        answers = b""
        while True:
            start = self._buffer.find(b"\xc0")
            end = self._buffer.find(b"\xc0", start + 1)
            if start < 0 or end < 0:
                return answers
            packet, self._buffer = self._buffer[start + 1 : end], self._buffer[end + 1 :]
            if packet:
                answers += self._answer(packet.replace(*_pair(0)).replace(*_pair(1)))

    def _answer(self, packet: bytes) -> bytes:  # noqa: PLR0911 one for each command
        direction, op, size, _ = struct.unpack_from("<BBHI", packet)
        body = packet[8:]
        assert direction == 0, packet
        assert len(body) == size, packet
        self.commands.append(op)
        if op == SYNC:
            self._is_stub = False  # the PC has just reset it
            return b"".join(self._reply(op, value=_SYNCED) for _ in range(8))
        if op == READ_REG:
            (address,) = struct.unpack("<I", body)
            return self._reply(op, value=self._registers.get(address, 0))
        if op == WRITE_REG:
            self._write_registers(body)
            return self._reply(op)
        if op == MEM_END:
            (stays, _) = struct.unpack("<II", body)
            answer = self._reply(op)
            self._is_stub = not stays
            return answer if stays else answer + _slip(b"OHAI")
        if op in {MEM_BEGIN, MEM_DATA, SPI_SET_PARAMS, SPI_ATTACH}:
            return self._reply(op)
        if op == CHANGE_BAUDRATE:  # a pty has none
            return self._reply(op)
        return self._flash_command(op, body)

    def _flash_command(self, op: int, body: bytes) -> bytes:  # noqa: PLR0911 one for each command
        if op in {FLASH_BEGIN, DEFL_BEGIN}:
            size, _, _, self._at = struct.unpack_from("<IIII", body)
            self._unpacker = zlib.decompressobj()
            if op == FLASH_BEGIN:
                self._change(self._at, b"\xff" * size)
            return self._reply(op)
        if op in {FLASH_DATA, DEFL_DATA}:
            (size,) = struct.unpack_from("<I", body)
            data = body[16 : 16 + size]
            data = self._unpacker.decompress(data) if op == DEFL_DATA else data
            self._change(self._at, data)
            self._at += len(data)
            return self._reply(op)
        if op in {FLASH_END, DEFL_END}:
            return self._reply(op)
        if op == FLASH_MD5:
            start, size = struct.unpack_from("<II", body)
            digest = hashlib.md5(self.flash[start : start + size], usedforsecurity=False)
            said = digest.digest() if self._is_stub else digest.hexdigest().encode()
            return self._reply(op, said)
        if op == ERASE_FLASH and self._is_stub:
            self._change(0, b"\xff" * len(self.flash))
            return self._reply(op)
        if op == ERASE_REGION and self._is_stub:
            start, size = struct.unpack_from("<II", body)
            self._change(start, b"\xff" * size)
            return self._reply(op)
        return _slip(struct.pack("<BBHI", 1, op, 2, 0) + _INVALID)

    def _change(self, start: int, data: bytes) -> None:
        self.writes += 1
        self.flash[start : start + len(data)] = data
        if self.spoils_at is not None:
            self.flash[self.spoils_at] ^= 1

    def _write_registers(self, body: bytes) -> None:
        for at in range(0, len(body) // 16 * 16, 16):
            address, value, mask, _ = struct.unpack_from("<IIII", body, at)
            before = self._registers.get(address, 0)
            self._registers[address] = before & ~mask | value & mask
            if address == _SPI:  # run: what the flash says is there at once
                self._registers[_SPI] = 0
                self._registers[_SPI_W0] = FLASH_ID

    def _reply(self, op: int, data: bytes = b"", value: int = 0) -> bytes:
        data += bytes(2 if self._is_stub else 4)
        return _slip(struct.pack("<BBHI", 1, op, len(data), value) + data)


def _pair(number: int) -> tuple[bytes, bytes]:
    return list(_ESC.items())[number]


def _slip(packet: bytes) -> bytes:
    return b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"
