# What has to be sealed if the board has a key: what it is asked to do, and what it says of that.
# Needed seldom.

import json

from board.frame import to_json
from board.parts import borrow

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_SEALED = const(0x80)
_CMD = const(0x20)
_RSP = const(0x21)
_OTA_BEGIN = const(0x40)
_OTA_ABORT = const(0x45)
_NEEDED = const("needs the key")
_QUEUE_MAX = const(8)  # who has no key must not fill the memory with answers


def answer(session, kind, mid, body):
    if session.keys:
        kind, body = borrow("sealed").seal(session.keys, kind, mid, body)
    session.queue.append((kind, mid, body))


# The body of a frame of the gateway that has to be sealed; raises ValueError if it is not to be
# believed. Whoever may wonder why nothing happens has an answer.
def open_body(session, kind, mid, body):
    if kind & _SEALED:
        sealed = borrow("sealed")
        body = sealed.open_body(session.keys, kind, mid, body)
        if sealed.is_worn(session.keys):
            session.joined = False
            session.hello_now = True
        return body
    if len(session.queue) >= _QUEUE_MAX:
        pass
    elif kind == _CMD:
        cid = json.loads(body)["cid"]
        session.queue.append((_RSP, mid, to_json({"cid": cid, "err": _NEEDED})))
    elif kind == _OTA_BEGIN:
        session.queue.append((_OTA_ABORT, mid, to_json({"e": _NEEDED})))
    raise ValueError("not sealed")
