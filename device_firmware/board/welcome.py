# What a WELCOME changes.

from board.delivery import Delivery
from board.frame import clip

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_LOG_BYTES = const(200)
_EPOCH_STEP = const(0x4001)


# Returns True if the board is now joined with its gateway. Whoever cannot prove to be that is told
# what the board measures, beginning where it says, and that is all.
def welcome(session, message, now_ms):
    ring = session.ring
    first_unsafe = message["nx"]
    credit = message["cr"]
    heartbeat_ms = int(message["hb"] * 1000)
    if message["ep"] != session.epoch:
        return False  # an answer to the boot before this one
    if min(first_unsafe, credit) < 0 or not 100 <= heartbeat_ms <= 3600000:
        raise ValueError(message)
    if not session.is_proven:
        session.heartbeat_ms = min(heartbeat_ms, session.heartbeat_ms)
        session.delivery.start(credit, now_ms, min(first_unsafe, ring.next_seq()))
        describe_all(session, now_ms)
        session.joined = True
        return False
    if session.on_time:
        utc_s, ms = message["utc"]
        session.on_time(utc_s * 1000 + ms, now_ms)
    if first_unsafe > ring.next_seq() and not session.closed:
        # The gateway knows this epoch from another life of the board (its flash was erased, or
        # could not be written). It would take new records for old ones: leave the epoch.
        # Every session of the board takes the same step.
        announce(session, (session.epoch + _EPOCH_STEP) & 0xFFFF, ring, session.streams)
        if session.on_epoch:
            session.on_epoch(session.epoch)
        return False
    ring.release(min(first_unsafe, ring.next_seq()))
    session.heartbeat_ms = heartbeat_ms
    session.delivery.start(credit, now_ms)
    describe_all(session, now_ms)
    if session.crash and not session.crash_told:
        session.crash_told = True
        for text in session.crash.split("\n"):
            session.logs.append(b"\4" + clip(text, _LOG_BYTES))
    session.joined = session.up = True
    return True


# Everything is to be described.
def describe_all(session, now_ms):
    session.streams_due = [i for i, stream in enumerate(session.streams) if stream]
    session.actuators_due = list(range(len(session.actuators)))
    session.actuators_ms = now_ms


# The session speaks of another epoch from now on.
def announce(session, epoch, ring, streams, closed=False):
    session.epoch = epoch
    session.ring = ring
    session.streams = streams
    session.closed = closed
    session.joined = False
    session.hello_now = True
    session.delivery = Delivery(ring)
