# The long work of an update, in pieces that hold up nobody: finding out which files are needed,
# and that all of them are right. A generator yields after each piece, so often that the board
# measures and delivers meanwhile.

import os
from binascii import crc32, hexlify
from hashlib import sha256

from board.manifest import FOLDERS, Refused, entries

_PIECE = 512
_BLOCK = 4096  # of the flash: what a file takes is a multiple of it
_SPARE = 32768  # stays free
_FOLDER = 0x4000


# Takes over what is there already: files of an update that broke off, and unchanged ones of the
# slot that runs. Returns the bitmap of those that are missing.
def prepare(manifest, target, active, count):
    names = set()
    for path, _, _ in entries(manifest):
        names.add(crc32(path.encode()) & 0x3FFFFFFF)
    yield
    yield from _clean(target, manifest, names)
    names = None
    need = bytearray((count + 7) // 8)
    more = peak = 0  # bytes: for good, and while a file is there beside the one it replaces
    for index, (path, size, digest) in enumerate(entries(manifest)):
        goal = target + "/" + path
        if (yield from is_right(goal, size, digest)):
            continue
        if active and (yield from is_right(active + "/" + path, size, digest)):
            yield from _copy(active + "/" + path, target + "/part")
            os.rename(target + "/part", goal)
            continue
        need[index >> 3] |= 1 << (index & 7)
        taken = (size // _BLOCK + 1) * _BLOCK
        peak = max(peak, more + taken)
        more += taken - _taken(goal)
    size, _, blocks, free = os.statvfs(".")[:4]
    if not 0 <= free <= blocks:  # littlefs counts what files share more than once
        free = 0
    lacking = peak + _SPARE - size * free
    if lacking > 0:
        raise Refused("no room on the flash: %d KB are missing" % (lacking // 1024 + 1))
    return need


# What a file has of the flash.
def _taken(path):
    try:
        return (os.stat(path)[6] // _BLOCK + 1) * _BLOCK
    except OSError:
        return 0


# The bitmap of the files that are not as the manifest says.
def verify(manifest, place, count):
    need = bytearray((count + 7) // 8)
    for index, (path, size, digest) in enumerate(entries(manifest)):
        if not (yield from is_right(place(path), size, digest)):
            need[index >> 3] |= 1 << (index & 7)
    return need


# Whether a file is there and is this one.
def is_right(path, size, digest):
    try:
        if os.stat(path)[6] != size:
            return False
    except OSError:
        return False
    hash = sha256()
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    with open(path, "rb") as file:
        while True:
            count = file.readinto(buffer)
            if not count:
                break
            hash.update(view[:count])
            yield
    return hexlify(hash.digest()).decode() == digest


# Makes the folders, and removes what the manifest does not have: a .py goes before a .mpy.
def _clean(target, manifest, names):
    for folder in FOLDERS:
        try:
            os.mkdir(target + "/" + folder)
        except OSError:
            pass
    for name, kind in [entry[:2] for entry in os.ilistdir(target)]:
        path = target + "/" + name
        if kind == _FOLDER and name in FOLDERS:
            for inner in [entry[0] for entry in os.ilistdir(path)]:
                if crc32((name + "/" + inner).encode()) & 0x3FFFFFFF not in names:
                    _remove(path + "/" + inner)
                yield
        elif path != manifest:
            _remove(path)
        yield


def _remove(path):
    try:
        os.remove(path)
    except OSError:  # a folder
        for entry in list(os.ilistdir(path)):
            _remove(path + "/" + entry[0])
        os.rmdir(path)


def _copy(source, target):
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    with open(source, "rb") as old, open(target, "wb") as new:
        while True:
            count = old.readinto(buffer)
            if not count:
                break
            new.write(view[:count])
            yield
