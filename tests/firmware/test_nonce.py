"""board/nonce.py: with one key no number is used twice, whatever happens to the board."""

from tests.firmware.hosts import Host

LIVES = """
import os
import random
from board import nonce

SEED = 20261123
random.seed(SEED)

class PowerLoss(Exception):
    pass

cuts = []  # operations of the flash until the power goes; none: it stays
real_open, real_rename = open, os.rename

def count():
    if cuts:
        cuts[0] -= 1
        if cuts[0] == 0:
            raise PowerLoss

# The power may go before a file is there, while it is empty, and before it has its name.
def cut_open(path, mode="r"):
    if "w" not in mode:
        return real_open(path)
    count()
    file = real_open(path, mode)
    try:
        count()
    except PowerLoss:
        file.close()
        raise
    return file

class Os:
    @staticmethod
    def rename(old, new):
        count()
        real_rename(old, new)
        count()

nonce.open = cut_open
nonce.os = Os

class Used:
    count = 0
    first = last = -1
    rises = True

def use(number):
    Used.rises = Used.rises and number > Used.last
    if not Used.count:
        Used.first = number
    Used.last = number
    Used.count += 1

# One run of the program; returns the number of the next record.
def live(epoch, seq, goes_on, records):
    base, end = None, 0
    for seq in range(seq, seq + records):
        if base is None or base + seq >= end:
            base, end = nonce.reserve(base, seq, epoch, goes_on)
            assert base + seq < end
        use(base + seq)
    return seq + 1

def lives():
    epoch, seq = random.getrandbits(16), 0
    for _ in range(300):
        goes_on = seq > 0
        cuts[:] = [random.getrandbits(2)] if random.getrandbits(2) == 0 else []
        records = (1, 3, 50, 5000)[random.getrandbits(2)]
        try:
            after = live(epoch, seq + 1, goes_on, records)
        except PowerLoss:
            after = 0
        fate = random.getrandbits(2)
        if after == 0 or fate == 0:  # power loss: another epoch, and numbers from 0
            epoch, seq = (epoch + 1) & 0xFFFF, 0
        elif fate == 1:  # the gateway refuses the epoch
            epoch, seq = (epoch + 0x4001) & 0xFFFF, after - 1
        else:  # reset or sleep
            seq = after - 1
"""


def test_no_number_is_used_twice_and_all_grow(host: Host) -> None:
    script = f"""{LIVES}
lives()
say([SEED, Used.count, Used.rises, Used.last - Used.first])
"""
    seed, count, rises, span = host.said(script)

    assert rises, f"seed {seed}"
    assert count > 50_000
    assert span < 300 * 3 * 4096 + count  # at most so much is skipped


def test_a_board_whose_flash_was_erased_begins_somewhere_else(host: Host) -> None:
    script = """
import os
from board import nonce
begins = []
for _ in range(8):
    begins.append(nonce.reserve(None, 1, 7, False)[0])
    os.remove(nonce.PATH)
say(begins)
"""
    begins = host.said(script)

    assert len(set(begins)) == 8  # of 2**30
    assert all(0 <= begin < 2**30 for begin in begins)


def test_a_file_that_cannot_be_read_is_as_good_as_none(host: Host) -> None:
    script = """
from board import nonce
for text in ("", "{", "[]", "{}", '{"end": null}', '{"epoch": 7, "base": 5}'):
    with open(nonce.PATH, "w") as file:
        file.write(text)
    base, end = nonce.reserve(None, 3, 7, True)
    assert base + 3 < end < 1 << 31, (text, base, end)
say("taken")
"""
    assert host.said(script) == "taken"


def test_when_no_number_is_left_none_is_used(host: Host) -> None:
    script = """
import json
from board import nonce
with open(nonce.PATH, "w") as file:
    json.dump({"epoch": 7, "base": 0, "end": (1 << 32) - 100}, file)
kept = nonce.reserve(None, 5, 7, True)
try:
    nonce.reserve(None, 5, 8, False)
    say(["used again", kept])
except ValueError as error:
    say([str(error), kept])
"""
    told, kept = host.said(script)

    assert told == "adverts have used up ble_key: give the board another one"
    assert kept == [0, 2**32 - 100]


def test_numbers_are_not_used_before_they_are_written_down(host: Host) -> None:
    script = """
import os
from board import nonce
os.mkdir(nonce.PATH + ".new")  # as good as a flash that cannot be written
try:
    nonce.reserve(None, 1, 7, False)
    say("used")
except OSError:
    say("refused")
"""
    assert host.said(script) == "refused"
