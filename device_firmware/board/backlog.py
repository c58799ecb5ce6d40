# A ring whose records also go into files when the gateway does not make them safe: with durability
# "batch". It has the attributes and methods of a ring. What is in a file stays in the ring as well,
# until that needs the room.

import json
import os
from binascii import crc32
from struct import pack, unpack_from

from board import clock, log
from board.segments import (
    FOLDER,
    FORM,
    GROUP_BYTES,
    MAGIC,
    check_of,
    name_of,
    remove,
    streams_of,
    utc_ms,
)
from micropython import const

_AGE_MS = const(10000)  # what is not safe by then is written, once it makes a segment
_LEAST_BYTES = const(1280)  # of records in a segment: each costs up to 1.1 erased blocks
_MOST_BYTES = const(4096)  # of a segment: so much is erased at once
_FREE_BYTES = const(65536)  # of the file system, left for others
_RETRY_MS = const(60000)  # after a write that failed


class Backlog:
    past = None  # what is left of earlier epochs: it makes room first

    # most: how many segments there may be; streams: the board's, with their changes
    def __init__(self, ring, segments, most=0, streams=()):
        self.ring = ring
        self.segments = segments
        self._most = most
        self._streams = streams
        self._told = None  # streams that are written down
        self._group = bytearray(GROUP_BYTES)
        self._failed_ms = None
        if segments.firsts:
            ring.saved = segments.stop()

    def __getattr__(self, name):
        return getattr(self.ring, name)

    @property
    def first(self):
        firsts = self.segments.firsts
        return min(firsts[0], self.ring.first) if firsts else self.ring.first

    @property
    def count(self):
        return self.ring.next_seq() - self.first

    @property
    def lost(self):
        return self.ring.lost + self.segments.lost

    def ready(self):
        ready = self.segments.ready
        if self.segments.firsts and ready < self.ring.first:
            return ready
        return self.ring.next_seq()

    def copy(self, seq, target, offset, room):
        return (self.ring if seq >= self.ring.first else self.segments).copy(
            seq, target, offset, room
        )

    def release(self, seq):
        self.ring.release(seq)
        self.segments.release(seq)

    def rename(self, epoch):
        self.ring.rename(epoch)
        self.segments.rename(epoch)

    def push(self, record, n):
        seq = self.ring.push(record, n)
        if self._most and 4 * self._unsaved() > 3 * self.ring.size:
            self._save()
        return seq

    def tick(self):
        self.ring.tick()
        if self._most and self._unsaved() >= _LEAST_BYTES:
            self.ring.copy(self._next(), self._group, 0, GROUP_BYTES)
            if clock.since_ms(unpack_from("<I", self._group, 2)[0]) >= _AGE_MS:
                self._save()

    # The first record that is in no file.
    def _next(self):
        return max(self.ring.saved, self.ring.first)

    # Bytes of records that are in no file, at their average length.
    def _unsaved(self):
        ring = self.ring
        return (ring.next_seq() - self._next()) * ring.used // max(ring.count, 1)

    # Writes a segment, if there are records for one.
    def _save(self):
        if self._failed_ms is not None and clock.since_ms(self._failed_ms) < _RETRY_MS:
            return
        first = seq = self._next()
        whole = self.first if self.ready() == self.ring.next_seq() else first
        head = pack(FORM, MAGIC, self.ring.safe or 0, whole, clock.now_ms(), utc_ms())
        end, size = self._measure(seq, _MOST_BYTES - len(head) - 4)
        if size < _LEAST_BYTES:
            return
        name = name_of(self.segments.epoch, first, end - first)
        try:
            self._make_room()
            self._describe()
            with open(name, "wb") as file:
                file.write(head + pack("<I", crc32(head)))
                while seq < end:
                    size, count = self.ring.copy(seq, self._group, 0, GROUP_BYTES)
                    records = memoryview(self._group)[:size]
                    file.write(pack("<BBI", size, count, check_of(first, size, count, records)))
                    file.write(records)
                    seq += count
        except (OSError, MemoryError) as error:
            self._failed_ms = clock.now_ms()
            remove(name)
            log.write(log.WARNING, "nothing can be kept in flash: %r" % error)
            return
        self._failed_ms = None
        self.segments.add(first, end - first, end - first)
        self.ring.saved = end

    # How far groups of records go that fit into `room`, and their bytes without what leads them in.
    def _measure(self, seq, room):
        total = 0
        while seq < self.ring.next_seq():
            size, count = self.ring.copy(seq, self._group, 0, GROUP_BYTES)
            room -= 6 + size
            if room < 0:
                break
            total += size
            seq += count
        return seq, total

    # Raises OSError if there is none to make.
    def _make_room(self):
        while True:
            files = sum(1 for entry in os.ilistdir(FOLDER) if "." not in entry[0])
            state = os.statvfs(FOLDER)
            if files < self._most and state[1] * state[4] >= _FREE_BYTES:
                return
            if self.past and self.past.make_room():
                continue
            if not self.segments.firsts:
                raise OSError(28)  # ENOSPC
            self.segments.drop_oldest()

    # Writes down what the streams mean, when that has changed.
    def _describe(self):
        streams = list(self._streams)
        if streams != self._told:
            path = streams_of(self.segments.epoch)
            with open(path + ".new", "w") as file:
                json.dump(streams, file)
            os.rename(path + ".new", path)
            self._told = streams
