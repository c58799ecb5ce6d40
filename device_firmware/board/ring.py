# A ring of records in one bytearray: what the board measured and the gateway has not yet made safe.
# A record is `len u8 | stream u8 | mono_ms u32 | values`, exactly as in a READ frame, so a batch
# is copied, never encoded. Records are numbered one after the other from 0 for each epoch.
# Sans-IO; runs unchanged on MicroPython and CPython. It ends with the run of the program; rings of
# which more is kept (kept.py, scratch.py) have the same attributes and methods.


class Ring:
    epoch = None  # the epoch that goes on after a reset; None: a new one begins
    previous = None  # (epoch, next seq, acked) of the one before, if that is known
    saved = 0  # records before this one may be dropped: they are in files (backlog.py)

    def __init__(self, size_bytes):
        self.size = size_bytes
        self.buffer = bytearray(size_bytes)
        self.used = 0  # bytes
        self.count = 0  # records
        self.first = 0  # number of the oldest record
        self.start = 0  # where the oldest record begins in the buffer
        self.safe = None  # the gateway has made all records before this one safe
        self.lost = 0  # records dropped to make room, in this epoch
        self._end = 0  # where the next record goes
        self._mark = 0  # a record, and where it begins: the next copy mostly goes on from there
        self._position = 0

    # What it holds, and will, is of this epoch.
    def rename(self, epoch):
        pass

    # To be called every second or so.
    def tick(self):
        pass

    # Number the next record will get.
    def next_seq(self):
        return self.first + self.count

    ready = next_seq  # from the oldest up to this one, records can be copied

    # Appends record[:n] (n == record[0]) and returns its number; drops the oldest to make room.
    def push(self, record, n):
        if n != record[0] or n > self.size:
            raise ValueError("bad record length")
        while self.size - self.used < n:
            if self.first >= self.saved:
                self.lost += 1
            self._drop_oldest()
        if len(record) != n:
            record = memoryview(record)[:n]
        buffer = self.buffer
        end = self._end
        head = self.size - end
        if n <= head:
            buffer[end : end + n] = record
        else:
            record = memoryview(record)
            buffer[end:] = record[:head]
            buffer[: n - head] = record[head:]
        self._end = (end + n) % self.size
        self.used += n
        self.count += 1
        return self.first + self.count - 1

    # Drops the records before seq: they are safe.
    def release(self, seq):
        if self.safe is None or seq > self.safe:
            self.safe = seq
        while self.count and self.first < seq:
            self._drop_oldest()

    # Copies whole records from number `seq` on, which is there, into target[offset:], as many as
    # fit into `room` bytes. Returns (bytes, records).
    def copy(self, seq, target, offset, room):
        buffer = self.buffer
        size = self.size
        position = self._locate(seq)
        count = min(self.next_seq() - seq, 255)
        total = 0
        records = 0
        while records < count:
            n = buffer[(position + total) % size]
            if total + n > room:
                break
            total += n
            records += 1
        head = size - position
        view = memoryview(buffer)
        if total <= head:
            target[offset : offset + total] = view[position : position + total]
        else:
            target[offset : offset + head] = view[position:]
            target[offset + head : offset + total] = view[: total - head]
        self._mark = seq + records
        self._position = (position + total) % size
        return total, records

    # Where record seq begins in the buffer.
    def _locate(self, seq):
        buffer = self.buffer
        size = self.size
        at = self._mark
        position = self._position
        if not self.first <= at <= seq:
            at = self.first
            position = self.start
        while at < seq:
            position = (position + buffer[position]) % size
            at += 1
        return position

    def _drop_oldest(self):
        n = self.buffer[self.start]
        self.start = (self.start + n) % self.size
        self.used -= n
        self.count -= 1
        self.first += 1
