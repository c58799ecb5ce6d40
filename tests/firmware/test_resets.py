"""Boards that are reset in the middle of things: each record once, in order, or told as lost."""

import json
import random
import shutil
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.firmware.board_process import Bench
from tests.firmware.model_gateway import HELLO, PING, READ, ModelGateway, batch
from tests.firmware.under_test import FIRMWARE

COUNTER = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 10}
PRODUCING = {"kind": "producing", "interval_ms": 10}
SENSOR = """\
# Counts its readings over all runs, and writes each number down before it gives it away.
import os, struct
class Sensor:
    fmt = "I"
    channels = (("number", "", 0, ""),)
    def __init__(self, config):
        try:
            self._number = os.stat("produced")[6] // 4
        except OSError:
            self._number = 0
    async def read(self):
        number = self._number
        self._number += 1
        with open("produced", "ab") as file:
            file.write(struct.pack("<I", number))
        return (number,)
"""


@pytest.fixture(scope="module")
def producing_firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return firmware with that sensor: one folder, so that CPython compiles it once."""
    firmware = tmp_path_factory.mktemp("firmware") / "device_firmware"
    shutil.copytree(FIRMWARE, firmware)
    (firmware / "sensors" / "producing.py").write_text(SENSOR)
    return firmware


@pytest.fixture
def producing(every_bench: Bench, producing_firmware: Path) -> Bench:
    """Return a bench whose boards have a sensor that knows what it produced."""
    return replace(every_bench, firmware=producing_firmware)


def produced(flash: Path) -> int:
    path = flash / "produced"
    return path.stat().st_size // 4 if path.exists() else 0


def numbers_of(gateway: ModelGateway) -> list[int | None]:
    """Return what the sensor gave for each seq of the one epoch; None where a gap was told."""
    missing = {seq for first, last in gateway.gaps for seq in range(first, last + 1)}
    records = iter(gateway.records)
    return [
        None if seq in missing else struct.unpack_from("<I", next(records), 6)[0]
        for seq in range(gateway.received)
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_board_that_is_killed_again_and_again_delivers_each_record_once_and_in_order(
    producing: Bench, seed: int
) -> None:
    rng = random.Random(seed)
    producing.configure(sensors=[PRODUCING])
    gateway = ModelGateway(heartbeat_s=0.3)
    kills = 6
    epochs = set()

    for _ in range(kills):
        gateway.is_silent = rng.random() < 0.4
        gateway.safe_delay_ms = rng.choice([0, 0, 200])
        with producing.board(gateway=gateway) as board:
            board.until(lambda board=board: board.of_kind(HELLO))  # type: ignore[misc]
            board.keep_talking(rng.uniform(0.0, 1.2))
            board.kill()
        epochs |= {hello.json["ep"] for hello in board.of_kind(HELLO)}
    gateway.is_silent = False
    with producing.board(gateway=gateway) as board:
        board.await_records(len(gateway.records) + 20)
        board.command("reset")
        board.exit_code()
    epochs |= {hello.json["ep"] for hello in board.of_kind(HELLO)}

    numbers = numbers_of(gateway)
    delivered = [number for number in numbers if number is not None]
    assert len(epochs) == 1, seed
    assert delivered == sorted(set(delivered)), seed
    # What it read may die with it before it has a seq: at most one reading for each kill.
    assert produced(producing.flash) - kills <= len(numbers) <= produced(producing.flash), seed
    skipped = [number - seq for seq, number in enumerate(numbers) if number is not None]
    assert skipped == sorted(skipped), seed
    assert skipped[0] >= 0, seed


def test_what_a_reset_leaves_of_a_long_outage_is_told_exactly(producing: Bench) -> None:
    producing.configure(sensors=[PRODUCING])
    gateway = ModelGateway()

    with producing.board(gateway=gateway) as board:
        board.await_records(20)
        gateway.is_silent = True
        board.until(lambda: produced(producing.flash) > gateway.received + 200)
        board.kill()
    gateway.is_silent = False
    with producing.board(gateway=gateway) as again:
        again.await_records(len(gateway.records) + 20)

    numbers = numbers_of(gateway)
    assert len(gateway.gaps) == 1
    first, last = gateway.gaps[0]
    kept = 200 - (last - first + 1)
    assert 40 < kept < 160, "a block of 988 bytes holds 70 of these records"
    hello = again.of_kind(HELLO)[0].json
    assert hello["sq"] - hello["un"] == last + 1
    assert again.batches()[0].lost == last - first + 1
    assert numbers[first - 1] == first - 1
    assert numbers[last + 1] == last + 1


def test_the_clock_goes_on_through_a_reset(every_bench: Bench) -> None:
    every_bench.configure(sensors=[COUNTER])
    gateway = ModelGateway()

    with every_bench.board({"BOARD_CLOCK_MS": str(2**32 - 500)}, gateway=gateway) as board:
        board.await_records(100)
        board.kill()
    with every_bench.board(gateway=gateway) as again:
        again.await_records(len(gateway.records) + 50)

    times = [struct.unpack_from("<I", record, 2)[0] for record in gateway.records]
    assert gateway.gaps == []
    assert times[0] > 2**31
    assert all((later - earlier) % 2**32 < 10_000 for earlier, later in pairwise(times))
    assert again.batches()[0].now_ms < 60_000


def test_a_clock_that_went_back_begins_an_epoch_and_tells_what_went_with_the_last(
    every_bench: Bench,
) -> None:
    every_bench.configure(sensors=[COUNTER])

    with every_bench.board(gateway=ModelGateway(heartbeat_s=0.3)) as board:
        board.await_records(20)
        board.gateway.is_silent = True
        board.until(lambda: board.of_kind(HELLO)[-1].json["un"] > 10)
        board.kill()
    before = board.of_kind(HELLO)[-1].json
    wrong = {"BOARD_WALL_MS": "-3600000"}
    with every_bench.board(wrong, gateway=ModelGateway(heartbeat_s=0.3)) as again:
        again.answers_acks = False
        again.await_records(5)
        again.gateway.is_silent = True
        again.until(lambda: len(again.of_kind(HELLO)) > 1)
        again.gateway.is_silent = False
        again.answers_acks = True
        again.await_records(len(again.gateway.records) + 20)
        again.gateway.is_silent = True
        again.until(lambda: again.of_kind(HELLO)[-1].json.get("ak"))

    first, *_, last = (hello.json for hello in again.of_kind(HELLO))
    assert first["ep"] == (before["ep"] + 1) & 0xFFFF
    assert (first["pe"], first["pa"]) == (before["ep"], before["ak"])
    assert first["ps"] >= before["sq"]
    assert "pe" in again.of_kind(HELLO)[1].json, "told until a record of the epoch is safe"
    assert "pe" not in last


def test_another_configuration_begins_an_epoch(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])
    with bench.board() as board:
        board.await_records(5)
        board.answers_acks = False
        board.until(lambda: board.batches()[-1].next_seq > 10)
        board.kill()
    bench.configure(sensors=[{**COUNTER, "name": "other"}])

    with bench.board() as again:
        again.await_records(1)

    first, second = (each.of_kind(HELLO)[0].json for each in (board, again))
    assert second["ep"] == (first["ep"] + 1) & 0xFFFF
    assert second["pe"] == first["ep"]


def test_without_power_nothing_is_left(every_bench: Bench) -> None:
    every_bench.configure(sensors=[COUNTER])
    with every_bench.board() as board:
        board.await_records(5)
        board.kill()

    with every_bench.board(power_cut=True) as again:
        again.await_records(1)

    first, second = (each.of_kind(HELLO)[0].json for each in (board, again))
    assert second["ep"] == (first["ep"] + 1) & 0xFFFF
    assert (second["sq"], second["rst"]) == (0, "power")
    assert "pe" not in second


def test_a_reset_has_its_cause(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])

    with bench.board() as board:
        board.await_records(5)
        board.kill()
    with bench.board() as again:
        again.await_records(1)

    assert [each.of_kind(HELLO)[0].json["rst"] for each in (board, again)] == ["power", "hard"]


def test_an_epoch_the_gateway_refused_is_left_for_good(bench: Bench) -> None:
    (bench.flash / "boot.json").write_text('{"epoch": 41}')
    bench.configure(sensors=[COUNTER])

    with bench.board() as board:
        board.gateway.epoch, board.gateway.received, board.gateway.safe = 42, 1000, 1000
        board.until(lambda: any(hello.json["ep"] != 42 for hello in board.of_kind(HELLO)))
        board.gateway.epoch = None
        board.await_records(5)
        board.kill()
    with bench.board() as again:
        again.await_records(1)
    state = json.loads((bench.flash / "boot.json").read_text())

    assert again.of_kind(HELLO)[0].json["ep"] == 42 + 0x4001
    assert state == {"epoch": 42 + 0x4001}


def test_a_ping_says_how_far_the_epoch_went(bench: Bench) -> None:
    bench.configure(sensors=[{**COUNTER, "interval_ms": 500}])

    with bench.board() as board:
        board.gateway.heartbeat_s = 0.1
        board.await_records(2)
        board.until(lambda: board.heard[-1].kind == PING)

    newest = [batch(frame) for frame in board.heard if frame.kind == READ][-1]
    assert struct.unpack("<II", board.heard[-1].payload)[1] == newest.next_seq
