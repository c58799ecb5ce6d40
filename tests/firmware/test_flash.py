"""Segments on littlefs, a board's file system: what they wear, and power cuts at any operation.

The flash is a block device in memory that counts, and can lose its power after any operation.
"""

from pathlib import Path

import pytest

from tests.firmware.conftest import make_host
from tests.firmware.hosts import Host
from tests.firmware.test_backlog import WORLD

FLASH = """\
import gc, vfs

class Flash:
    def __init__(self, content=None, blocks=BLOCKS):
        self.content = bytearray(content or blocks * 4096)
        self.view = memoryview(self.content)
        self.erased = 0
        self.left = -1  # operations until the power goes; negative: it stays
        self.is_dead = False
    # What it calls must not allocate: it is called while garbage is collected, too.
    def dies(self):
        if not self.left:
            self.is_dead = True
        elif self.left > 0:
            self.left -= 1
        return self.is_dead
    def readblocks(self, block, buffer, offset=0):
        at = block * 4096 + offset
        buffer[:] = self.view[at : at + len(buffer)]
    def writeblocks(self, block, buffer, offset=0):
        if self.dies():
            return -5
        at = block * 4096 + offset
        self.view[at : at + len(buffer)] = buffer
    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.content) // 4096
        if operation == 5:
            return 4096
        if operation == 6:
            if self.dies():
                return -5
            self.erased += 1
            self.view[argument * 4096 : (argument + 1) * 4096] = BLANK
        return 0

BLANK = bytes([255]) * 4096

def mount(flash):
    vfs.mount(vfs.VfsLfs2(flash, progsize=32, readsize=32), "/flash")
    os.chdir("/flash")

def unmount():
    os.chdir("/")
    vfs.umount("/flash")

flash = Flash()
vfs.VfsLfs2.mkfs(flash, progsize=32, readsize=32)
mount(flash)
"""


@pytest.fixture(params=["micropython", "micropython-i386"])
def micropython(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """Each MicroPython; CPython has no littlefs."""
    return make_host(request.param, request, tmp_path)


@pytest.mark.parametrize(
    ("rule", "push"),
    [
        ("old records, the least files", "push(ring, 80); later(10000)"),
        ("a full ring, files of 4 KB", "push(ring, 100)"),
    ],
)
@pytest.mark.parametrize("safe_lag", [500, 100_000])
def test_a_kilobyte_of_records_erases_one_block_at_most(
    micropython: Host, rule: str, push: str, safe_lag: int
) -> None:
    """Also what is erased for names and deletions counts."""
    kilobytes, erased = micropython.said(
        WORLD
        + FLASH.replace("BLOCKS", "110")
        + f"""
ring = make(flash_bytes=80 * 4096)
flash.erased = 0
for _ in range(120):
    {push}
    ring.tick()
    ring.release(ring.next_seq() - {safe_lag})
say([ring.ring.saved * 16 / 1024, flash.erased])
"""
    )

    assert kilobytes > 60
    assert erased <= kilobytes, f"{rule}: {erased / kilobytes:.3f} blocks a KB"


CUTS = """
def life(ring, steps):
    for step in steps:
        if flash.is_dead:
            break
        step(ring)
        ring.tick()

def more(ring):
    push(ring, 100)
STEPS = (more, more, more, lambda ring: ring.release(310), more, more, more, more,
         lambda ring: later(10000))
ring = make()
push(ring, 400)
ring.tick()
start = bytes(flash.content)
written = ring.ring.saved
flash.left = 1 << 20
life(ring, STEPS)
operations = (1 << 20) - flash.left
unmount()

wrong = []
for left in range(FIRST, operations + 1, EVERY):
    flash = Flash(start)
    mount(flash)
    app = App()
    push(app.ring, 400)
    ring = scanning.make_backlog(app, 524288)
    assert ring.ring.saved == written
    flash.left = left
    life(ring, STEPS)
    saved = ring.ring.saved  # as far as the board knew
    safe = ring.safe or 0
    unmount()
    flash = Flash(flash.content)
    mount(flash)
    found, known, end = scanning.scan(7)
    again = backlog.Backlog(Ring(0), found)
    again.ring.first = end
    at = again.first
    if at > safe:
        wrong.append([left, "the oldest are gone", at, safe])
    target = bytearray(300)
    while at < again.ready():
        size, count = again.copy(at, target, 0, 275)
        position = 0
        for k in range(count):
            if number(memoryview(target)[position:]) != at + k:
                wrong.append([left, "not its number", at + k])
            position += target[position]
        at += count
    if at < saved:
        wrong.append([left, "less than was saved", at, saved])
    if end < at:
        wrong.append([left, "the end", end, at])
    unmount()
    gc.collect()
say([operations, wrong[:5]])
"""


def test_a_power_cut_at_any_operation_of_the_flash_loses_only_what_was_being_written(
    micropython: Host,
) -> None:
    script = CUTS.replace("FIRST", "0").replace("EVERY", "3")

    operations, wrong = micropython.said(WORLD + FLASH.replace("BLOCKS", "40") + script)

    assert operations > 100
    assert wrong == []
