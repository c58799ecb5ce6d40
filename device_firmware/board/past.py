# Epochs that ended with a loss of power, and left records in files. They are delivered before the
# present one, the oldest first: until all of one is safe, the sessions speak of nothing else.

from board import clock, log, segments
from board.backlog import Backlog
from board.parts import borrow
from board.ring import Ring

_OLDEST_MS = 3888000000  # 45 days: a record's age has 32 bits


class Past:
    def __init__(self, app, epochs):
        self._app = app
        self._epochs = epochs
        self._known = None  # the old clock, and UTC then
        self._next_files = None  # of a later one of them, once it has to make room
        app.ring.past = self
        for port in app.ports:
            port.session.on_time = self.on_time
        self._begin(epochs.pop(0))

    # To be called now and then. Returns False once it is over.
    def tick(self):
        app = self._app
        backlog = self._backlog
        if backlog.count or not any(port.session.joined for port in app.ports):
            return True
        borrow("scanning").forget(backlog.segments.epoch)
        if self._epochs:
            self._begin(self._epochs.pop(0))
            return True
        app.ring.past = None
        for port in app.ports:
            port.session.on_time = segments.note_time
        self._announce(app.epoch, app.ring, app.streams, False)
        return False

    # For the files of the present epoch; returns False if there is none to make. May raise OSError.
    def make_room(self):
        files = self._backlog.segments
        if not files.firsts:
            files = self._next_files
        if not files or not files.firsts:
            files = self._find_files()
        if files:
            files.drop_oldest()
        return bool(files)

    def _find_files(self):
        for epoch in self._epochs:
            self._next_files = self._scan(epoch)[0]
            if self._next_files.firsts:
                return self._next_files
        return None

    def _scan(self, epoch):
        return borrow("scanning").scan(epoch, self._app.supervisor.feed)

    def _begin(self, epoch):
        files, known, end = self._scan(epoch)
        self._next_files = None
        ring = Ring(0)
        ring.first = end
        if known:
            safe, whole, mono_ms, utc_ms = known
            # Without a hole since then, what was before the first file can only have become safe;
            # but for what had to make room.
            if whole <= safe and files.firsts and not files.made_room():
                safe = max(safe, files.firsts[0])
            ring.safe = safe or None
            files.shift_ms = clock.now_ms() - mono_ms  # as if the power had come back at once
            self._known = (mono_ms, utc_ms) if utc_ms else None
            if not utc_ms:
                log.write(log.WARNING, "epoch %d: nobody knows how long the power was off" % epoch)
        self._backlog = Backlog(ring, files)
        self._announce(epoch, self._backlog, borrow("scanning").streams(epoch), True)

    def _announce(self, epoch, ring, streams, closed):
        announce = borrow("welcome").announce
        for port in self._app.ports:
            announce(port.session, epoch, ring, streams, closed)

    # For a session's on_time: now it can be told how old the records are.
    def on_time(self, utc_ms, now_ms):
        segments.note_time(utc_ms, now_ms)
        if self._known and utc_ms >= self._known[1]:
            age_ms = min(utc_ms - self._known[1], _OLDEST_MS)
            self._backlog.segments.shift_ms = now_ms - age_ms - self._known[0]
        self._known = None
