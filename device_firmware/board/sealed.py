# Frames that only who knows the board's key can make: behind the body a counter (u32) and 8 bytes
# of an HMAC-SHA256 over the session, the direction, the counter and the frame. Sans-IO but for the
# key itself; runs unchanged on MicroPython and CPython.

import os
from binascii import hexlify
from hashlib import sha256
from struct import pack, unpack_from

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


PATH = "device.key"  # 32 bytes; a board without it does what anybody says
_KEY_BYTES = const(32)
_BLOCK = const(64)  # of SHA-256
_TAG = const(8)
_TAIL = const(12)  # counter and tag
_SEALED = const(0x80)
_WORN = const(0x7FFFFFFF)  # no gateway counts so far by itself


# What all sessions of a board share. It has no methods: they would keep this module in the memory.
class Keys:
    pass


def begin(keys, key, session):
    keys.key = key
    keys.pads = _pads(key)  # most of the work, done once
    keys.session = session  # 8 bytes, drawn whenever the counters are lost
    keys.heard = 0  # the highest counter taken from the gateway
    keys.said = 0
    return keys


# The board's key for this run; None without one. With a file that is no key nobody commands.
def load(problems):
    try:
        with open(PATH, "rb") as file:
            key = file.read(_KEY_BYTES + 1)
    except OSError:
        return None
    if len(key) != _KEY_BYTES:
        problems.append("device.key must have 32 bytes: no commands are taken")
        key = os.urandom(_KEY_BYTES)
    return begin(Keys(), key, os.urandom(8))


# Another key, made of this one and the salt: on the flash now, used when the app says so.
def rotate(keys, salt):
    key = mac(keys.key, b"rekey", salt)
    with open(PATH + ".new", "wb") as file:
        file.write(key)
    os.rename(PATH + ".new", PATH)
    return key


def mac(key, *parts):
    return _mac(_pads(key), *parts)


def _pads(key):
    padding = _BLOCK - len(key)
    inner = bytes(byte ^ 0x36 for byte in key) + b"\x36" * padding
    return inner, bytes(byte ^ 0x5C for byte in key) + b"\x5c" * padding


def _mac(pads, *parts):
    inner = sha256(pads[0])
    for part in parts:
        inner.update(part)
    outer = sha256(pads[1])
    outer.update(inner.digest())
    return outer.digest()


# In the same time, wherever they differ.
def is_same(one, other):
    difference = len(one) ^ len(other)
    for a, b in zip(one, other):
        difference |= a ^ b
    return difference == 0


# What HELLO says of the key. Counters that somebody drove up are left for a new session.
def describe(keys, message):
    if is_worn(keys):
        begin(keys, keys.key, os.urandom(8))
    message["ks"] = hexlify(keys.session).decode()
    message["kc"] = keys.heard
    message["ki"] = hexlify(sha256(keys.key).digest()[:4]).decode()


def is_worn(keys):
    return keys.heard > _WORN


# The body of a frame from the gateway; raises ValueError if it is not to be believed.
def open_body(keys, kind, mid, payload):
    end = len(payload) - _TAIL
    if not keys or end < 0:
        raise ValueError("sealed")
    body = payload[:end]
    tag = _tag(keys, b"\0", payload[end : end + 4], kind, mid, body)
    if not is_same(tag, payload[end + 4 :]):
        raise ValueError("wrong key or session")
    counter = unpack_from("<I", payload, end)[0]
    if counter <= keys.heard:
        raise ValueError("came before")
    keys.heard = counter
    return body


# A frame of the board with its seal: type and payload.
def seal(keys, kind, mid, body):
    keys.said += 1
    counter = pack("<I", keys.said)
    kind |= _SEALED
    return kind, body + counter + _tag(keys, b"\1", counter, kind, mid, body)


def _tag(keys, direction, counter, kind, mid, body):
    head = keys.session + direction + counter + bytes((kind, mid))
    return _mac(keys.pads, head, body)[:_TAG]
