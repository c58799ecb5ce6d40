# What the board says of itself, until a gateway answers.

from board.frame import to_json


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
    message.update(session.info)
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
