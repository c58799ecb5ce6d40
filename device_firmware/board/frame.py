# Frames on a serial line: "~", base64 of (type u8, mid u8, payload, crc32 u32; little endian),
# newline. Everything else is text. Sans-IO; runs unchanged on MicroPython and CPython.

import json
from binascii import a2b_base64, b2a_base64, crc32
from struct import pack_into

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_OVERHEAD = const(6)  # type, mid and crc32
_GOOD = const(0x2144DF1C)  # crc32 of anything followed by its own crc32


# Turns buffer[:length] (type, mid, payload) into a line. The buffer needs four spare bytes: the
# CRC is appended in place, so that a batch copied out of the ring is not copied again.
def seal(buffer, length):
    view = memoryview(buffer)
    pack_into("<I", buffer, length, crc32(view[:length]))
    return b"~" + b2a_base64(view[: length + 4])


# Returns (type, mid, payload) of a line with or without its newline, or None if it is text.
# Noise on a wire is normal, so nothing here raises. The frame begins after the LAST "~": what a
# torn frame or a print() left in front of it costs nothing.
def open_line(line):
    start = line.rfind(b"~") + 1
    if not start:
        return None
    end = len(line)
    if line[-1] == 10:
        end -= 2 if line[-2] == 13 else 1
    text = line[start:end]
    try:
        frame = a2b_base64(text)
    except ValueError:
        return None
    size = len(frame)
    # Decoders skip characters that are not base64; the length betrays it.
    if len(text) & 3 or size != len(text) // 4 * 3 - text[-2:].count(b"="):
        return None
    if size < _OVERHEAD or crc32(frame) != _GOOD:
        return None
    return frame[0], frame[1], frame[2:-4]


# Payload bytes of a largest frame whose line is `characters` long, newline included.
def payload_room(characters):
    return (characters - 2) // 4 * 3 - _OVERHEAD


def to_json(value):
    return json.dumps(value, separators=(",", ":")).encode()


# The first `size` bytes of a text, cut between characters.
def clip(text, size):
    raw = text.encode()
    if len(raw) <= size:
        return raw
    while size and raw[size] & 0xC0 == 0x80:
        size -= 1
    return raw[:size]
