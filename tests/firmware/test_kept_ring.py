"""board/kept.py and recovery.py: what a ring finds again after a reset, whenever that came.

The RTC memory here is a list of writes that can be cut anywhere: what a reset leaves of a write is
any mixture of old and new bytes, and the old or the new length.
"""

import pytest

from tests.firmware.hosts import Host

MEMORY = """\
import machine, random, struct
from board import clock, kept, recovery
from board.ring import Ring

class Memory:
    def __init__(self):
        self.content = bytearray(2048)
        self.length = 0
        self.writes = None  # when a list: content and length before, and what was written
    def __call__(self, data=None):
        if data is None:
            return bytes(self.content[: self.length])
        if len(data) > 2048:
            raise ValueError("buffer too long")
        if self.writes is not None:
            self.writes.append((bytes(self.content), self.length, bytes(data)))
        self.content[: len(data)] = data
        self.length = len(data)

# What a reset amid a write may have left: its first `cut` bytes, or each by chance.
def torn(write, cut, rng=None):
    old, length, new = write
    memory = Memory()
    memory.content[:] = old
    for at in range(len(new)):
        if at < cut if rng is None else rng.getrandbits(1):
            memory.content[at] = new[at]
    memory.length = length if rng is None or rng.getrandbits(1) else len(new)
    return memory

LAYOUT = 77

def begin(memory, size=8192, epoch=7):
    ring = make(memory, size)
    if ring.epoch is None:
        ring.rename(epoch)
    return ring

# As after a reset.
def make(memory, size=8192, layout=LAYOUT):
    class RTC:
        pass
    RTC.memory = memory
    machine.RTC = RTC
    return recovery.make(size, layout)

def record(seq, size=16):
    values = bytes(((seq + k) & 255 for k in range(size - 6)))
    return struct.pack("<BBI", size, 0, clock.now_ms()) + values

def content(ring):
    target = bytearray(300)
    records = []
    seq = ring.first
    while seq < ring.next_seq():
        size, count = ring.copy(seq, target, 0, 300)
        at = 0
        while at < size:
            records.append(bytes(target[at : at + target[at]]))
            at += target[at]
        seq += count
    return records
"""


def test_a_reset_keeps_epoch_numbers_records_and_clock(host: Host) -> None:
    said = host.said(
        MEMORY
        + """
memory = Memory()
clock.shift_ms = 5000
ring = begin(memory)
for seq in range(10):
    ring.push(record(seq), 16)
ring.release(4)
ring.tick()
kept_records = content(ring)
mono_ms = clock.now_ms()
clock.shift_ms = 0  # as after a boot
again = make(memory)
say([again.epoch, again.first, again.next_seq(), again.safe, again.lost, again.count,
     content(again) == kept_records, -5 < clock.now_ms() - mono_ms < 1000])
"""
    )

    assert said == [7, 4, 10, 4, 0, 6, True, True]


def test_what_did_not_fit_is_lost_from_the_oldest_on(host: Host) -> None:
    first, next_seq, lost, records, fits = host.said(
        MEMORY
        + """
memory = Memory()
ring = begin(memory)
records = [record(seq) for seq in range(400)]
for each in records:
    ring.push(each, 16)
again = make(memory)
say([again.first, again.next_seq(), again.lost, content(again) == records[again.first :],
     again.count])
"""
    )

    assert next_seq == 400
    assert records
    assert lost == first == 400 - fits
    assert 49 <= fits <= 98, "a block of 988 bytes holds 49 records of 16 bytes and their checks"


def test_memory_of_another_meaning_begins_an_epoch_and_tells_how_far_the_last_one_went(
    host: Host,
) -> None:
    said = host.said(
        MEMORY
        + """
memory = Memory()
ring = begin(memory)
for seq in range(10):
    ring.push(record(seq), 16)
ring.release(4)
ring.tick()
again = make(memory, layout=78)
first = [again.epoch, again.previous and list(again.previous), again.count, again.next_seq()]
again.rename(8)
third = make(memory, layout=78)
say([first, [third.epoch, list(third.previous), third.count]])
"""
    )

    assert said == [[None, [7, 10, 4], 0, 0], [8, [7, 10, 4], 0]]


def test_an_epoch_of_which_nothing_is_missing_is_not_told_of(host: Host) -> None:
    said = host.said(
        MEMORY
        + """
memory = Memory()
ring = begin(memory)
for seq in range(10):
    ring.push(record(seq), 16)
ring.release(10)
ring.tick()
again = make(memory, layout=78)
say([again.epoch, again.previous])
"""
    )

    assert said == [None, None]


@pytest.mark.parametrize(
    ("back_ms", "goes_on"), [(0, True), (500, True), (60_000, False), (2**31 - 5000, False)]
)
def test_a_clock_that_went_backwards_begins_an_epoch(
    host: Host, back_ms: int, goes_on: bool
) -> None:
    epoch, previous, has_not_gone_back = host.said(
        MEMORY
        + f"""
memory = Memory()
ring = begin(memory)
for seq in range(10):
    ring.push(record(seq), 16)
mono_ms = clock.now_ms()
clock.wall_shift_ms = -{back_ms}
again = make(memory)
say([again.epoch, again.previous, (clock.now_ms() - mono_ms) & 0xffffffff < 0x80000000])
"""
    )

    assert has_not_gone_back
    assert (epoch, previous) == ((7, None) if goes_on else (None, [7, 10, 0]))


