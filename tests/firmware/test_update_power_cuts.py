"""Updates on littlefs whose power goes at any operation of the flash, and the boots after that.

The flash is a block device in memory; the update is the board's own, driven without its tasks.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.firmware.conftest import make_host
from tests.firmware.hosts import Host
from tests.firmware.test_flash import FLASH
from tests.support.figures import Figures

WORLD = """
import gc, os, struct, sys
from binascii import hexlify
from hashlib import sha256
import boot_sel
from board import placing, update
from board.parts import borrow

BEGIN, NEED, DATA, DATA_ACK, END, ABORT, STATE = range(0x40, 0x47)
"""

BOARD = """
def content(index, version):
    size = 300 + 900 * index
    if index < 2:  # unchanged
        version = 0
    return bytes((version * 37 + index + k) & 255 for k in range(size))

def manifest(files, head):
    lines = [head % len(files)]
    for path, data in files:
        lines.append("%s %d %s" % (path, len(data), hexlify(sha256(data).digest()).decode()))
    return ("\\n".join(lines) + "\\n").encode()

def firmware(version):
    files = [("board/m%d.mpy" % index, content(index, version)) for index in range(5)]
    head = '{"kind":"firmware","v":"0.%d.0","mpy":0,"n":%%d}' % version
    return manifest(files, head), files

def settings(version):
    files = [("config.json", b'{"name": "%s"}' % (b"v%d" % version * 200))]
    return manifest(files, '{"kind":"settings","v":"","mpy":0,"n":%d}'), files

class Session:
    keys = None
    info = b'{"fw":"0.1.0"}'
    def __init__(self):
        self.queue = []

