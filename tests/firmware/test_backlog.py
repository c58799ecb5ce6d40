"""board/backlog.py, segments.py and scanning.py: what goes into files, and what is found there."""

import pytest

from tests.firmware.hosts import Host

WORLD = """\
import os, struct
from board import backlog, clock, log, scanning, segments
from board.ring import Ring

logged = []
log.attach(lambda level, text: logged.append(text))

def later(ms):
    clock.shift_ms = (clock.shift_ms + ms) & 0xFFFFFFFF

def record(seq, size=16):
    values = bytes([(seq + k) & 255 for k in range(size - 10)])
    return struct.pack("<BBII", size, 0, clock.now_ms(), seq) + values

def number(record):
    return struct.unpack_from("<I", record, 6)[0]

class App:
    def __init__(self, epoch=7, size=8192):
        self.epoch = epoch
        self.ring = Ring(size)
        self.streams = [("climate", "h", (("temperature", "C", -2, ""),))]
        self.ports = []

def make(epoch=7, size=8192, flash_bytes=524288):
    return scanning.make_backlog(App(epoch, size), flash_bytes)

def push(ring, count, size=16):
    for _ in range(count):
        ring.push(record(ring.next_seq(), size), size)

def content(ring):
    target = bytearray(300)
    records = []
    seq = ring.first
    while seq < ring.ready():
        size, count = ring.copy(seq, target, 0, 275)
        assert count, (seq, ring.ready())
        at = 0
        while at < size:
            records.append(bytes(target[at : at + target[at]]))
            at += target[at]
        seq += count
    return records

def files():
    return sorted(entry[0] for entry in os.ilistdir("q") if "." not in entry[0])
"""


def test_young_records_stay_in_memory(host: Host) -> None:
    assert (
        host.said(
            WORLD
            + """
ring = make()
push(ring, 200)
later(9000)
ring.tick()
say(files())
"""
        )
        == []
    )


def test_few_records_stay_in_memory_however_old(host: Host) -> None:
    assert (
        host.said(
            WORLD
            + """
ring = make()
push(ring, 79)  # 1,264 bytes
later(60000)
ring.tick()
say(files())
"""
        )
        == []
    )


def test_old_records_go_into_one_file_once_they_are_more_than_a_kilobyte(host: Host) -> None:
    names, size, numbers, count, lost = host.said(
        WORLD
        + """
ring = make()
push(ring, 80)
later(10000)
ring.tick()
ring.tick()
say([files(), os.stat("q/" + files()[0])[6], [number(r) for r in content(ring)], ring.count,
     ring.lost])
"""
    )

    assert names == ["0007000000000050"]
    assert size == 26 + 80 * 16 + 6 * 6, "a head, and groups of 15 records"
    assert numbers == list(range(80))
    assert (count, lost) == (80, 0)


def test_young_records_go_into_a_file_when_the_ring_is_three_quarters_full(host: Host) -> None:
    before, after, biggest = host.said(
        WORLD
        + """
ring = make()
push(ring, 384)  # 6,144 of 8,192 bytes
ring.tick()
before = files()
push(ring, 1)
ring.tick()
say([before, files(), os.stat("q/" + files()[0])[6]])
"""
    )

    assert before == []
    assert len(after) == 1
    assert 3800 < biggest <= 4096, "one erase block"


def test_nothing_is_lost_while_the_files_have_room(host: Host) -> None:
    numbers, lost, count = host.said(
        WORLD
        + """
ring = make()
for _ in range(40):
    push(ring, 100)
    ring.tick()
numbers = 0
target = bytearray(300)
while numbers < 4000:
    size, count = ring.copy(numbers, target, 0, 275)
    assert number(target) == numbers
    numbers += count
say([numbers, ring.lost, len(files())])
"""
    )

    assert numbers == 4000
    assert lost == 0
    assert count <= 4000 * 16 / 1024