def test_a_clock_that_was_set_while_the_board_ran_goes_on(host: Host) -> None:
    said = host.said(
        MEMORY
        + """
memory = Memory()
ring = begin(memory)
ring.push(record(0), 16)
clock.wall_shift_ms = -3600000
ring.tick()
mono_ms = clock.now_ms()
again = make(memory)
say([again.epoch, -5 < clock.now_ms() - mono_ms < 1000])
"""
    )

    assert said == [7, True]


def test_numbers_near_their_end_are_not_gone_on_with(host: Host) -> None:
    said = host.said(
        MEMORY
        + """
memory = Memory()
ring = begin(memory)
ring.first = 0xFFFF0000
ring.push(record(0), 16)
again = make(memory)
say([again.epoch, list(again.previous)])
"""
    )

    assert said == [None, [7, 0xFFFF0001, 0]]


@pytest.mark.parametrize("junk", ["b''", "b'hello'", "bytes(2048)", "bytes(range(256)) * 8"])
def test_memory_that_somebody_else_wrote_is_nobodys(host: Host, junk: str) -> None:
    said = host.said(
        MEMORY
        + f"""
memory = Memory()
memory({junk})
ring = make(memory)
say([ring.epoch, ring.previous, ring.count, ring.next_seq()])
"""
    )

    assert said == [None, None, 0, 0]


def test_flipped_bits_are_never_taken_for_records(host: Host) -> None:
    assert (
        host.said(
            MEMORY
            + """
memory = Memory()
ring = begin(memory)
records = [record(seq) for seq in range(30)]
for each in records:
    ring.push(each, 16)
ring.release(3)
wrong = []
for bit in range(0, 8 * memory.length, 5):
    memory.content[bit >> 3] ^= 1 << (bit & 7)
    again = make(Memory())
    damaged = Memory()
    damaged.content[:] = memory.content
    damaged.length = memory.length
    again = make(damaged)
    if content(again) != records[again.first : again.next_seq()] and again.epoch is not None:
        wrong.append(bit)
    memory.content[bit >> 3] ^= 1 << (bit & 7)
say(wrong)
"""
        )
        == []
    )


def test_a_port_without_such_memory_has_a_plain_ring(host: Host) -> None:
    host.fakes({"family": "rp2"})

    assert host.said("from board import recovery\nsay(recovery.make(8192, 1))") is None


def test_a_smaller_memory_is_not_used(host: Host) -> None:
    assert (
        host.said(
            MEMORY
            + """
class Small(Memory):
    def __call__(self, data=None):
        if data is not None and len(data) > 512:
            raise ValueError("buffer too long")
        return Memory.__call__(self, data)
say(make(Small()))
"""
        )
        is None
    )


# What a board does at random, and after each step a reset in the middle of each write of it.
STEPS = """
rng = random
rng.seed(SEED)
memory = Memory()
ring = begin(memory, 4096)
model = []     # all records of the epoch
safe = 0
safe_told = 0  # by the last state
wrong = []

def check(torn, before, after, where):
    again = make(torn, 4096)
    next_before, safe_before = before
    next_after, safe_after = after
    if again.epoch != 7:
        wrong.append([where, "epoch", again.epoch])
    elif again.next_seq() not in (next_before, next_after):
        wrong.append([where, "next", again.next_seq(), before, after])
    elif (again.safe or 0) not in (safe_told, safe_after):
        wrong.append([where, "safe", again.safe, before, after])
    elif content(again) != model[again.first : again.next_seq()]:
        wrong.append([where, "records", again.first, again.next_seq()])
    elif again.first < (again.safe or 0):
        wrong.append([where, "first", again.first, again.safe])
    else:
        kept = again.next_seq() - again.first
        unsafe = again.next_seq() - (again.safe or 0)
        block = 988 - 8 - 60  # a record of up to 60 bytes may be the one too many
        newest = 0
        room = 0
        while newest < unsafe and room + len(model[-1 - newest]) + 4 <= block:
            room += len(model[-1 - newest]) + 4
            newest += 1
        if kept < newest - 1:
            wrong.append([where, "few", kept, newest])

for step in range(STEPS):
    before = len(model), safe
    memory.writes = []
    chance = rng.getrandbits(4)
    if chance < 12 or len(model) == safe:
        each = record(len(model), 7 + rng.getrandbits(8) % 54)
        model.append(each)
        ring.push(each, len(each))
    elif chance < 15:
        safe = min(len(model), safe + 1 + rng.getrandbits(5))
        ring.release(safe)
    else:
        ring.tick()
    after = len(model), safe
    whole = Memory()
    whole.content[:] = memory.content
    whole.length = memory.length
    check(whole, after, after, ["whole", step])
    for write in memory.writes:
        for cut in CUTS(len(write[2])):
            check(torn(write, cut), before, after, [step, cut])
        for _ in range(2):
            check(torn(write, 0, rng), before, after, [step, "mixed"])
    safe_told = make(whole, 4096).safe or 0
    if wrong:
        break
say(wrong[:3])
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_reset_may_come_between_any_two_bytes(host: Host, seed: int, soak: bool) -> None:
    """Each write is cut at a few bytes; at each 13th with SOAK, at each 53rd without."""
    few = host.name != "cpython"
    cuts = "(0, n // 3, n - 1)" if few else f"range(0, n + 1, {13 if soak else 53})"
    steps = 120 if few else 150
    settings = f"SEED, STEPS = {seed}, {steps}\ndef CUTS(n):\n    return {cuts}\n"

    assert host.said(MEMORY + settings + STEPS) == []
