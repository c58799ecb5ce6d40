"""A board whose running slot has gone bad: after some crashes the other one takes over."""

import json
from pathlib import Path

import pytest

from gateway.simulate.slots import lay_out
from tests.firmware import bundles
from tests.firmware.board_process import Bench
from tests.firmware.bundles import Made
from tests.firmware.hosts import Host
from tests.firmware.model_gateway import HELLO, ModelGateway
from tests.firmware.updater import STATE

COUNTER = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 20}
CRASHES = 3

NOTE = """
import boot_sel, os
for folder in {slots}:
    os.mkdir(folder)
    with open(folder + "/manifest", "w") as file:
        file.write("of " + folder)
boot_sel.save({state})
for is_told in {told}:
    boot_sel.note_crash(ValueError("flux"), is_told)
say(boot_sel.load())
"""


def slotted(bench: Bench) -> Made:
    """Lay out slot a, and in b an older firmware that is whole."""
    made = bundles.made(bundles.sources())
    lay_out(bench.flash, made.manifest, made.files)
    older = bundles.altered("0.0.9", sensors__heap=bundles.text_of("sensors/heap.py") + "# old\n")
    for path, content in older.files.items():
        place = bench.flash / "b" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (bench.flash / "b" / "manifest").write_bytes(older.manifest)
    bench.configure(sensors=[COUNTER])
    return made


def damage(flash: Path, slot: str) -> None:
    """Leave what a half erased block would."""
    (flash / slot / "board" / "session.py").write_bytes(b"\xff" * 1000)


def test_when_the_running_slot_is_damaged_the_other_takes_over_and_says_so(bench: Bench) -> None:
    made = slotted(bench)
    damage(bench.flash, "a")
    gateway = ModelGateway()

    for _ in range(CRASHES):
        with bench.board(gateway=gateway) as board:
            assert board.exit_code() == 75
    with bench.board(gateway=gateway) as rescued:
        rescued.await_records(3)
        rescued.until(lambda: rescued.of_kind(STATE))
    with bench.board(gateway=gateway) as later:
        later.until(lambda: later.of_kind(HELLO))

    hello = rescued.of_kind(HELLO)[0].json
    assert (hello["slot"], hello["fw"]) == ("b", "0.0.9")
    assert hello["rb"].startswith("slot a crashed 3 times: ")
    assert "trial" not in hello
    (told,) = [frame.json for frame in rescued.of_kind(STATE)]
    assert told == {"s": "rolled_back", "mh": made.mh, "e": hello["rb"]}
    assert "rb" not in later.of_kind(HELLO)[0].json


def test_without_another_slot_it_is_tried_again_and_again(bench: Bench) -> None:
    slotted(bench)
    damage(bench.flash, "a")
    (bench.flash / "b" / "manifest").unlink()

    for _ in range(CRASHES + 1):
        with bench.board() as board:
            assert board.exit_code() == 75

    assert json.loads((bench.flash / "slots.json").read_text())["a"] == "a"
    assert (bench.flash / "crash.txt").read_text()


@pytest.mark.parametrize(
    ("slots", "state", "told", "after"),
    [
        ("ab", {"a": "a"}, [True, False], {"a": "a", "c": 2}),
        ("ab", {"a": "a"}, [True, False, False], {"a": "b", "c": None}),
        ("ab", {"a": "a"}, [True, False, True, False], {"a": "a", "c": 2}),
        ("ab", {"a": "b"}, [False] * 3, {"a": "a", "c": None}),
        ("ab", {"a": "a"}, [False] * 6, {"a": "a", "c": None}),
        ("a", {"a": "a"}, [False] * 5, {"a": "a", "c": 5}),
        ("ab", {"a": "a", "c": "many"}, [False], {"a": "a", "c": 1}),
        ("ab", {"a": "a", "t": "b"}, [False] * 5, {"a": "a", "t": "b", "c": None}),
        ("ab", {"a": "a", "t": "config"}, [False] * 5, {"a": "a", "t": "config", "c": None}),
        ("", {}, [False] * 5, {"a": None, "c": None}),
    ],
    ids=[
        "two are not enough",
        "three",
        "a gateway heard of it in between",
        "from b to a",
        "and back",
        "there is no other",
        "nonsense on the flash",
        "a trial counts its own tries",
        "of settings too",
        "no slots",
    ],
)
def test_crashes_are_counted_while_no_gateway_hears_of_them(
    host: Host, slots: str, state: dict[str, object], told: list[bool], after: dict[str, object]
) -> None:
    found = host.said(NOTE.format(slots=list(slots), state=state, told=told))

    assert {key: found.get(key) for key in after} == after
