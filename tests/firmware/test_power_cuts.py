"""Boards that lose their power and keep records in flash: old epochs first, each record told."""

import random
import struct
from itertools import pairwise
from pathlib import Path

import pytest

from tests.firmware.board_process import Bench, BoardProcess
from tests.firmware.model_gateway import HELLO, STREAM, ModelGateway
from tests.firmware.test_resets import PRODUCING, produced, producing, producing_firmware

__all__ = ["producing", "producing_firmware"]  # fixtures

FAST = {**PRODUCING, "interval_ms": 1}


def files(flash: Path) -> list[str]:
    return sorted(path.name for path in (flash / "q").glob("*") if "." not in path.name)


class Books:
    """A gateway that remembers each epoch: what came, and what was told as lost."""

    def __init__(self) -> None:
        self.gateway = ModelGateway(heartbeat_s=0.3)
        self.numbers: dict[int, dict[int, int]] = {}
        self.times: dict[int, list[int]] = {}
        self.claimed: dict[int, int] = {}
        self.order: list[int] = []

    def read(self, board: BoardProcess) -> None:
        """Take in what a board said, and check that no record says two things."""
        for frame in board.of_kind(HELLO):
            hello = frame.json
            self.claim(hello["ep"], hello["sq"])
            if "pe" in hello:
                self.claim(hello["pe"], hello["ps"])
            if not self.order or self.order[-1] != hello["ep"]:
                self.order.append(hello["ep"])
        for batch in board.batches():
            numbers = self.numbers.setdefault(batch.epoch, {})
            for seq, record in enumerate(batch.records, batch.first_seq):
                mono_ms, number = struct.unpack_from("<II", record, 2)
                assert numbers.setdefault(seq, number) == number
                age_ms = (batch.now_ms - mono_ms) % 2**32
                self.times.setdefault(batch.epoch, []).append(age_ms)
            self.claim(batch.epoch, batch.next_seq)

    def claim(self, epoch: int, next_seq: int) -> None:
        self.claimed[epoch] = max(self.claimed.get(epoch, 0), next_seq)


def outage(board: BoardProcess, flash: Path, count: int) -> None:
    """Let a board produce so many records that nobody takes."""
    until = produced(flash) + count
    board.gateway.is_silent = True
    board.until(lambda: produced(flash) >= until)


def test_after_a_power_cut_the_old_epoch_is_delivered_first(producing: Bench) -> None:
    producing.configure(sensors=[FAST], durability="batch", ring_bytes=2048)
    books = Books()

    with producing.board(gateway=books.gateway) as board:
        board.await_records(50)
        outage(board, producing.flash, 1000)
        board.kill()
    books.read(board)
    kept = files(producing.flash)
    books.gateway.is_silent = False
    with producing.board(gateway=books.gateway, power_cut=True) as again:
        again.until(lambda: again.batches() and again.batches()[-1].epoch == again_epoch(again))
        again.await_records(len(books.gateway.records) + 20)
    books.read(again)

    old, new = books.order
    hellos = [frame.json for frame in again.of_kind(HELLO)]
    assert new == (old + 1) & 0xFFFF
    assert [hello["ep"] for hello in hellos] == [old, new]
    assert hellos[0]["cl"] == 1
    assert "cl" not in hellos[1]
    assert len(kept) >= 4
    end = int(kept[-1][4:12], 16) + int(kept[-1][12:], 16)
    assert hellos[0]["sq"] == end
    assert books.gateway.gaps == []
    assert books.numbers[old] == {seq: seq for seq in range(end)}
    assert produced(producing.flash) - end > 0
    assert min(books.numbers[new]) == 0
    assert not [name for name in files(producing.flash) if name.startswith(f"{old:04x}")]


def again_epoch(board: BoardProcess) -> int:
    """Return the epoch that is not closed, or -1 while it was not announced."""
    opened = [frame.json["ep"] for frame in board.of_kind(HELLO) if "cl" not in frame.json]
    return opened[-1] if opened else -1


