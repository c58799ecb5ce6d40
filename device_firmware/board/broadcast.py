# What the board says to all who listen: its newest readings as BTHome, and whether records wait to
# be fetched (P23: company FFFF, records waiting; 1 if it can be connected to now, 2 if it sleeps).

from board import clock, log
from board.bthome import ENCRYPTED_BYTES, PLAIN_BYTES, collect, encrypted, plain, prepare
from board.frame import clip
from board.parts import borrow
from micropython import const

_ELEMENT_BYTES = const(22)  # of the 31 of an advert, 9 are flags and what waits
_NAME_BYTES = const(11)  # beside the service in a scan response
_HEAD = const(6)  # of a record
_TICK_MS = const(250)
_FLAGS = const(b"\2\1\6")


class Broadcast:
    # link: the one that advertises; key: of 16 bytes, empty without encryption, None to keep all
    # readings back
    def __init__(self, app, link, name, key, sleeps):
        self._app = app
        self._link = link
        self._key = key
        self._sleeps = sleeps
        seq = app.ring.next_seq()
        self._goes_on = seq > 0
        self._ticked_ms = 0
        self._packet_id = self._seq = seq
        self._base = None  # of the counter, see nonce.py
        self._end = 0
        self._told = None  # what the advert says, apart from readings
        self._streams = {}  # number -> (stream, its objects)
        self._element = b""
        self._address = link.radio.config("mac")[1]
        short = clip(name, _NAME_BYTES)
        kind = 9 if len(short) == len(name.encode()) else 8  # complete, or shortened
        self._response = link.service + bytes((len(short) + 1, kind)) + short

    # To be called often.
    def tick(self, app):
        if self._told and clock.since_ms(self._ticked_ms) < _TICK_MS:
            return  # but the first advert of all says already that the board sleeps
        self._ticked_ms = clock.now_ms()
        seq = app.ring.next_seq()
        is_free = self._link.central is None
        told = min(app.ring.count, 255), is_free | self._sleeps << 1
        if seq == self._seq and told == self._told:
            return
        if seq != self._seq:
            self._seq = seq
            self._element = self._readings(seq) if self._key is not None else b""
        self._told = told
        waiting = b"\5\xff\xff\xff" + bytes(told)
        element = self._element or (self._link.service if is_free else b"")
        self._link.advertise(_FLAGS + waiting + element, self._response)

    # The element of the advert; empty if there is nothing to say.
    def _readings(self, seq):
        room = _ELEMENT_BYTES - (ENCRYPTED_BYTES if self._key else PLAIN_BYTES)
        objects = collect(self._records(), room)
        if not objects:
            return b""
        if not self._key:
            self._packet_id += 1
            return plain(objects, self._packet_id & 255, self._sleeps)
        if self._base is None or self._base + seq >= self._end:
            try:
                self._base, self._end = borrow("nonce").reserve(
                    self._base, seq, self._app.epoch, self._goes_on
                )
            except (OSError, ValueError) as error:
                log.write(log.ERROR, "no adverts: %s" % error)
                self._key = None
                return b""
        return encrypted(objects, self._base + seq, self._key, self._address, self._sleeps)

    # The newest of each sensor that works: (form, objects, values).
    def _records(self):
        app = self._app
        found = []
        for sensor in app.sensors:
            stream = app.streams[sensor.number]
            if not stream or sensor.failures or not has_read(sensor):
                continue
            known, objects = self._streams.get(sensor.number, (None, None))
            if known is not stream:
                objects = prepare(stream[1], stream[2])
                self._streams[sensor.number] = stream, objects
            if objects:
                found.append((stream[1], objects, memoryview(sensor.record)[_HEAD:]))
        return found


# Whether a sensor was read in this run: its record has a time.
def has_read(sensor):
    return bool(sensor.record) and sensor.record[2:6] != b"\0\0\0\0"
