# config.json: what is wired to the board. README.md describes every key.
# A mistake costs the entry it is in, never the board: it joins, and says what is wrong.

import json
from binascii import crc32

from board.parts import borrow

PATH = "config.json"
NAME_BYTES = 32  # a longer name would crowd out the rest of HELLO

_RANGES = {  # lowest, highest, default
    "ring_bytes": (512, 262144, 8192),
    "flash_bytes": (16384, 2097152, 524288),
    "watchdog_s": (0, 3600, 30),  # 0: none
}
_KEYS = ("name", "durability", "links", "led", "sensors", "actuators", "require_signature")
_EXTRA = ("bthome", "ble_key", "sleep")
_INTERVAL_MS = (1, 86400000, 1000)
_HEX = "0123456789abcdefABCDEF"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"


# Returns (config, problems): every key is there and of its type, and a text for each mistake.
def load(path=PATH):
    problems = []
    given = {}
    try:
        with open(path, "rb") as file:
            given = _parse(file.read())
    except OSError as error:
        problems.append("%s cannot be read (%r): no sensors" % (path, error))
    except ValueError:
        problems.append("%s is not JSON: no sensors" % path)
    except MemoryError:
        problems.append("%s is too long for the memory: no sensors" % path)
    return check(given, problems), problems


# A number that changes with the file.
def layout(path=PATH):
    try:
        with open(path, "rb") as file:
            return crc32(file.read())
    except OSError:
        return 0


# MicroPython's json takes a file that was cut short for a whole one.
def _parse(text):
    given = json.loads(text)
    depth = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            in_string = escaped or char != 34  # the quote
            escaped = char == 92 and not escaped  # the backslash
        elif char == 34:
            in_string = True
        elif char in b"{[":
            depth += 1
        elif char in b"}]":
            depth -= 1
    if depth or in_string:
        raise ValueError
    return given


def check(given, problems):
    if not isinstance(given, dict):
        problems.append("config is not an object in { }")
        given = {}
    for key in given:
        if key not in _KEYS and key not in _RANGES and key not in _EXTRA:
            problems.append("unknown key %r" % key)
    config = {}
    if any(key in given for key in _EXTRA):  # they are seldom, and take no memory if they are not
        config["extra"] = borrow("extra").check(given, problems)
    for key, limits in _RANGES.items():
        config[key] = _number(given, key, limits, "", problems)
    name = given.get("name", "")
    if not isinstance(name, str) or len(name.encode()) > NAME_BYTES:
        problems.append("name must be a text of at most %d bytes" % NAME_BYTES)
        name = ""
    config["name"] = name
    config["durability"] = given.get("durability", "ram")
    if config["durability"] not in ("ram", "batch"):
        problems.append("durability must be ram or batch")
        config["durability"] = "ram"
    config["led"] = given.get("led")
    config["require_signature"] = public_key = given.get("require_signature")
    if public_key is not None and not _is_key(public_key):
        problems.append("require_signature must have 64 hex digits: no firmware is taken")
    config["links"] = _links(given, problems)
    config["sensors"] = _parts(given, "sensors", problems)
    config["actuators"] = _parts(given, "actuators", problems)
    for part in config["sensors"]:
        where = "sensor %s: " % part["name"]
        part["interval_ms"] = _number(part, "interval_ms", _INTERVAL_MS, where, problems)
    return config


def _is_key(value):
    return isinstance(value, str) and len(value) == 64 and not value.strip(_HEX)


def _number(given, key, limits, where, problems):
    low, high, default = limits
    number = given.get(key, default)
    if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
        return number
    problems.append("%s%s must be a whole number from %d to %d" % (where, key, low, high))
    return default


# Without a link nobody would hear of the mistake, so stdio stands in.
def _links(given, problems):
    links = []
    entries = given.get("links", ["stdio"])
    if not isinstance(entries, list):
        entries = []
    for entry in entries:
        link = {"kind": entry} if isinstance(entry, str) else entry
        if isinstance(link, dict) and link.get("kind") in ("stdio", "uart", "ble"):
            links.append(link)
            if not isinstance(link.get("sealed", False), bool):
                problems.append("sealed must be true or false: it is true")
                link["sealed"] = True
        else:
            problems.append("a link's kind must be stdio, uart or ble")
    if not links:
        if "links" in given:
            problems.append("no usable link: stdio is used")
        links.append({"kind": "stdio"})
    return links


# Sensors or actuators: each has the kind of its module and a name of its own.
def _parts(given, key, problems):
    parts = []
    names = set()
    entries = given.get(key, [])
    if not isinstance(entries, list):
        problems.append("%s must be a list" % key)
        entries = []
    for number, entry in enumerate(entries):
        where = "%s[%d]" % (key, number)
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or not kind or kind.strip(_LETTERS):
            problems.append("%s: kind must name a module in %s/" % (where, key))
            continue
        name = entry.setdefault("name", kind)
        if not isinstance(name, str) or not 0 < len(name.encode()) <= NAME_BYTES:
            problems.append("%s: name must be a text of 1 to %d bytes" % (where, NAME_BYTES))
        elif name in names:
            problems.append("%s: the name %s is taken: give it another" % (where, name))
        else:
            names.add(name)
            parts.append(entry)
    return parts
