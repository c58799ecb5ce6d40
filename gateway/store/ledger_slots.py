"""The bytes of the ledger's file: a header and slots of one size, little endian; pure.

Header: magic, version u32, size of a slot u32, CRC-32 of these; zeros up to the size of a slot.
Slot: generation, boot, safe_next, claimed_next, stored_next, settled_next (u64), size of the device
u8, device (64 bytes), zeros, first_n (u64), CRC-32. A slot of zeros is free.
"""

import struct
from typing import NamedTuple
from zlib import crc32

SLOT_BYTES = 128
"""A quarter of a disk's sector, so that no slot lies across two."""

FREE_SLOT = bytes(SLOT_BYTES)
MAX_DEVICE_BYTES = 64
VERSION = 1

_MAGIC = b"EGLEDGER"
_HEADER = struct.Struct("<8sII")
_SLOT = struct.Struct("<6QB64s3xQ")
_CRC = struct.Struct("<I")
_SALT = crc32(_MAGIC + bytes([VERSION]))
"""Where a slot's CRC starts: a slot of another version is never right in a file of this one."""


class Entry(NamedTuple):
    """How far one boot of a device has come; `x_next` is the number after the last that is x."""

    device: str
    """Slug, at most MAX_DEVICE_BYTES in UTF-8."""
    boot: int
    safe_next: int
    """All below are safe: the board need not keep them."""
    claimed_next: int
    """The highest number the board is known to have used, plus one."""
    stored_next: int
    """All below were committed to the store or never needed it."""
    settled_next: int
    """All stored ones below are delivered."""
    first_n: int = 0
    """Arrival number of its first row that waited: of a device's boots the lower came first."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is left in the store."""
        return self.stored_next == self.settled_next


class Slot(NamedTuple):
    """A slot that is in use."""

    generation: int
    """Grows with every slot written; the newest tells the truth if two speak of the same boot."""
    number: int
    entry: Entry


class FileContent(NamedTuple):
    """What a ledger's file holds."""

    version: int | None
    """None when there is no header, or it is damaged."""
    slots: int
    """How many there are room for; the last one may have been cut short."""
    used: list[Slot]
    """In the order they were written."""
    damaged: list[int]
    """Numbers of the slots that are neither right nor free."""

    @property
    def is_foreign(self) -> bool:
        """Whether no ledger can go on with it; a damaged header alone costs nothing."""
        if self.version is None:
            return bool(self.damaged) and not self.used
        return self.version != VERSION


def offset_of(slot: int) -> int:
    """Return where a slot begins in the file."""
    return (slot + 1) * SLOT_BYTES


def encode_header() -> bytes:
    """Return the header, as long as a slot."""
    header = _HEADER.pack(_MAGIC, VERSION, SLOT_BYTES)
    return (header + _CRC.pack(crc32(header))).ljust(SLOT_BYTES, b"\0")


def encode_slot(entry: Entry, generation: int) -> bytes:
    """Return an entry as the bytes of a slot.

    Raises:
        ValueError: the device is empty or too long, or a number is not of 64 bits.
    """
    device = entry.device.encode()
    if not 0 < len(device) <= MAX_DEVICE_BYTES:
        raise ValueError(f"no slot holds the device {entry.device!r}")
    try:
        slot = _SLOT.pack(generation, *entry[1:-1], len(device), device, entry.first_n)
    except struct.error as exc:
        raise ValueError(f"no slot holds {entry}: {exc}") from exc
    return slot + _CRC.pack(crc32(slot, _SALT))


def decode_file(content: bytes) -> FileContent:
    """Return what the bytes of a file hold; none raise."""
    slots = max(0, -(-len(content) // SLOT_BYTES) - 1)
    used: list[Slot] = []
    damaged: list[int] = []
    for number in range(slots):
        raw = content[offset_of(number) : offset_of(number + 1)]
        if not any(raw):
            continue
        slot = _decode_slot(raw, number)
        if slot is None:
            damaged.append(number)
        else:
            used.append(slot)
    used.sort()
    return FileContent(_version(content), slots, used, damaged)


def _version(content: bytes) -> int | None:
    if len(content) < _HEADER.size + _CRC.size:
        return None
    magic, version, _ = _HEADER.unpack_from(content)
    (crc,) = _CRC.unpack_from(content, _HEADER.size)
    is_right = magic == _MAGIC and crc == crc32(content[: _HEADER.size])
    return int(version) if is_right else None


def _decode_slot(raw: bytes, number: int) -> Slot | None:
    if len(raw) < SLOT_BYTES or _CRC.unpack_from(raw, _SLOT.size)[0] != crc32(
        raw[: _SLOT.size], _SALT
    ):
        return None
    generation, *numbers, size, device, first_n = _SLOT.unpack_from(raw)
    try:
        return Slot(generation, number, Entry._make((device[:size].decode(), *numbers, first_n)))
    except UnicodeDecodeError:
        return None
