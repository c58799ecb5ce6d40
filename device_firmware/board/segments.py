# Records of one epoch in files, which outlive a loss of power. A file is a segment: at least 1 KB
# of records that follow each other, at most what fits into one erase block of the flash.
#
# Its name in the folder q: epoch, first seq and number of records, 4, 8 and 4 hex digits. So it is
# known what is missing even if a loss of power left the file empty. Its content, little endian:
#   head     magic u16; when it was written: safe u32, from which seq on no record was missing u32,
#            mono_ms u32, UTC in ms u64 (0: unknown); crc32 of all that u32
#   groups   bytes u8, records u8, check u32: see check_of; then the records
#
# A file goes once it is acknowledged. One that has to make room stays until then, empty: what is
# before the oldest file is safe, but what is before an empty one may be lost.

import os
from binascii import crc32
from struct import pack_into, unpack_from

from board import clock
from micropython import const

FOLDER = "q"
GROUP_BYTES = const(255)  # of records
HEAD = const(26)
FORM = "<HIIIQ"
MAGIC = const(0x6571)
_LEAD = const(6)  # of a group
_MASK = const(0xFFFFFFFF)

_utc = None  # what the gateway said last, in ms, and the board's clock then


def name_of(epoch, first, count):
    return "%s/%04x%08x%04x" % (FOLDER, epoch, first, count)


# Of a group of records in a file: binds them to their place, as far as the file's name tells it.
def check_of(first, size, count, records):
    return crc32(records, crc32(bytes((size, count)), first))


# What the streams of an epoch mean, as JSON.
def streams_of(epoch):
    return "%s/%04x.json" % (FOLDER, epoch)


# For a session's on_time.
def note_time(utc_ms, now_ms):
    global _utc
    _utc = utc_ms, now_ms


# UTC in ms; 0 as long as no gateway told it.
def utc_ms():
    return _utc[0] + clock.since_ms(_utc[1]) if _utc else 0


# If that fails, the file is found again after a reset, and is known by then.
def remove(path):
    try:
        os.remove(path)
    except OSError:
        pass


class Segments:
    def __init__(self, epoch):
        self.epoch = epoch
        self.firsts = []  # of each file, the oldest first
        self.counts = []  # its records
        self.goods = []  # how many of them can be read: all, but where a write was cut short
        self.empties = []  # (first, count) of files of which nothing is to be read any more
        self.lost = 0  # records that cannot be read, or had to make room
        self.ready = 0  # records from the oldest up to this one can be read, without a hole
        self.shift_ms = 0  # from the clock they were taken by to the present one
        self._mark = 0  # a record, and where its group is: the next copy mostly goes on from there
        self._place = 0

    # A file of `count` records, of which `good` can be read.
    def add(self, first, count, good):
        self.lost += count - good
        if good:
            self.firsts.append(first)
            self.counts.append(count)
            self.goods.append(good)
            self._settle()
        else:
            self.empties.append((first, count))

    # Number after the last record that can be read.
    def stop(self):
        return self.firsts[-1] + self.goods[-1]

    # Removes the files of which all is before seq. What cannot be read of one is not safe before
    # the gateway has heard that it is missing.
    def release(self, seq):
        while self.firsts and self.firsts[0] + self.goods[0] <= seq:
            self.empties.append(self._take(0))
        for file in [file for file in self.empties if sum(file) <= seq]:
            self.empties.remove(file)
            remove(name_of(self.epoch, *file))

    # Makes room. May raise OSError.
    def drop_oldest(self):
        self.lost += self.goods[0]
        file = self._take(0)
        with open(name_of(self.epoch, *file), "wb"):
            pass
        self.release(file[0])
        self.empties.append(file)

    # Whether something before the oldest file may be lost.
    def made_room(self):
        return any(file[0] < self.firsts[0] for file in self.empties)

    # The epoch gets another number.
    def rename(self, epoch):
        names = [(streams_of(self.epoch), streams_of(epoch))]
        for file in self.empties + list(zip(self.firsts, self.counts)):
            names.append((name_of(self.epoch, *file), name_of(epoch, *file)))
        self.epoch = epoch
        for old, new in names:
            try:
                os.rename(old, new)
            except OSError:
                pass

    # As a ring's. A file that fails has no more records from there on.
    def copy(self, seq, target, offset, room):
        index = 0
        while self.firsts[index] + self.goods[index] <= seq:
            index += 1
        group, at = self._read(index, seq)
        if group is None:
            first = self.firsts[index]
            self.lost += first + self.goods[index] - at
            self.goods[index] = at - first
            if at == first:
                self.empties.append(self._take(index))
            self._settle()
            return 0, 0
        end = offset
        position = records = 0
        while position < len(group):
            n = group[position]
            if at >= seq:
                if end + n > offset + room:
                    break
                target[end : end + n] = group[position : position + n]
                mono_ms = unpack_from("<I", target, end + 2)[0] + self.shift_ms
                pack_into("<I", target, end + 2, mono_ms & _MASK)
                end += n
                records += 1
            position += n
            at += 1
        return end - offset, records

    # The group that record seq is in (None if it cannot be read), and the number of its first.
    def _read(self, index, seq):
        at = first = self.firsts[index]
        place = HEAD
        if first < self._mark <= seq:
            at = self._mark
            place = self._place
        try:
            with open(name_of(self.epoch, first, self.counts[index]), "rb") as file:
                file.seek(place)
                lead = file.read(_LEAD)
                while len(lead) == _LEAD and 0 < lead[1] <= seq - at:
                    at += lead[1]
                    place += _LEAD + lead[0]
                    file.seek(place)
                    lead = file.read(_LEAD)
                group = file.read(lead[0]) if len(lead) == _LEAD else b""
        except OSError:
            return None, at
        if not group or check_of(first, lead[0], lead[1], group) != unpack_from("<I", lead, 2)[0]:
            return None, at
        self._mark = at
        self._place = place
        return group, at

    # Returns (first, count) of a file that counts no longer.
    def _take(self, index):
        self.goods.pop(index)
        file = self.firsts.pop(index), self.counts.pop(index)
        self._settle()
        return file

    def _settle(self):
        self.ready = self.firsts[0] if self.firsts else 0
        for first, count, good in zip(self.firsts, self.counts, self.goods):
            if first != self.ready:
                break
            self.ready += good
            if good < count:
                break
