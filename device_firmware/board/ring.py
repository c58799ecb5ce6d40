# A ring of records in one bytearray: what the board measured and the gateway has not yet made safe.
# A record is `len u8 | stream u8 | mono_ms u32 | values`, exactly as in a READ frame, so a batch
# is copied, never encoded. Records are numbered one after the other from 0 for each epoch.
# Sans-IO; runs unchanged on MicroPython and CPython.


class Ring:
    def __init__(self, size_bytes):
        self.size = size_bytes
        self.buffer = bytearray(size_bytes)
        self.used = 0  # bytes
        self.count = 0  # records
        self.first = 0  # number of the oldest record
        self.start = 0  # where the oldest record begins in the buffer
        self.safe = None  # the gateway has made all records before this one safe
        self.lost = 0  # records dropped to make room, since boot
        self._end = 0  # where the next record goes

    # Number the next record will get.
    def next_seq(self):
        return self.first + self.count

    # Appends record[:n] (n == record[0]) and returns its number; drops the oldest to make room.
    def push(self, record, n):
        if n != record[0] or n > self.size:
            raise ValueError("bad record length")
        while self.size - self.used < n:
            self._drop_oldest()
            self.lost += 1
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

    # Where record seq begins in the buffer; the end of the data for the next one to come.
    def locate(self, seq):
        buffer = self.buffer
        size = self.size
        position = self.start
        for _ in range(seq - self.first):
            position = (position + buffer[position]) % size
        return position

    # Copies whole records from `position` on, at most `count` of them (no more than there are),
    # into target[offset:], as many as fit into `room` bytes. Returns (bytes, records).
    def copy(self, position, count, target, offset, room):
        buffer = self.buffer
        size = self.size
        if count > 255:
            count = 255
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
        return total, records

    def _drop_oldest(self):
        n = self.buffer[self.start]
        self.start = (self.start + n) % self.size
        self.used -= n
        self.count -= 1
        self.first += 1