def test_files_go_with_what_is_safe(host: Host) -> None:
    before, some, none, numbers = host.said(
        WORLD
        + """
ring = make()
for _ in range(10):
    push(ring, 100)
    ring.tick()
before = len(files())
ring.release(500)
some = files()
numbers = [number(r) for r in content(ring)]
ring.release(1000)
say([before, some, files(), [numbers[0], numbers[-1], len(numbers)]])
"""
    )

    first, count = int(some[0][4:12], 16), int(some[0][12:], 16)
    assert len(some) < before
    assert first <= 500 < first + count
    assert numbers == [first, 999, 1000 - first]
    assert none == []


def test_full_files_make_room_from_the_oldest_on_and_count_it(host: Host) -> None:
    first, last, lost, count = host.said(
        WORLD
        + """
ring = make(flash_bytes=16384)
for _ in range(40):
    push(ring, 100)
    ring.tick()
numbers = [number(r) for r in content(ring)]
assert numbers == list(range(numbers[0], 4000))
say([numbers[0], numbers[-1], ring.lost, len(files())])
"""
    )

    assert count <= 4
    assert last == 3999
    assert lost == first
    assert 4000 - first > 3 * 240, "three files of 4 KB; the fourth tells what is lost"


def test_what_made_room_last_is_told_by_an_empty_file_until_that_is_safe(host: Host) -> None:
    before, after, made_room = host.said(
        WORLD
        + """
def sizes():
    return [os.stat("q/" + name)[6] for name in files()]

ring = make(flash_bytes=16384)
for _ in range(40):
    push(ring, 100)
    ring.tick()
before = sizes()
made_room = scanning.scan(7)[0].made_room()
ring.release(ring.first)
say([before, sizes(), [made_room, scanning.scan(7)[0].made_room()]])
"""
    )

    assert before[0] == 0
    assert 0 not in before[1:]
    assert after == before[1:]
    assert made_room == [True, False]


def test_a_flash_that_fails_is_told_once_a_minute_and_the_ring_goes_on(host: Host) -> None:
    logged, numbers = host.said(
        WORLD
        + """
ring = make()
os.rmdir("q")
for _ in range(10):
    push(ring, 100)
    ring.tick()
    later(1000)
say([logged, [number(r) for r in content(ring)]])
"""
    )

    assert len(logged) == 1
    assert logged[0].startswith("nothing can be kept in flash: ")
    assert numbers == list(range(488, 1000)), "what 8,192 bytes hold"


def test_a_reset_goes_on_with_the_files_of_its_epoch(host: Host) -> None:
    """The RTC memory had the newest records; what was in neither is a hole, told by its end."""
    said = host.said(
        WORLD
        + """
ring = make()
for _ in range(3):
    push(ring, 128)
    later(10000)
    ring.tick()
push(ring, 200)

app = App()
app.ring.first = 500
app.ring.lost = 500  # as recovery.py counts it
push(app.ring, 84)
again = scanning.make_backlog(app, 524288)
first = [again.first, again.ready(), again.next_seq(), again.lost, app.ring.saved]
numbers = [number(r) for r in content(again)]
again.release(384)
say([first, [numbers[0], numbers[-1], len(numbers)], [again.first, again.ready(), files()]])
"""
    )

    assert said == [[0, 384, 584, 116, 384], [0, 383, 384], [500, 584, []]]


def test_what_was_acknowledged_before_a_reset_is_removed(host: Host) -> None:
    said = host.said(
        WORLD
        + """
ring = make()
push(ring, 128)
later(10000)
ring.tick()
app = App()
app.ring.safe = app.ring.first = 128
again = scanning.make_backlog(app, 524288)
say([files(), again.first, again.count])
"""
    )

    assert said == [[], 128, 0]


@pytest.mark.parametrize("kept_bytes", [0, 10, 25, 26, 31, 32, 100, 271, 272, 300, 1000])
def test_of_a_file_that_was_cut_short_the_rest_is_read(host: Host, kept_bytes: int) -> None:
    numbers, good, lost, end = host.said(
        WORLD
        + f"""
ring = make()
push(ring, 80)
later(10000)
ring.tick()
path = "q/" + files()[0]
with open(path, "rb") as file:
    whole = file.read()
with open(path, "wb") as file:
    file.write(whole[:{kept_bytes}])
found, known, end = scanning.scan(7)
again = backlog.Backlog(Ring(0), found)
again.ring.first = end
say([[number(r) for r in content(again)], found.goods, found.lost, end])
"""
    )

    groups = max(0, kept_bytes - 26) // 246  # 6 bytes lead in a group of 15 records
    assert numbers == list(range(15 * groups))
    assert good == ([15 * groups] if groups else [])
    assert (lost, end) == (80 - 15 * groups, 80)


