# What the gateway asks for seldom, but for commands (answers.py).

from board.parts import borrow, load

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_STREAM_REQ = const(0x06)
_HELLO_REQ = const(0x08)
_OTA = const(b"\x40\x42\x44\x45")
_OTA_ABORT = const(0x45)
_EVERYTHING = const(255)  # in STREAM_REQ


def receive(session, kind, mid, body, now_ms):
    if kind == _HELLO_REQ:
        session.joined = False
        session.hello_now = True
    elif kind == _STREAM_REQ:
        _describe(session, body[0], now_ms)
    elif kind in _OTA and hasattr(session.commands, "ports"):  # an app's
        _update(session, kind, mid, body)
    else:
        session.unknown_frames += 1


def _describe(session, number, now_ms):
    if number == _EVERYTHING:
        borrow("welcome").describe_all(session, now_ms)
    elif number < len(session.streams) and session.streams[number]:
        session.describe(number)


def _update(session, kind, mid, body):
    try:
        load("board", "update").receive(session.commands, session, kind, mid, body)
    except MemoryError:
        borrow("saying").answer(session, _OTA_ABORT, mid, b'{"e":"no memory for an update"}')
