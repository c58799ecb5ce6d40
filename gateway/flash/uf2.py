"""Images in Microsoft's UF2 format, as a Pico takes them: looked at before anything is written.

Source: github.com/microsoft/uf2, README; RP2350 datasheet, 5.5 (families; the block for E10).
"""

import struct
from dataclasses import dataclass
from typing import Final

from gateway.errors import FlashError
from gateway.flash.chips import PICOS, Pico

BLOCK_BYTES: Final = 512
MAX_BYTES: Final = 32 << 20

_HEADER = struct.Struct("<8I")
_MAGIC_1: Final = 0x0A324655
_MAGIC_2: Final = 0x9E5D5157
_MAGIC_END: Final = 0x0AB16F30
_HAS_FAMILY: Final = 0x2000
_MAX_PAYLOAD: Final = 476
_ABSOLUTE: Final = 0xE48BFF57
"""A block for no chip in particular, which RP2350's images begin with."""


@dataclass(frozen=True, slots=True)
class Uf2Image:
    """What is in a UF2 file."""

    pico: Pico
    blocks: int


def read_uf2(data: bytes, where: str) -> Uf2Image:
    """Return what is in a UF2 file; `where` names it in what is wrong with it.

    Raises:
        FlashError: it is none for a chip of Raspberry Pi, or not all of one.
    """
    if not data or len(data) % BLOCK_BYTES or len(data) > MAX_BYTES:
        raise FlashError(
            f"{where}: {len(data)} bytes, and a UF2 file has blocks of {BLOCK_BYTES}: get it anew"
        )
    families: dict[int, list[tuple[int, int]]] = {}
    for at in range(0, len(data), BLOCK_BYTES):
        number, count, family = _block(data, at, where)
        families.setdefault(family, []).append((number, count))
    families.pop(_ABSOLUTE, None)
    if len(families) != 1:
        raise FlashError(f"{where}: expected an image for one chip, found {len(families)}")
    ((family, numbers),) = families.items()
    expected = [(number, len(numbers)) for number in range(len(numbers))]
    if numbers != expected:
        raise FlashError(
            f"{where}: {len(numbers)} blocks of {numbers[0][1]}, or not in their order: get it anew"
        )
    for pico in PICOS.values():
        if family in pico.families:
            return Uf2Image(pico, len(numbers))
    known = ", ".join(
        f"{pico.name} ({', '.join(f'{each:#x}' for each in sorted(pico.families))})"
        for pico in PICOS.values()
    )
    raise FlashError(f"{where}: for the family {family:#010x}; expected one of {known}")


def _block(data: bytes, at: int, where: str) -> tuple[int, int, int]:
    first, second, flags, _, size, number, count, family = _HEADER.unpack_from(data, at)
    (end,) = struct.unpack_from("<I", data, at + BLOCK_BYTES - 4)
    if (first, second, end) != (_MAGIC_1, _MAGIC_2, _MAGIC_END):
        raise FlashError(
            f"{where}: no UF2 block at {at}: expected it to begin with UF2 and a line end"
        )
    if size > _MAX_PAYLOAD:
        raise FlashError(f"{where}: the block at {at} says it has {size} bytes")
    if not flags & _HAS_FAMILY:
        raise FlashError(f"{where}: the block at {at} does not say for which chip it is")
    return number, count, family
