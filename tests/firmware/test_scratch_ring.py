"""board/scratch.py: what an RP2's watchdog registers tell after a reset."""

import pytest

from tests.firmware.hosts import Host

MAKE = """\
from board.scratch import ScratchRing

def make():
    ring = ScratchRing(4096, 0x4005800C)
    return ring, ring.previous and list(ring.previous)

def push(ring, count):
    for _ in range(count):
        ring.push(bytes((8,)) + bytes(7), 8)
"""


@pytest.fixture
def rp2(host: Host) -> Host:
    host.fakes({"family": "rp2"})
    return host


def test_after_a_reset_a_new_epoch_knows_how_far_the_last_one_went(rp2: Host) -> None:
    first = rp2.said(
        MAKE
        + """
ring, previous = make()
ring.rename(7)
push(ring, 10)
ring.release(4)
push(ring, 2)
say(previous)
"""
    )
    again = rp2.said(MAKE + "ring, previous = make()\nsay([previous, ring.epoch, ring.count])")

    assert first is None
    assert again == [[7, 12, 4], None, 0]


def test_an_epoch_that_lost_nothing_is_not_told_of(rp2: Host) -> None:
    rp2.said(MAKE + "ring, _ = make()\nring.rename(7)\npush(ring, 3)\nring.release(3)\nsay(0)")

    assert rp2.said(MAKE + "say(make()[1])") is None


def test_an_epoch_that_was_not_begun_is_not_told_of(rp2: Host) -> None:
    rp2.said(MAKE + "ring, _ = make()\nring.rename(7)\npush(ring, 3)\nsay(0)")
    rp2.said(MAKE + "make()\nsay(0)")  # reset before rename

    assert rp2.said(MAKE + "say(make()[1])") is None


def test_without_power_the_registers_are_zero(rp2: Host) -> None:
    rp2.said(MAKE + "ring, _ = make()\nring.rename(7)\npush(ring, 3)\nsay(0)")
    (rp2.folder / "scratch.bin").unlink()

    assert rp2.said(MAKE + "say(make()[1])") is None


@pytest.mark.parametrize("written", range(12))
def test_a_reset_may_come_between_any_two_registers(rp2: Host, written: int) -> None:
    """Each write is whole or not; what is told is what was, before or after the step."""
    said = rp2.said(
        MAKE
        + f"""
from fakes import registers
from board import scratch
ring, _ = make()
ring.rename(7)
push(ring, 2)
left = [{written}]
class Cut(Exception):
    pass
class Registers:
    def __getitem__(self, at):
        return registers.mem32[at]
    def __setitem__(self, at, word):
        if not left[0]:
            raise Cut
        left[0] -= 1
        registers.mem32[at] = word
scratch.mem32 = Registers()
try:
    push(ring, 1)
    ring.release(1)
    push(ring, 1)
    ring.rename(8)
    push(ring, 1)
    ring.release(2)
    again, _ = make()
    again.rename(9)
except Cut:
    pass
scratch.mem32 = registers.mem32
say(make()[1])
"""
    )

    states = [(2, 0), (3, 0), (3, 1), (4, 1), None, (4, 1), (5, 1), (5, 2), None, None, None, None]
    expected = states[written]
    epoch = 7 if written < 4 else 8
    assert said == (expected and [epoch, *expected])
