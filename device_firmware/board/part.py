# The file of an update that is being written: it has its name only once it is whole and right.

import os
from binascii import hexlify
from hashlib import sha256

from micropython import const

_OK = const(0)  # status of DATA_ACK
_NOT_WRITTEN = const(1)
_WRONG = const(2)


class Part:
    # path: while it is written; goal: its name afterwards; size and SHA-256 in hex as they must be
    def __init__(self, path, goal, size, digest):
        self._path = path
        self._goal = goal
        self._size = size
        self._digest = digest
        self._file = None
        self.begin()

    # From its start again.
    def begin(self):
        self.close()
        self.at = 0  # what comes next
        self.is_whole = False
        self._hash = sha256()

    # Takes what belongs here, and nothing else. Returns a status.
    def write(self, offset, piece):
        if offset != self.at or self.is_whole:
            return _OK
        try:
            if not self._file:
                self._file = open(self._path, "wb")
            self._file.write(piece)
            self._hash.update(piece)
            self.at += len(piece)
            return _OK if self.at < self._size else self._finish()
        except OSError:
            self.begin()
            return _NOT_WRITTEN

    def _finish(self):
        self._file.close()
        self._file = None
        if self.at != self._size or hexlify(self._hash.digest()).decode() != self._digest:
            self.begin()
            return _WRONG
        os.rename(self._path, self._goal)
        self.is_whole = True
        return _OK

    # What is only begun is not kept.
    def close(self):
        if self._file:
            try:
                self._file.close()
            except OSError:
                pass
        self._file = None
