"""Images for the ESP32 family, put together from Espressif's documents rather than by our reader.

Source: docs.espressif.com/projects/esptool, "Firmware Image Format"; esp-idf, "Partition Tables".
"""

import struct
from functools import reduce

CHIPS = {"ESP32": (0, 0x1000), "ESP32-C3": (5, 0), "ESP32-S3": (9, 0)}
"""Chip id and where the boot loader is."""

BANNER = b"3.4.0; MicroPython v1.25.0 on 2025-04-15\0"


def program(chip_id: int, body: bytes) -> bytes:
    """Return an image with one segment, its checksum, and no digest."""
    body += bytes(-len(body) % 4)
    header = struct.pack("<BBBBI", 0xE9, 1, 2, 0x20, 0x40080400)
    extended = struct.pack("<B3sHBHH4sB", 0xEE, bytes(3), chip_id, 0, 0, 0, bytes(4), 0)
    segment = struct.pack("<II", 0x3FFF0030, len(body)) + body
    image = header + extended + segment
    image += bytes(15 - len(image) % 16)
    return image + bytes([reduce(lambda a, b: a ^ b, body, 0xEF)])


def partition(kind: int, subtype: int, address: int, size: int, label: str) -> bytes:
    """Return an entry of the partition table."""
    return struct.pack("<2sBBII16sI", b"\xaa\x50", kind, subtype, address, size, label.encode(), 0)


def micropython_image(chip: str = "ESP32", banner: bytes = BANNER) -> bytes:
    """Return what a download of micropython.org is: boot loader, table and program in one file."""
    chip_id, offset = CHIPS[chip]
    table = partition(1, 2, 0x9000, 0x6000, "nvs")
    table += partition(0, 0, 0x10000, 0x1F0000, "factory")
    table += partition(1, 0x81, 0x200000, 0x200000, "vfs")
    description = struct.pack("<I", 0xABCD5432) + bytes(252)
    flash = bytearray(b"\xff" * (0x10000 - offset))
    boot = program(chip_id, b"boot loader ")
    flash[: len(boot)] = boot
    flash[0x8000 - offset : 0x8000 - offset + len(table)] = table
    return bytes(flash) + program(chip_id, description + banner)


def uf2_block(number: int, count: int, family: int, data: bytes = bytes(256)) -> bytes:
    """Return a block. Source: github.com/microsoft/uf2."""
    header = struct.pack(
        "<8I", 0x0A324655, 0x9E5D5157, 0x2000, 0x10000000 + 256 * number, 256, number, count, family
    )
    return header + data + bytes(476 - len(data)) + struct.pack("<I", 0x0AB16F30)


def uf2_image(family: int = 0xE48BFF56, count: int = 4) -> bytes:
    """Return an image of so many blocks."""
    return b"".join(uf2_block(number, count, family) for number in range(count))
