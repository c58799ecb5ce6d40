# The manifest of an update, read line by line, as its whole would not fit into the memory: a line
# of JSON, {"kind": "firmware", "v": "0.2.0", "mpy": 6, "n": 62}, then a line for each file, sorted:
# path, size and SHA-256 in hex, separated by a space.

import json
import sys

FOLDERS = ("board", "sensors", "actuators", "commands")
_SMALL = "abcdefghijklmnopqrstuvwxyz0123456789_"
_HEX = "0123456789abcdef"
_FILE_BYTES = 262144  # nothing on a board is larger


# What is wrong with an update; the text is for people.
class Refused(Exception):
    pass


# Checks all of it, some lines at a time, and then returns how many files it has and whether they
# are older than what runs.
def check(path, kind, running):
    with open(path) as file:
        head = _head(file.readline(), kind)
        count = 0
        last = ""
        for line in file:
            count += 1
            name = _checked(line, kind, count)
            if name <= last:
                raise Refused("manifest: line %d: not sorted" % (count + 1))
            last = name
            yield
    if count != head["n"]:
        raise Refused("manifest: %d files of %d" % (count, head["n"]))
    if kind == "firmware" and _version(head["v"]) < _version(running):
        return count, head["v"]
    return count, None


def _head(line, kind):
    try:
        head = json.loads(line)
        found = head["kind"]
        mpy = head["mpy"]
        version = head["v"]
        if not isinstance(version, str) or not isinstance(head["n"], int):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise Refused("manifest: line 1 is no head")
    if found != kind:
        raise Refused("manifest: it is of kind %s, not %s" % (found, kind))
    ours = getattr(sys.implementation, "_mpy", 0) & 0xFF
    if kind == "firmware" and mpy not in (0, ours):  # 0: source, which everything takes
        raise Refused("made for mpy %s, this board takes %d" % (mpy, ours))
    return head


# The path in a line.
def _checked(line, kind, number):
    try:
        path, size, digest = parse(line)
        good = line[-1] == "\n" and len(digest) == 64 and not digest.strip(_HEX)
        good = good and 0 <= size <= _FILE_BYTES and _is_path(path, kind)
    except ValueError:
        good = False
    if not good:
        raise Refused("manifest: line %d" % (number + 1))
    return path


def _is_path(path, kind):
    if kind == "settings":
        return path == "config.json"
    folder, _, name = path.partition("/")
    stem, _, ending = name.partition(".")
    return (
        folder in FOLDERS
        and ending in ("mpy", "py")
        and 0 < len(stem) <= 40
        and not stem.strip(_SMALL)
    )


# "0.10.1" is newer than "0.9".
def _version(text):
    parts = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        parts.append(int(digits or 0))
    return tuple(parts)


def parse(line):
    path, size, digest = line.split()
    return path, int(size), digest


# (path, size, SHA-256 in hex) of each file.
def entries(path):
    with open(path) as file:
        file.readline()
        for line in file:
            yield parse(line)


def entry(path, index):
    for number, found in enumerate(entries(path)):
        if number == index:
            return found
    raise ValueError(index)
