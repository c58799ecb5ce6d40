import random
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.ledger import MAX_BOOTS, MAX_ENTRIES, Entry, Ledger
from tests.support.effort import examples

BLOCK = 128
"""Size of the header and of each slot, from the issue's plan."""

KEYS = [(f"board_{number}", boot) for number in range(3) for boot in range(1, MAX_BOOTS + 1)]
NUMBERS = st.integers(0, 2**64 - 1)
ENTRIES = st.builds(
    lambda key, numbers: Entry(*key, *numbers),
    st.sampled_from(KEYS),
    st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
)


@contextmanager
def ledger_of(path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(path)) as ledger:
        yield ledger


def entry(number: int, boot: int = 1) -> Entry:
    """Return an entry whose numbers tell which one it is, and of which nothing is stored."""
    return Entry(f"board_{number:05}", boot, number + 1, number + 2, number + 3, number + 3)


def entries_at(path: Path) -> set[Entry]:
    with ledger_of(path) as ledger:
        return set(ledger.entries())


def block_of(image: bytes, device: str) -> int:
    """Return which block of the file speaks of a device."""
    assert image.count(device.encode()) == 1
    return image.index(device.encode()) // BLOCK


def slots_written(path: Path, count: int) -> bytes:
    """Make a ledger of so many devices; return its bytes."""
    with ledger_of(path) as ledger:
        ledger.put(entry(number) for number in range(count))
    return path.read_bytes()


def test_a_new_ledger_holds_nothing(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "state" / "ledger") as ledger:
        assert list(ledger.entries()) == []
        assert ledger.damaged == 0


def test_what_was_put_is_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    first = Entry("shed", 7, 1, 2, 3, 4, 5)
    longest = Entry("x" * 64, 2**64 - 1, 2**64 - 1, 0, 5, 5, 2**64 - 1)

    with ledger_of(path) as ledger:
        ledger.put([first, longest])
        ledger.put([first._replace(safe_next=9)])
        ledger.sync()

    assert entries_at(path) == {first._replace(safe_next=9), longest}
    with ledger_of(path) as ledger:
        assert ledger.get("shed", 7) == first._replace(safe_next=9)
        assert ledger.get("shed", 8) is None


def test_what_was_dropped_is_not_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    with ledger_of(path) as ledger:
        ledger.put(entry(number) for number in range(5))
        ledger.drop([("board_00001", 1), ("board_00003", 1), ("never", 1)])

    assert entries_at(path) == {entry(0), entry(2), entry(4)}


def test_entries_come_in_the_order_they_were_put_last(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    changed = entry(0)._replace(safe_next=99)

    with ledger_of(path) as ledger:
        ledger.put([entry(0), entry(1), entry(2), changed])
        assert list(ledger.entries()) == [entry(1), entry(2), changed]

    with ledger_of(path) as ledger:
        assert list(ledger.entries()) == [entry(1), entry(2), changed]


@settings(max_examples=examples(150), deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.one_of(
            st.lists(ENTRIES, max_size=4),
            st.sets(st.sampled_from(KEYS), max_size=4),
            st.just("open again"),
        ),
        max_size=25,
    )
)
def test_a_ledger_is_a_dict_that_survives(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[Entry] | set[tuple[str, int]] | str]
) -> None:
    path = tmp_path_factory.mktemp("model") / "ledger"
    model: dict[tuple[str, int], Entry] = {}
    ledger = Ledger.open(path)
    try:
        for step in steps:
            if isinstance(step, str):
                ledger.close()
                ledger = Ledger.open(path)
            elif isinstance(step, set):
                ledger.drop(step)
                model = {key: value for key, value in model.items() if key not in step}
            else:
                ledger.put(step)
                model |= {(put.device, put.boot): put for put in step}
            assert sorted(ledger.entries()) == sorted(model.values())
    finally:
        ledger.close()

    assert entries_at(path) == set(model.values())


def test_cut_anywhere_a_ledger_keeps_every_whole_slot(tmp_path: Path) -> None:
    image = slots_written(tmp_path / "whole", 12)
    cut_path = tmp_path / "cut"
    used = 13 * BLOCK

    for cut in [*range(0, used + 16, 16), len(image) - 1, len(image)]:
        cut_path.write_bytes(image[:cut])
        expected = {
            entry(number)
            for number in range(12)
            if (block_of(image, f"board_{number:05}") + 1) * BLOCK <= cut
        }
        with ledger_of(cut_path) as ledger:
            assert set(ledger.entries()) == expected, f"cut at {cut}"
            ledger.put([entry(77)])
        assert entries_at(cut_path) == expected | {entry(77)}, f"cut at {cut}"
        cut_path.with_name("cut.damaged").unlink(missing_ok=True)


