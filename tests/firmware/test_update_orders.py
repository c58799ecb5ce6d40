"""Updates, settings, verdicts, crashes and changes of keys in any order, the power cut anywhere.

`test_update_power_cuts.py` cuts each of them alone, at each operation; here one is begun on what
the cuts of others have left, starts are cut, too, and the same firmware comes and goes.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.firmware.conftest import make_host
from tests.firmware.test_flash import FLASH
from tests.firmware.test_update_power_cuts import BOARD, WORLD
from tests.support.figures import Figures

SEED = 6
LIVES = 12
STEPS = 14

ORDERS = """
import random

sealed = borrow("sealed")
WHOLE = 1 << 20  # operations: the power does not go
Session.info = b'{"fw":"0.0.0"}'  # nothing is a downgrade
start = image()

# Switches the board on; returns the slot that runs and whether anything is on trial, or None if the
# power went meanwhile.
def boot(log):
    flash.left = random.choice((WHOLE, WHOLE, random.randrange(8)))
    chosen = []
    sys.path[:] = [each for each in sys.path if each != boot_sel.SETTINGS]
    if not do(lambda: chosen.append(boot_sel.select())):
        log.append("cut at the start")
        return None
    flash.left = WHOLE
    slot, on_trial = chosen[0]
    sys.path[0] = slot
    problems = []
    key = sealed.load(problems).key
    assert version_in(slot), "the slot that runs is not whole"
    assert settings_in(borrow("slots").settings_path()), "the settings are not whole"
    assert len(key) == 32 and not problems, "no key"
    log.append((slot, on_trial, version_in(slot)))
    return slot, on_trial

def act(what, slot, on_trial):
    board = Board(slot)
    if what == "firmware":
        board.bring(0, firmware(random.choice((1, 2, 3))))
    elif what == "settings":
        board.bring(1, settings(random.choice((1, 2))))
    elif what == "confirm" and on_trial:
        borrow("verdict").confirm(board)
    elif what == "fail" and on_trial:
        borrow("verdict").fail("it failed")
    elif what == "crash":
        boot_sel.note_crash(ValueError("no flux"), random.random() < 0.2)
    elif what == "rekey":
        sealed.rotate(sealed.load([]), bytes(16))
    elif what == "told" and boot_sel.load().get("rb"):
        borrow("verdict").tell_rollback(board)

ACTS = ("firmware", "settings", "confirm", "fail", "crash", "crash", "rekey", "told", "nothing")

def live(log):
    restore(start)
    for _ in range(STEPS):
        found = boot(log)
        if found:
            what = random.choice(ACTS)
            flash.left = random.choice((WHOLE, random.randrange(120)))
            log.append((what, flash.left))
            counts[what] = counts.get(what, 0) + 1
            do(lambda: act(what, *found))
        restore(image())
    # However it got there: it can be updated.
    flash.left = WHOLE
    for _ in range(boot_sel.TRIES + 1):
        slot, on_trial = boot_sel.select()
    assert not on_trial, "a trial without an end"
    sys.path[0] = slot
    new = 3 if version_in(slot) != 3 else 2
    kind, body = Board(slot).bring(0, firmware(new))
    assert kind == STATE, body
    assert boot_sel.select()[1], "it is not tried"
    assert version_in(boot_sel.load()["t"]) == new

counts = {}
wrong = []
for number in range(LIVES):
    random.seed(SEED * 1000 + number)
    log = []
    try:
        live(log)
    except Exception as error:
        wrong.append([number, repr(error), repr(log)])
        if len(wrong) == 3:
            break
    unmount()
say([counts, wrong])
"""


@pytest.mark.timeout(3600)
def test_whatever_comes_in_whichever_order_a_whole_slot_runs_and_can_be_updated(
    tmp_path: Path, request: pytest.FixtureRequest, figures: Figures, *, soak: bool
) -> None:
    seeds = range(SEED, SEED + (60 if soak else 1))
    host = make_host("micropython", request, tmp_path)
    host = replace(host, command=(*host.command, "-X", "heapsize=32M"))
    world = WORLD + FLASH.replace("BLOCKS", "110") + BOARD.replace("EVERY", "1")

    for seed in seeds:
        script = ORDERS
        for name, number in (("STEPS", STEPS), ("SEED", seed), ("LIVES", LIVES)):
            script = script.replace(name, str(number))
        counts, wrong = host.said(world + script)

        assert wrong == [], f"seed {seed}"
        assert min(counts.values()) > LIVES / 3, counts
    figures("lives of a board's flash, 14 steps each, cut at random", f"{len(seeds) * LIVES}")
