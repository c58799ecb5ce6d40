# What a ring finds in the RTC memory after a reset; kept.py says how it came there.

from binascii import crc32
from struct import unpack_from

from board import clock
from board.kept import KeptRing
from board.ring import Ring
from micropython import const

_BYTES = const(2048)  # of the memory
_STATE = const(36)
_STATES = const(72)
_FORM = const("<HHHHIIIIIII")
_HEAD = const(8)  # of a block
_RECORD = const(6)  # least bytes of one
_BACK_MS = const(2000)  # the real-time clock may be so wrong after a reset
_LAST_SEQ = const(0xFFFF0000)  # app.py: a new epoch begins before the numbers end
_MASK = const(0xFFFFFFFF)


# A ring with what the memory kept; None if there is no such memory.
def make(size_bytes, layout):
    try:
        from machine import RTC

        memory = RTC().memory
        found = memory()
    except (ImportError, AttributeError):
        return None
    ring = KeptRing(size_bytes, _BYTES, memory, layout)
    if not recover(ring, found):
        for at in range(len(ring.image)):
            ring.image[at] = 0
    try:
        memory(ring.image)  # whatever a reset leaves of that, it is what was there, or nothing
    except ValueError:  # the memory is smaller
        return None
    return ring


# Puts what it finds into the ring, if the epoch can go on; if not, the ring knows how far it went.
def recover(ring, found):
    size = min(len(found), len(ring.image))
    ring.image[:size] = memoryview(found)[:size]
    state = _state(ring)
    if state is None:
        return False
    counter, epoch, lost, before, safe, mono_ms, offset_ms, layout, next_before, safe_before = state
    if next_before > safe_before:
        ring.previous = before, next_before, safe_before
    blocks = _blocks(ring)
    next_seq = safe
    if blocks and blocks[-1][1] > safe:
        next_seq = blocks[-1][1]
        mono_ms = blocks[-1][5]
    now_ms = (clock.wall_ms() + offset_ms) & _MASK
    if (mono_ms - now_ms) & _MASK < _BACK_MS:
        now_ms = mono_ms
    has_gone_back = (now_ms - mono_ms) & _MASK > _MASK >> 1
    if has_gone_back or layout != ring.layout or next_seq > _LAST_SEQ:
        if next_seq:
            ring.previous = (epoch, next_seq, safe) if next_seq > safe else None
        return False
    ring.counter = counter
    ring.epoch = epoch
    ring.safe = safe or None
    ring.first = ring.turn = next_seq
    if next_seq > safe:
        _take(ring, blocks, safe)
    ring.lost += lost + ring.first - safe
    clock.resume(now_ms)
    return True


# The later of the two states that is whole.
def _state(ring):
    state = None
    for at in (0, _STATE):
        *fields, check = unpack_from(_FORM, ring.image, at)
        is_later = state is None or (fields[0] - state[0]) & 0xFFFF < 0x8000
        if is_later and crc32(ring.image[at : at + _STATE - 4]) == check:
            state = fields
    return state


# The newer block, and before it the older one if that ends where the newer begins.
def _blocks(ring):
    half = (len(ring.image) - _STATES) // 2
    blocks = []
    for start in (_STATES + _HEAD, _STATES + _HEAD + half):
        block = _block(ring, start, start - _HEAD + half)
        if block:
            blocks.append(block)
    blocks.sort()
    if len(blocks) > 1 and blocks[0][1] != blocks[1][0]:
        blocks.pop(0)
    return blocks


# The number of its first record and that after its last, where these are and the check stands, the
# time of the last one; None if it is no block.
def _block(ring, start, limit):
    image = ring.image
    first, check = unpack_from("<II", image, start - _HEAD)
    if crc32(ring.image[start - _HEAD : start - 4]) != check:
        return None
    seq = first
    place = start
    mono_ms = 0
    while place + _RECORD + 4 <= limit:
        end = place + image[place]
        if end < place + _RECORD or end + 4 > limit:
            break
        found = unpack_from("<I", image, end)[0]
        if crc32(ring.image[place:end], check) != found:
            break
        check = found
        mono_ms = unpack_from("<I", image, place + 2)[0]
        seq += 1
        place = end + 4
    return first, seq, start, place, check, mono_ms


# Goes on in the newer block, with all records that are not safe.
def _take(ring, blocks, safe):
    ring.turn, ring.kept, ring.block, ring.end, ring.check, _ = blocks[-1]
    ring.limit = ring.block - _HEAD + (len(ring.image) - _STATES) // 2
    if blocks[0][2] > ring.block and safe < ring.turn:
        ring.top = len(ring.image)
    ring.first = max(safe, blocks[0][0])
    for block in blocks:
        place = block[2]
        for seq in range(block[0], block[1]):
            n = ring.image[place]
            if seq >= safe:
                Ring.push(ring, ring.image[place : place + n], n)
            place += n + 4