@pytest.mark.parametrize("seed", [1])
def test_power_cuts_and_resets_at_any_moment_lose_only_what_is_told(
    producing: Bench, seed: int
) -> None:
    rng = random.Random(seed)
    producing.configure(sensors=[FAST], durability="batch", ring_bytes=2048)
    books = Books()
    kills = 4

    cut = True
    for _ in range(kills):
        books.gateway.is_silent = rng.random() < 0.6
        with producing.board(gateway=books.gateway, power_cut=cut) as board:
            board.until(lambda board=board: board.of_kind(HELLO))  # type: ignore[misc]
            board.keep_talking(rng.uniform(0.2, 1.2))
            board.kill()
        books.read(board)
        cut = rng.random() < 0.5
    books.gateway.is_silent = False
    with producing.board(gateway=books.gateway, power_cut=cut) as board:
        board.until(lambda: board.batches() and board.batches()[-1].epoch == again_epoch(board))
        board.await_records(len(books.gateway.records) + 20)
    books.read(board)

    last = -1
    for epoch in books.order:
        numbers = books.numbers.get(epoch, {})
        assert all(0 <= seq < books.claimed[epoch] for seq in numbers), seed
        values = [numbers[seq] for seq in sorted(numbers)]
        assert values == sorted(set(values)), seed
        # Each number is what the sensor gave at that place of the epoch, whatever is missing.
        shifts = [numbers[seq] - seq for seq in sorted(numbers)]
        assert all(0 <= later - earlier <= kills for earlier, later in pairwise(shifts)), seed
        assert not values or values[0] > last, seed
        last = values[-1] if values else last


def test_a_torn_segment_loses_what_was_torn_and_tells_it(producing: Bench) -> None:
    producing.configure(sensors=[FAST], durability="batch", ring_bytes=2048)
    books = Books()
    with producing.board(gateway=books.gateway) as board:
        board.await_records(20)
        outage(board, producing.flash, 1000)
        board.kill()
    books.read(board)
    names = files(producing.flash)
    torn, newest = producing.flash / "q" / names[1], producing.flash / "q" / names[-1]
    torn.write_bytes(torn.read_bytes()[:500])
    newest.write_bytes(b"")

    books.gateway.is_silent = False
    with producing.board(gateway=books.gateway, power_cut=True) as again:
        again.until(lambda: again_epoch(again) >= 0)
    books.read(again)

    old = books.order[0]
    first, count = int(names[1][4:12], 16), int(names[1][12:], 16)
    readable = (500 - 26) // (25 * 10 + 6) * 25
    end = int(newest.name[4:12], 16) + int(newest.name[12:], 16)
    lost = [(first + readable, first + count - 1)]
    assert books.gateway.gaps == lost
    assert again.of_kind(HELLO)[0].json["sq"] == end, "from it the gateway knows the gap at the end"
    missing = set(range(end)) - set(books.numbers[old])
    assert missing == {
        *range(first + readable, first + count),
        *range(int(newest.name[4:12], 16), end),
    }


def test_what_had_to_make_room_is_told_after_a_power_cut(producing: Bench) -> None:
    producing.configure(sensors=[FAST], durability="batch", ring_bytes=2048, flash_bytes=16384)
    books = Books()
    with producing.board(gateway=books.gateway) as board:
        outage(board, producing.flash, 1000)
        board.kill()
    books.read(board)
    last = files(producing.flash)[-1]

    books.gateway.is_silent = False
    with producing.board(gateway=books.gateway, power_cut=True) as again:
        again.until(lambda: again_epoch(again) >= 0)
    books.read(again)

    old = books.order[0]
    end = int(last[4:12], 16) + int(last[12:], 16)
    first = min(books.numbers[old])
    assert first > 0
    assert books.gateway.gaps[0] == (0, first - 1)
    assert books.numbers[old] == {seq: seq for seq in range(first, end)}


def test_of_several_epochs_the_oldest_makes_room(producing: Bench) -> None:
    settings = {"durability": "batch", "ring_bytes": 2048, "flash_bytes": 16384}
    producing.configure(sensors=[FAST], **settings)
    books = Books()
    for _ in range(3):
        with producing.board(gateway=books.gateway, power_cut=True) as board:
            outage(board, producing.flash, 400)
            board.kill()
        books.read(board)
    kept = files(producing.flash)

    producing.configure(sensors=[PRODUCING], **settings)
    books.gateway.is_silent = False
    with producing.board(gateway=books.gateway, power_cut=True) as again:
        again.until(lambda: again.batches() and again.batches()[-1].epoch == again_epoch(again))
    books.read(again)

    oldest, middle, newest, _ = books.order
    ends = {int(name[:4], 16): int(name[4:12], 16) + int(name[12:], 16) for name in kept}
    assert len(kept) <= 4
    assert min(books.numbers.get(oldest, {400: 0})) > 0, "this one made room"
    assert sorted(books.numbers[newest]) == list(range(ends[newest]))
    assert books.claimed[oldest] >= ends[oldest]
    assert books.claimed[middle] >= ends[middle]