# The part of the app that an update needs.
class Board:
    def __init__(self, slot):
        sys.path[0] = slot
        self.update = self.ending = None
        self.ports = self.sensors = []
        self.sent = []
        self.session = Session()
    def start(self, task):
        task.close()
    def ask(self, kind, body):
        session = self.session
        session.queue.clear()
        update.receive(self, session, kind, 1, body)
        while self.update and self.update._work:
            self.update._go_on()
        kind, mid, body = session.queue[-1]
        return kind, body
    def send(self, file, data):
        offset = 0
        while offset < len(data):
            piece = data[offset : offset + 160]
            kind, body = self.ask(DATA, struct.pack("<HI", file, offset) + piece)
            number, offset, status = struct.unpack("<HIB", body)
            if status:
                raise OSError(status)
        self.sent.append(file)
    # Does what a gateway does; returns what the board said last.
    def bring(self, is_settings, bundle):
        man, files = bundle
        head = struct.pack("<BBI", is_settings, 0, len(man)) + sha256(man).digest() + bytes(32)
        for _ in range(20):
            kind, body = self.ask(BEGIN, head)
            if kind != NEED:
                return kind, body
            if body[0] == 1:
                self.send(0xFFFF, man)
                continue
            for index, (path, data) in enumerate(files):
                if body[3 + index // 8] >> index % 8 & 1:
                    self.send(index, data)
            kind, body = self.ask(END, b"")
            if kind == STATE:
                return kind, body
        raise ValueError("no end")

# The version of what a slot has, if all of it is there and right; else None.
def version_in(slot):
    for version in (1, 2, 3):
        man, files = firmware(version)
        try:
            with open(slot + "/manifest", "rb") as file:
                if file.read() != man:
                    continue
            for path, data in files:
                with open(slot + "/" + path, "rb") as file:
                    if file.read() != data:
                        return None
            return version
        except OSError:
            return None

def settings_in(path):
    with open(path, "rb") as file:
        found = file.read()
    for version in (1, 2):
        if found == settings(version)[1][0][1]:
            return version

def write(path, data):
    with open(path, "wb") as file:
        file.write(data)

# Slot b has what ran before, and is whole, too.
for slot, version in (("a", 1), ("b", 3)):
    man, files = firmware(version)
    os.mkdir(slot)
    os.mkdir(slot + "/board")
    for path, data in files:
        write(slot + "/" + path, data)
    write(slot + "/manifest", man)
write("config.json", settings(1)[1][0][1])
write("device.key", bytes(32))
borrow("verdict").save({"a": "a", "t": None, "n": 0})
sys.path.insert(0, "a")

# Does something that the power may end; returns whether it was done.
def do(job):
    try:
        job()
        return not flash.is_dead
    except Exception:
        if not flash.is_dead:
            raise
        return False

def image():
    kept = bytes(flash.content)
    unmount()
    return kept

def restore(content):
    global flash
    gc.collect()
    flash = Flash(content)
    mount(flash)

# All points at which the power can go while job is done from this image on.
def cuts(start, job, check):
    restore(start)
    flash.left = 1 << 20
    job()
    operations = (1 << 20) - flash.left
    unmount()
    wrong = []
    for left in range(0, operations + 1, EVERY):
        restore(start)
        flash.left = left
        do(job)
        restore(image())
        try:
            check()
        except Exception as error:
            wrong.append([left, repr(error)])
        unmount()
    return [operations, wrong[:3]]
"""

FIRMWARE_CUTS = """
resumed = []

def once():
    Board("a").bring(0, firmware(2))

def after():
    slot, on_trial = boot_sel.select()
    assert version_in("b") or not boot_sel.exists("b/manifest")
    version = version_in(slot)
    assert version == (2 if on_trial else 1), (slot, on_trial, version)
    if on_trial:
        return
    board = Board(slot)
    kind, body = board.bring(0, firmware(2))
    assert kind == STATE and b"trial" in body, (kind, body)
    resumed.append(len([file for file in board.sent if file < 0xFFFE]))
    assert boot_sel.select() == ("b", True)
    assert version_in("b") == 2
    assert version_in("a") == 1

say(cuts(image(), once, after) + [min(resumed), max(resumed)])
"""

SETTINGS_CUTS = """
def once():
    Board("a").bring(1, settings(2))

def in_force():
    borrow_slots = borrow("slots")
    return settings_in(borrow_slots.settings_path())

def after():
    slot, on_trial = boot_sel.select()
    assert slot == "a"
    assert in_force() == (2 if on_trial else 1), on_trial
    assert settings_in("config.json") == 1
    if not on_trial:
        kind, body = Board(slot).bring(1, settings(2))
        assert kind == STATE and b"trial" in body, (kind, body)
        assert boot_sel.select() == ("a", True)
    assert in_force() == 2

say(cuts(image(), once, after))
"""

VERDICT_CUTS = """
def on_trial(is_settings, bundle):
    board = Board("a")
    board.bring(is_settings, bundle)
    return image()

start = image()
restore(start)
firmware_trial = on_trial(0, firmware(2))
restore(start)
settings_trial = on_trial(1, settings(2))

def confirm_firmware():
    slot, is_trial = boot_sel.select()
    borrow("verdict").confirm(Board(slot))

def after_firmware():
    slot, is_trial = boot_sel.select()
    assert version_in(slot) == (2 if slot == "b" else 1)
    if slot == "b" and is_trial:
        borrow("verdict").confirm(Board(slot))
        assert boot_sel.select() == ("b", False)

def confirm_settings():
    boot_sel.select()
    borrow("verdict").confirm(Board("a"))

def after_settings():
    slot, is_trial = boot_sel.select()
    sys.path[0] = slot
    path = borrow("slots").settings_path()
    assert slot == "a" and settings_in(path) == 2, (slot, path, is_trial)
    if is_trial:
        borrow("verdict").confirm(Board(slot))
        assert boot_sel.select() == ("a", False)
    assert settings_in("config.json") == 2

# Never confirmed: two tries, then back.
def give_up():
    for _ in range(3):
        boot_sel.select()

def after_giving_up():
    tries = 0
    while True:
        slot, is_trial = boot_sel.select()
        assert version_in(slot) == (2 if is_trial else 1)
        if not is_trial:
            break
        tries += 1
    assert tries <= 2, tries
    assert boot_sel.load()["rb"], boot_sel.load()

say([
    cuts(firmware_trial, confirm_firmware, after_firmware),
    cuts(settings_trial, confirm_settings, after_settings),
    cuts(firmware_trial, give_up, after_giving_up),
])
"""

REKEY_CUTS = """
sealed = borrow("sealed")
salt = bytes(range(16))
new = sealed.mac(bytes(32), b"rekey", salt)

def once():
    sealed.rotate(sealed.load([]), salt)

def after():
    problems = []
    assert sealed.load(problems).key in (bytes(32), new) and not problems

say(cuts(image(), once, after))
"""

FULL = """
# Leaves no block, and then so many.
def fill(left):
    os.mkdir("q")
    count = 0
    try:
        while True:
            write("q/%d" % count, bytes(4096))
            count += 1
    except OSError:
        pass
    for number in range(left):
        os.remove("q/%d" % number)

def clear():
    for name, *_ in list(os.ilistdir("q")):
        os.remove("q/" + name)

start = image()

def attempt(left):
    restore(start)
    fill(left)
    board = Board("a")
    try:
        kind, body = board.bring(0, firmware(2))
        said = body.decode() if kind == ABORT else kind
    except OSError as error:
        said = error.args[0]
        update.stop(board)
    assert boot_sel.select() == ("a", False) and version_in("a") == 1, (left, said)
    clear()
    kind, body = Board("a").bring(0, firmware(2))
    assert kind == STATE, body
    assert boot_sel.select() == ("b", True) and version_in("b") == 2
    unmount()
    return said

say([attempt(left) for left in (0, 1, 8)])
"""


ROOM = """
def firmware(version, size=4000):
    files = [("board/m%02d.mpy" % index, bytes([version]) * size) for index in range(20)]
    return manifest(files, '{"kind":"firmware","v":"0.%d.0","mpy":0,"n":%%d}' % version), files

# Both slots have all of it, and as much again does not fit.
unmount()
flash = Flash(None, 96)
vfs.VfsLfs2.mkfs(flash, progsize=32, readsize=32)
mount(flash)
for slot in ("a", "b"):
    man, files = firmware(1)
    os.mkdir(slot)
    os.mkdir(slot + "/board")
    for path, data in files:
        write(slot + "/" + path, data)
    write(slot + "/manifest", man)
borrow("verdict").save({"a": "a", "t": None, "n": 0})

slot = "a"
free = []
ends = []
for version in (2, 3):
    free.append(os.statvfs(".")[3])
    ends.append(Board(slot).bring(0, firmware(version))[0] == STATE)
    slot = boot_sel.select()[0]
    sys.path[0] = slot
    borrow("verdict").confirm(Board(slot))
kind, larger = Board(slot).bring(0, firmware(4, 4200))
say([free, ends, slot, larger.decode()])
"""


@pytest.fixture(params=["micropython", "micropython-i386"])
def micropython(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """Each MicroPython, with memory for some flashes; CPython has no littlefs."""
    made = make_host(request.param, request, tmp_path)
    return replace(made, command=(*made.command, "-X", "heapsize=16M"))


def script(part: str, every: int = 1) -> str:
    board = BOARD.replace("EVERY", str(every))
    return WORLD + FLASH.replace("BLOCKS", "64") + board + part


def test_an_update_is_cut_at_any_operation_and_the_board_always_has_a_slot_to_run(
    micropython: Host, figures: Figures, *, soak: bool
) -> None:
    """And the same update, begun again, always completes."""
    every = 1 if soak or micropython.name == "micropython" else 5  # the 32-bit one is slow

    operations, wrong, least, most = micropython.said(script(FIRMWARE_CUTS, every))

    figures(f"operations of the flash in an update, {micropython.name}", operations)
    assert operations > 60
    assert wrong == []
    assert least == 0, "what was whole is not sent again"
    assert most == 3, "what is unchanged is never sent"


def test_settings_are_cut_at_any_operation_and_are_the_old_or_the_new(micropython: Host) -> None:
    operations, wrong = micropython.said(script(SETTINGS_CUTS))

    assert operations > 10
    assert wrong == []


def test_a_verdict_is_cut_at_any_operation(micropython: Host) -> None:
    for operations, wrong in micropython.said(script(VERDICT_CUTS)):
        assert operations > 3
        assert wrong == []


def test_a_new_key_is_there_or_the_old_one_still(micropython: Host) -> None:
    operations, wrong = micropython.said(script(REKEY_CUTS))

    assert operations > 1
    assert wrong == []


def test_where_the_flash_is_full_an_update_is_refused_and_done_once_there_is_room(
    micropython: Host,
) -> None:
    """What runs is never touched."""
    nothing_free, *some_blocks = micropython.said(script(FULL))

    assert nothing_free == 1, "the manifest could not be written"
    assert all(end.startswith('{"e":"no room on the flash') for end in some_blocks)


def test_an_update_writes_over_the_slot_it_goes_to_and_needs_no_room_for_a_third(
    micropython: Host,
) -> None:
    """As on a Pico W, where two slots leave 80 KB of 848."""
    free_blocks, ends, slot, larger = micropython.said(script(ROOM))

    assert free_blocks[1] < 20 + 8, "each slot has 20 files of a block, and 8 blocks stay free"
    assert ends == [True, True]
    assert slot == "a"
    assert larger.startswith('{"e":"no room on the flash: '), "what grows needs more"