def test_flipped_bits_in_a_file_never_become_records(host: Host) -> None:
    assert (
        host.said(
            WORLD
            + """
ring = make()
push(ring, 80)
later(10000)
ring.tick()
records = content(ring)
path = "q/" + files()[0]
with open(path, "rb") as file:
    whole = bytearray(file.read())
wrong = []
for bit in range(0, 8 * len(whole), 11):
    whole[bit >> 3] ^= 1 << (bit & 7)
    with open(path, "wb") as file:
        file.write(whole)
    whole[bit >> 3] ^= 1 << (bit & 7)
    found, _, end = scanning.scan(7)
    again = backlog.Backlog(Ring(0), found)
    again.ring.first = end
    seen = content(again)
    if seen != records[: len(seen)] or found.lost != 80 - len(seen):
        wrong.append(bit)
say(wrong)
"""
        )
        == []
    )


def test_a_file_that_fails_while_it_is_read_ends_there(host: Host) -> None:
    said = host.said(
        WORLD
        + """
ring = make(size=2048)
for _ in range(3):
    push(ring, 128)
    later(10000)
    ring.tick()
path = "q/" + files()[0]
with open(path, "rb") as file:
    whole = file.read()
with open(path, "wb") as file:
    file.write(whole[:600])
target = bytearray(300)
ring.copy(0, target, 0, 275)
taken = ring.copy(30, target, 0, 275)
numbers = [number(r) for r in content(ring)]
ring.release(30)
count = int(files()[1][4:12], 16)  # the next file begins where this one ended
say([list(taken), numbers == list(range(30)), ring.first == count, ring.ready(),
     ring.lost == count - 30])
"""
    )

    assert said == [[0, 0], True, True, 384, True]


def test_segments_follow_their_epoch_to_another_number(host: Host) -> None:
    said = host.said(
        WORLD
        + """
ring = make()
push(ring, 80)
later(10000)
ring.tick()
ring.rename(9)
names = sorted(entry[0] for entry in os.ilistdir("q"))
say([names, len(content(ring)), scanning.epochs(9), scanning.has(7)])
"""
    )

    assert said == [["0009.json", "0009000000000050"], 80, [], False]


def test_epochs_are_found_in_the_order_they_began(host: Host) -> None:
    assert host.said(
        WORLD
        + """
for epoch in (65534, 2, 65535, 0):
    ring = make(epoch)
    push(ring, 80)
    later(10000)
    ring.tick()
with open("q/readme.txt", "w"):
    pass
say(scanning.epochs(3))
"""
    ) == [65534, 65535, 0, 2]


def test_what_streams_mean_is_written_when_it_is_needed_and_when_it_changes(host: Host) -> None:
    said = host.said(
        WORLD
        + """
app = App()
ring = scanning.make_backlog(app, 524288)
push(ring, 80)
before = os.listdir("q")
later(10000)
ring.tick()
first = scanning.streams(7)
app.streams.append(None)
app.streams.append(("door", "B", (("open", "", 0, ""),)))
push(ring, 80)
later(10000)
ring.tick()
say([before, first, scanning.streams(7), scanning.streams(8)])
"""
    )

    climate = ["climate", "h", [["temperature", "C", -2, ""]]]
    assert said == [[], [climate], [climate, None, ["door", "B", [["open", "", 0, ""]]]], []]


def test_the_time_of_the_gateway_is_known_to_each_file_after_the_first_that_knew_it(
    host: Host,
) -> None:
    known = host.said(
        WORLD
        + """
ring = make()
segments.note_time(1790000000000, clock.now_ms())
push(ring, 80)
later(10000)
ring.tick()
segments._utc = None  # a reset
push(ring, 80)
later(20000)
ring.tick()
say(scanning.scan(7)[1])
"""
    )

    assert 0 <= known[3] - 1790000030000 < 5000
