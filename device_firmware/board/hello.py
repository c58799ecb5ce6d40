# What the board says of itself: HELLO until a gateway answers, then what it measures and drives.

import json

from board.frame import to_json
from board.parts import borrow

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_STREAM = const(0x05)
_ACTUATOR = const(0x07)


# The payload of a HELLO, in at most `size` bytes: with as much of the end of the last crash's
# traceback (the exception and the innermost call) as there is room for.
def hello(session, size):
    ring = session.ring
    message = {
        "p": 1,
        "ep": session.epoch,
        "sq": ring.next_seq(),
        "un": ring.count,
        "mf": session.max_frame,
        "ns": sum(1 for stream in session.streams if stream),
        "na": len(session.actuators),
    }
    if session.closed:
        message["cl"] = 1
    if ring.safe:
        message["ak"] = ring.safe
    elif ring.previous:  # told until a record of this epoch is safe: then the gap is published
        message["pe"], message["ps"], message["pa"] = ring.previous
    info = session.info
    message.update(info if isinstance(info, dict) else json.loads(info))
    if session.keys:
        borrow("sealed").describe(session.keys, message)
    if session.unseal:
        message["ka"] = 1
    body = to_json(message)
    room = size - len(body) - 11  # ,"crash":""
    if session.crash and room > 0:
        crash = session.crash[-room:]
        excess = len(to_json(crash)) - 2 - room
        while excess > 0:  # JSON writes a character in up to six
            crash = crash[(excess + 5) // 6 :]
            excess = len(to_json(crash)) - 2 - room
        message["crash"] = crash
        body = to_json(message)
    return body


# The next description that is due: type, mid and payload.
def description(session):
    if session.streams_due:
        index = session.streams_due[0]
        name, form, channels = session.streams[index]
        return _STREAM, 0, to_json({"i": index, "n": name, "f": form, "c": channels})
    return _ACTUATOR, 0, to_json(session.actuators[session.actuators_due[0]].describe())
