"""Images of MicroPython for the ESP32 family, looked at before anything is written.

A download of micropython.org holds the boot loader, the partition table and the program, for one
address of the flash. Source: esp-idf, esp_app_format.h, esp_app_desc.h, esp_flash_partitions.h.
"""

import re
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from gateway.errors import FlashError
from gateway.flash.chips import CHIPS_BY_IMAGE, OLDEST, Chip

MAX_BYTES: Final = 16 << 20
"""The largest flash of such a chip."""

_IMAGE_MAGIC: Final = 0xE9
_IMAGE_HEADER_BYTES: Final = 24
_SEGMENT_HEADER_BYTES: Final = 8
_TABLE_ADDRESS: Final = 0x8000
_TABLE_BYTES: Final = 0xC00
_ENTRY = struct.Struct("<2sBBII16sI")
_ENTRY_MAGIC: Final = b"\xaa\x50"
_TYPE_APP: Final = 0
_DESCRIPTION_MAGIC: Final = 0xABCD5432
_BANNER = re.compile(rb"MicroPython v(([0-9]{1,3})\.([0-9]{1,3})[0-9A-Za-z.+-]{0,40}) on ")


@dataclass(frozen=True, slots=True)
class Partition:
    """An entry of the partition table."""

    label: str
    type: int
    subtype: int
    address: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class EspImage:
    """What is in an image."""

    chip: Chip
    version: str
    """MicroPython's, such as 1.25.0."""
    partitions: tuple[Partition, ...]
    sha256: str
    size_bytes: int

    @property
    def label(self) -> str:
        """What it is, for people."""
        return f"MicroPython {self.version} for {self.chip.name}"


def read_esp_image(data: bytes, where: str) -> EspImage:
    """Return what is in an image; `where` names it in what is wrong with it.

    Raises:
        FlashError: it is none that brings MicroPython to a chip.
    """
    if len(data) > MAX_BYTES:
        raise FlashError(f"{where}: {len(data)} bytes: larger than any flash")
    _check_header(data, 0, f"{where}: not an image for an ESP32: its beginning")
    number = int.from_bytes(data[12:14], "little")
    chip = CHIPS_BY_IMAGE.get(number)
    if chip is None:
        known = ", ".join(f"{chip.name} ({chip.image_id})" for chip in CHIPS_BY_IMAGE.values())
        raise FlashError(f"{where}: for chip {number}; expected one of {known}")
    partitions = _partitions(data, chip, where)
    _check_program(data, chip, partitions, where)
    version = _version(data, where)
    return EspImage(chip, version, partitions, sha256(data).hexdigest(), len(data))


def check_chip(image: EspImage, found: str, where: str) -> None:
    """See that the image is for the chip that esptool found, at its offset.

    Raises:
        FlashError: it is for another.
    """
    if image.chip.name != found:
        raise FlashError(
            f"{where}: it is {image.label}, and the board has an {found}: nothing was written"
        )


def _check_header(data: bytes, start: int, what: str) -> None:
    if len(data) < start + _IMAGE_HEADER_BYTES:
        raise FlashError(f"{what} is missing: {len(data)} bytes are all; get it anew")
    if data[start] != _IMAGE_MAGIC:
        raise FlashError(
            f"{what} has the magic byte {data[start]:#04x}, and {_IMAGE_MAGIC:#04x} is expected"
        )
    segments = data[start + 1]
    if not 1 <= segments <= 16:  # noqa: PLR2004 the most a boot loader loads
        raise FlashError(f"{what} has {segments} segments, and 1 to 16 are expected")


def _partitions(data: bytes, chip: Chip, where: str) -> tuple[Partition, ...]:
    start = _TABLE_ADDRESS - chip.offset
    table = data[start : start + _TABLE_BYTES]
    found = []
    for at in range(0, len(table) - _ENTRY.size + 1, _ENTRY.size):
        magic, kind, subtype, address, size, label, _ = _ENTRY.unpack_from(table, at)
        if magic != _ENTRY_MAGIC:
            break
        text = label.rstrip(b"\0").decode("ascii", "replace")
        found.append(Partition(text, kind, subtype, address, size))
    if not found:
        raise FlashError(
            f"{where}: no partition table (AA 50) at {start:#x}, where it is in an image that is "
            f"written to {chip.offset:#x} of an {chip.name}: take the .bin of the download page, "
            "not the .app-bin that is for updates"
        )
    return tuple(found)


def _check_program(data: bytes, chip: Chip, partitions: tuple[Partition, ...], where: str) -> None:
    apps = [each for each in partitions if each.type == _TYPE_APP]
    if not apps:
        raise FlashError(f"{where}: its partition table has no place for a program")
    start = apps[0].address - chip.offset
    _check_header(data, start, f"{where}: the program at {start:#x}")
    at = start + _IMAGE_HEADER_BYTES + _SEGMENT_HEADER_BYTES
    magic = int.from_bytes(data[at : at + 4], "little")
    if magic != _DESCRIPTION_MAGIC:
        raise FlashError(
            f"{where}: the program does not describe itself ({magic:#010x} instead of "
            f"{_DESCRIPTION_MAGIC:#010x}): damaged, or no image of MicroPython"
        )
    number = int.from_bytes(data[start + 12 : start + 14], "little")
    if number != chip.image_id:
        raise FlashError(f"{where}: its boot loader is for {chip.name}, its program for {number}")
    if len(data) - start > apps[0].size_bytes:
        raise FlashError(
            f"{where}: {len(data) - start} bytes of program, and its partition {apps[0].label} has "
            f"{apps[0].size_bytes}"
        )


def _version(data: bytes, where: str) -> str:
    """Find what it will call itself: MicroPython leaves the fields of the description empty."""
    match = _BANNER.search(data)
    if match is None:
        raise FlashError(f"{where}: there is no MicroPython in it")
    if tuple(map(int, match.group(2, 3))) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise FlashError(
            f"{where}: MicroPython {match[1].decode()}, and {needed} or newer is needed"
        )
    return match[1].decode()