def test_a_flipped_bit_costs_its_slot_only(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = slots_written(path, 6)
    blocks = {number: block_of(whole, f"board_{number:05}") for number in range(6)}
    for seed in range(200):
        rng = random.Random(seed)
        image = bytearray(whole)
        at = rng.randrange(7 * BLOCK)
        image[at] ^= 1 << rng.randrange(8)
        path.write_bytes(image)

        with ledger_of(path) as ledger:
            kept, damaged = set(ledger.entries()), ledger.damaged

        rest = {entry(number) for number, block in blocks.items() if block != at // BLOCK}
        is_in_unused_part_of_header = 20 <= at < BLOCK
        assert kept == rest, f"seed {seed}: bit at {at}"
        assert damaged == (0 if is_in_unused_part_of_header else 1), f"seed {seed}"
        with ledger_of(path) as ledger:
            assert set(ledger.entries()) == kept, f"seed {seed}"
            assert ledger.damaged == 0, f"seed {seed}: it was mended"


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(st.binary(max_size=700))
def test_any_bytes_can_be_opened(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "ledger"
    path.write_bytes(noise)

    with ledger_of(path) as ledger:
        assert list(ledger.entries()) == []
        ledger.put([entry(1)])

    assert entries_at(path) == {entry(1)}


def test_a_file_in_which_nothing_is_right_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    noise = random.Random(1).randbytes(4000)
    path.write_bytes(noise)

    with ledger_of(path) as ledger:
        assert ledger.damaged == 1

    assert (tmp_path / "ledger.damaged").read_bytes() == noise


def test_a_file_of_another_version_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    image = bytearray(slots_written(path, 3))
    image[8:12] = struct.pack("<I", 2)
    image[16:20] = struct.pack("<I", zlib.crc32(image[:16]))
    path.write_bytes(image)

    assert entries_at(path) == set()
    assert (tmp_path / "ledger.version-2").read_bytes() == image


def test_of_two_slots_for_the_same_boot_the_one_written_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with ledger_of(path) as ledger:
        ledger.put([entry(0)])
        old = path.read_bytes()[BLOCK : 2 * BLOCK]
        ledger.drop([("board_00000", 1)])
        ledger.put([entry(1), entry(0)._replace(safe_next=50)])
    image = bytearray(path.read_bytes())
    free = 5 * BLOCK  # as if a power cut had kept the slot that was dropped
    image[free : free + BLOCK] = old
    path.write_bytes(image)

    for _ in range(2):
        assert entries_at(path) == {entry(1), entry(0)._replace(safe_next=50)}
    assert path.read_bytes()[free : free + BLOCK] == bytes(BLOCK)


def test_a_kill_between_two_writes_of_a_put_leaves_what_was_written(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger", tmp_path / "copy"
    before = {entry(9, boot) for boot in range(1, MAX_BOOTS + 1)}

    def killed_after_each(count: int) -> Iterator[Entry]:
        for number in range(count):
            shutil.copy(path, copy)
            expected = {entry(done) for done in range(number)}
            assert entries_at(copy) == before | expected
            yield entry(number)

    with ledger_of(path) as ledger:
        ledger.put(before)
        ledger.put(killed_after_each(8))


def test_a_new_boot_takes_the_slot_of_the_settled_one_put_least_recently(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    waiting = Entry("shed", 1, 1, 1, 5, 0)
    with ledger_of(path) as ledger:
        ledger.put([waiting, *(entry(0, boot)._replace(device="shed") for boot in (2, 3, 4))])
        ledger.put([entry(0, 2)._replace(device="shed")])  # 3 is now the oldest
        size = path.stat().st_size

        ledger.put([entry(0, 5)._replace(device="shed"), entry(1)])

        assert [kept.boot for kept in ledger.entries()] == [1, 4, 2, 5, 1]
        assert path.stat().st_size == size
    assert {kept.boot for kept in entries_at(path) if kept.device == "shed"} == {1, 2, 4, 5}


def test_boots_with_stored_samples_stay_until_these_are_delivered(tmp_path: Path) -> None:
    waiting = [Entry("shed", boot, 0, 0, 10, 0) for boot in range(1, 8)]
    with ledger_of(tmp_path / "ledger") as ledger:
        ledger.put(waiting)
        assert list(ledger.entries()) == waiting

        for now in waiting:
            ledger.put([now._replace(settled_next=10)])

        assert [kept.boot for kept in ledger.entries()] == [4, 5, 6, 7]
    assert {kept.boot for kept in entries_at(tmp_path / "ledger")} == {4, 5, 6, 7}


def test_a_boot_that_begins_while_others_wait_for_delivery_is_kept(tmp_path: Path) -> None:
    waiting = [Entry("shed", boot, 0, 0, 10, 0) for boot in range(1, MAX_BOOTS + 3)]
    begun = Entry("shed", 99, 0, 0, 0, 0)
    with ledger_of(tmp_path / "ledger") as ledger:
        ledger.put([*waiting, begun])

        assert list(ledger.entries()) == [*waiting, begun]


def test_a_full_ledger_forgets_settled_entries_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    waiting = Entry("first_of_all", 1, 0, 0, 10, 0)
    with ledger_of(path) as ledger:
        ledger.put([waiting])
        ledger.put(entry(number) for number in range(MAX_ENTRIES - 1))
        ledger.put([entry(0)])  # 1 is now the oldest settled one
        size = path.stat().st_size

        ledger.put([entry(MAX_ENTRIES), entry(MAX_ENTRIES + 1)])

        kept = set(ledger.entries())
        assert len(kept) == len(ledger) == MAX_ENTRIES
        assert {waiting, entry(0), entry(MAX_ENTRIES), entry(MAX_ENTRIES + 1)} <= kept
        assert not {entry(1), entry(2)} & kept
        assert ledger.displaced == 0
        assert path.stat().st_size == size == (MAX_ENTRIES + 1) * BLOCK
    assert entries_at(path) == kept


def test_a_full_ledger_without_settled_entries_stays_bounded_and_says_so(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "ledger") as ledger:
        ledger.put(entry(number)._replace(settled_next=0) for number in range(MAX_ENTRIES + 3))

        assert len(ledger) == MAX_ENTRIES
        assert ledger.entries()[0] == entry(3)._replace(settled_next=0)
        assert ledger.displaced == 3


def test_room_on_the_disk_is_taken_before_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with ledger_of(path) as ledger:
        before = path.stat()
        for round_number in range(3):
            ledger.put(entry(number)._replace(safe_next=round_number) for number in range(512))
        after = path.stat()

    assert before.st_blocks * 512 >= before.st_size == 513 * BLOCK
    assert after.st_size == before.st_size


def test_where_it_cannot_grow_what_it_holds_can_still_change(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ledger_of(path) as ledger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                ledger.put(entry(number) for number in range(600))
            held = set(ledger.entries())
            ledger.put(entry(number)._replace(safe_next=0) for number in range(512))
            ledger.drop([("board_00000", 1)])
            ledger.put([entry(600)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        ledger.put([entry(601)])

    assert held == {entry(number) for number in range(512)}
    changed = {entry(number)._replace(safe_next=0) for number in range(1, 512)}
    assert entries_at(path) == changed | {entry(600), entry(601)}


@pytest.mark.parametrize(
    "bad",
    [
        Entry("", 1, 0, 0, 0, 0),
        Entry("x" * 65, 1, 0, 0, 0, 0),
        Entry("é" * 33, 1, 0, 0, 0, 0),
        Entry("shed", -1, 0, 0, 0, 0),
        Entry("shed", 1, 2**64, 0, 0, 0),
        Entry("shed", 1, 0, 0, 0, 0, -1),
    ],
)
def test_what_fits_no_slot_is_refused_and_changes_nothing(tmp_path: Path, bad: Entry) -> None:
    path = tmp_path / "ledger"
    with ledger_of(path) as ledger:
        with pytest.raises(ValueError, match="no slot holds"):
            ledger.put([entry(1), bad, entry(2)])

        assert list(ledger.entries()) == [entry(1)]
        ledger.put([entry(3)])
    assert entries_at(path) == {entry(1), entry(3)}


def test_a_file_that_cannot_be_opened_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Ledger.open(tmp_path)


CHILD = """
import random, sys
from pathlib import Path
from gateway.store.ledger import Entry, Ledger

ledger = Ledger.open(Path(sys.argv[1]))
rng = random.Random(int(sys.argv[2]))
step = 0
while True:
    step += 1
    device = rng.randrange(40)
    ledger.put([Entry(f"board_{device:05}", 1, step, step, step, step, step)])
    if rng.random() < 0.1:
        ledger.drop([(f"board_{rng.randrange(40, 50):05}", 1)])
        ledger.put([Entry(f"board_{rng.randrange(40, 50):05}", 1, *[step] * 5)])
    sys.stdout.write(f"{device} {step}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("seed", range(5))
def test_what_was_put_before_a_kill_is_there(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "ledger"
    lines_before_kill = random.Random(seed).randrange(200, 2000)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(seed)], stdout=subprocess.PIPE, text=True
    )
    acknowledged: dict[str, int] = {}
    assert child.stdout is not None
    with child, child.stdout as lines:
        for count, line in enumerate(lines):
            if line.endswith("\n"):
                number, step = map(int, line.split())
                acknowledged[f"board_{number:05}"] = step
            if count == lines_before_kill:
                child.kill()  # lines that are on their way still count

    with ledger_of(path) as ledger:
        found = {kept.device: kept for kept in ledger.entries()}
        damaged = ledger.damaged

    assert damaged == 0, f"seed {seed}"
    assert len(acknowledged) == 40
    for device, step in acknowledged.items():
        kept = found[device]
        assert kept.safe_next >= step, f"seed {seed}"
        assert set(kept[2:]) == {kept.safe_next}, f"seed {seed}: of one put"
