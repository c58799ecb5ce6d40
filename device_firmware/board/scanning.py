# What lies in the folder of segments after a reset or a loss of power. Needed only then.

import json
import os
from binascii import crc32
from struct import unpack

from board.segments import (
    FOLDER,
    FORM,
    HEAD,
    MAGIC,
    Segments,
    check_of,
    name_of,
    note_time,
    remove,
    streams_of,
)

_DIGITS = 16  # of a segment's name
_LEAD = 6


# The ring with the files that the present epoch has, and those it will have.
def make_backlog(app, flash_bytes):
    from board.backlog import Backlog

    try:
        os.mkdir(FOLDER)
    except OSError:  # it is there
        pass
    files = scan(app.epoch)[0]  # before there is a watchdog
    # What is in files has left the ring, and is not lost.
    app.ring.lost -= min(sum(files.goods), app.ring.lost)
    backlog = Backlog(app.ring, files, flash_bytes // 4096, app.streams)
    backlog.release(app.ring.safe or 0)
    return backlog


# What has to be delivered before the present epoch; None if there is nothing.
def make_past(app):
    for port in app.ports:
        port.session.on_time = note_time
    tidy(app.epoch)
    found = epochs(app.epoch)
    if not found:
        return None
    from board.past import Past

    return Past(app, found)


# Epochs of which there are segments, in the order they began, without the present one.
def epochs(present):
    found = set(segment[0] for segment in _segments())
    found.discard(present)
    return sorted(found, key=lambda epoch: (epoch - present) & 0xFFFF)


def has(epoch):
    return any(segment[0] == epoch for segment in _segments())


# Removes what the streams of epochs meant of which there are no segments any more.
def tidy(present):
    kept = {streams_of(epoch) for epoch in epochs(present)}
    kept.add(streams_of(present))
    for name in _names():
        path = FOLDER + "/" + name
        if name[4:] in (".json", ".json.new") and path not in kept:
            remove(path)


# Returns the segments of an epoch; what was known when the last was written, [safe, whole,
# mono_ms, utc_ms], or None; and the number after the last record there ever was in one.
# feed: to be called now and then, as this may take longer than a watchdog waits
def scan(epoch, feed=None):
    files = Segments(epoch)
    known = None
    end = 0
    for its_epoch, first, count in sorted(_segments()):
        if its_epoch != epoch:
            continue
        if feed:
            feed()
        head, good = _read(name_of(epoch, first, count), first, count)
        files.add(first, count, good)
        end = max(end, first + count)
        if head:
            if known and known[3] and not head[3]:  # no gateway had told the time since a reset
                head[3] = known[3] + ((head[2] - known[2]) & 0xFFFFFFFF)
            known = head
    return files, known, end


def _read(path, first, limit):
    head = None
    good = 0
    try:
        with open(path, "rb") as file:
            raw = file.read(HEAD)
            if len(raw) == HEAD and crc32(raw[:-4]) == unpack("<I", raw[-4:])[0]:
                head = list(unpack(FORM, raw[:-4]))
            if not head or head.pop(0) != MAGIC:
                return None, 0
            while good < limit:
                lead = file.read(_LEAD)
                if len(lead) < _LEAD or not lead[1]:
                    break
                check = check_of(first, lead[0], lead[1], file.read(lead[0]))
                if check != unpack("<I", lead[2:])[0]:
                    break
                good += lead[1]
    except OSError:
        pass
    return head, good


# (epoch, first, count) of each, as its name says.
def _segments():
    segments = []
    for name in _names():
        try:
            if len(name) == _DIGITS:
                segments.append((int(name[:4], 16), int(name[4:12], 16), int(name[12:], 16)))
        except ValueError:  # nothing of ours
            pass
    return segments


def _names():
    try:
        return [entry[0] for entry in os.ilistdir(FOLDER)]
    except OSError:  # there is no such folder
        return []


# Removes all there is of an epoch: what it means last, and files in their order, so that a power
# cut leaves nothing that looks as if something were lost.
def forget(epoch):
    for segment in sorted(_segments()):
        if segment[0] == epoch:
            remove(name_of(*segment))
    remove(streams_of(epoch))


# What its streams meant: a list such as a session's.
def streams(epoch):
    try:
        with open(streams_of(epoch)) as file:
            return json.load(file)
    except (OSError, ValueError):
        return []