def test_records_from_flash_have_the_age_they_have(every_bench: Bench) -> None:
    """Of the time without power, too: the gateway told the time before and after."""
    counter = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 2}
    every_bench.configure(sensors=[counter], durability="batch", ring_bytes=2048)
    gateway = ModelGateway(heartbeat_s=0.3, ahead_s=0)
    with every_bench.board(gateway=gateway) as board:
        board.await_records(20)
        gateway.is_silent = True
        board.until(lambda: board.of_kind(HELLO)[-1].json["un"] > 500)
        board.kill()
    gateway.is_silent = False
    gateway.ahead_s = 7200
    with every_bench.board(gateway=gateway, power_cut=True) as again:
        again.until(lambda: again_epoch(again) >= 0)

    old = [batch for batch in again.batches() if batch.epoch == board.of_kind(HELLO)[0].json["ep"]]
    ages_s = [
        (batch.now_ms - struct.unpack_from("<I", record, 2)[0]) % 2**32 / 1000
        for batch in old
        for record in batch.records
    ]
    assert len(ages_s) > 100
    assert all(7200 <= age_s < 7230 for age_s in ages_s)
    assert all(later <= earlier + 0.1 for earlier, later in pairwise(ages_s))


def test_without_a_known_time_the_power_counts_as_back_at_once(every_bench: Bench) -> None:
    counter = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 2}
    every_bench.configure(sensors=[counter], durability="batch", ring_bytes=2048)
    gateway = ModelGateway(is_silent=True)
    with every_bench.board(gateway=gateway) as board:
        board.until(lambda: board.of_kind(HELLO) and board.of_kind(HELLO)[-1].json["un"] > 500)
        board.kill()
    gateway.is_silent = False
    with every_bench.board(gateway=gateway, power_cut=True) as again:
        again.until(lambda: again_epoch(again) >= 0)
        again.until(lambda: gateway.logs)

    first = again.batches()[0]
    ages_s = [
        (first.now_ms - struct.unpack_from("<I", record, 2)[0]) % 2**32 / 1000
        for record in first.records
    ]
    assert all(0 <= age_s < 30 for age_s in ages_s)
    assert b"nobody knows how long the power was off" in gateway.logs[0]


def test_records_keep_the_meaning_their_streams_had(bench: Bench) -> None:
    counter = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 2}
    bench.configure(sensors=[counter], durability="batch", ring_bytes=2048)
    gateway = ModelGateway(is_silent=True)
    with bench.board(gateway=gateway) as board:
        board.until(lambda: board.of_kind(HELLO) and board.of_kind(HELLO)[-1].json["un"] > 500)
        board.kill()
    bench.configure(sensors=[{"kind": "heap", "name": "memory"}, {**counter, "name": "other"}])
    gateway.is_silent = False

    with bench.board(gateway=gateway, power_cut=True) as again:
        again.until(lambda: again_epoch(again) >= 0 and again.of_kind(STREAM))
        again.await_records(len(gateway.records) + 1)

    described = [
        (frame.json["i"], frame.json["n"]) for frame in again.heard if frame.kind == STREAM
    ]
    assert described[0] == (0, "count")
    assert (0, "memory") in described[1:]


def test_nothing_is_written_while_a_gateway_takes_it(producing: Bench) -> None:
    """Unless the machine stands still for the ten seconds that records may be old."""
    producing.configure(sensors=[PRODUCING], durability="batch", ring_bytes=16384)

    with producing.board() as board:
        board.await_records(150)

    assert files(producing.flash) == []


def test_without_batch_nothing_is_ever_written(producing: Bench) -> None:
    producing.configure(sensors=[FAST], ring_bytes=2048)

    with producing.board() as board:
        board.await_records(10)
        outage(board, producing.flash, 500)

    assert not (producing.flash / "q").exists()


def test_a_long_outage_is_delivered_whole(producing: Bench) -> None:
    producing.configure(sensors=[FAST], durability="batch", ring_bytes=4096)
    gateway = ModelGateway(heartbeat_s=0.3)

    with producing.board(gateway=gateway) as board:
        board.await_records(20)
        outage(board, producing.flash, 1000)
        gateway.is_silent = False
        board.await_records(1050)

    numbers = [struct.unpack_from("<I", record, 6)[0] for record in gateway.records]
    assert gateway.gaps == []
    assert numbers == list(range(len(numbers)))
