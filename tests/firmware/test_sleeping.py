"""Boards that sleep between their readings, on a serial line; over BLE see tests/integration."""

import json
import struct
from pathlib import Path

import pytest

from tests.firmware.board_process import Bench
from tests.firmware.model_gateway import BYE, HELLO, ModelGateway

DEEP_SLEEP = 76
"""How the process of a board that sleeps ends."""

COUNTER = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 10}
OTHER = {**COUNTER, "name": "other"}


def slept_ms(flash: Path) -> int:
    told: int = json.loads((flash / "sleep.json").read_text())["ms"]
    return told


def test_a_board_reads_each_sensor_once_delivers_and_sleeps(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER, OTHER], sleep={"interval_s": 60, "awake_s": 30})

    with bench.board() as board:
        code = board.exit_code()

    (bye,) = board.of_kind(BYE)
    (back_ms,) = struct.unpack("<I", bye.payload)
    assert code == DEEP_SLEEP
    assert sorted(record[1] for record in board.gateway.records) == [0, 1]  # one of each stream
    assert board.gateway.safe == 2
    assert 30_000 < slept_ms(bench.flash) <= back_ms <= 60_000


def test_what_nobody_takes_is_kept_asleep_and_delivered_later(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER], sleep={"interval_s": 60, "awake_s": 1})
    gateway = ModelGateway()

    gateway.is_silent = True
    for _ in range(2):
        with bench.board(gateway=gateway) as board:
            assert board.exit_code() == DEEP_SLEEP
            assert board.of_kind(BYE) == []
    gateway.is_silent = False
    with bench.board(gateway=gateway) as board:
        code = board.exit_code()

    hello = board.of_kind(HELLO)[0].json
    assert code == DEEP_SLEEP
    assert hello["rst"] == "sleep"
    assert len(gateway.records) == gateway.safe == 3
    assert gateway.gaps == []


def test_a_board_is_there_for_a_command_before_it_sleeps(bench: Bench) -> None:
    pump = {"kind": "relay", "name": "pump", "pin": 5}
    bench.configure(sensors=[COUNTER], actuators=[pump], sleep={"interval_s": 60, "awake_s": 10})

    with bench.board() as board:
        board.until(lambda: board.gateway.safe)
        answer = board.command("set", {"pump": True})
        code = board.exit_code()

    assert answer["ok"] == {"pump": True}
    assert code == DEEP_SLEEP


@pytest.mark.parametrize(
    "sensor",
    [
        {**COUNTER, "fail_every": 1},
        {"kind": "pigeon", "name": "pigeon"},
    ],
    ids=["that fails", "that is not there"],
)
def test_a_sensor_does_not_keep_a_board_awake(bench: Bench, sensor: dict[str, object]) -> None:
    bench.configure(sensors=[OTHER, sensor], sleep={"interval_s": 60, "awake_s": 10})

    with bench.board() as board:
        code = board.exit_code()

    assert code == DEEP_SLEEP
    assert len(board.gateway.records) == 1


def test_a_board_without_sensors_sleeps_too(bench: Bench) -> None:
    bench.configure(sleep={"interval_s": 60, "awake_s": 1})

    with bench.board() as board:
        assert board.exit_code() == DEEP_SLEEP


def test_who_wakes_a_board_by_its_button_may_interrupt_it_and_a_timer_does_not(
    bench: Bench,
) -> None:
    bench.configure(sleep={"interval_s": 60, "awake_s": 1})
    window = {"BOARD_WINDOW_MS": "20"}

    with bench.board(window) as started:
        assert started.exit_code() == DEEP_SLEEP
    with bench.board(window) as awake:
        assert awake.exit_code() == DEEP_SLEEP

    assert [line for line in started.text if line] == [b"starting in 20 ms; Ctrl-C for the REPL"]
    assert [line for line in awake.text if line] == []


def test_power_loss_in_sleep_begins_an_epoch(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER], sleep={"interval_s": 60, "awake_s": 1})
    gateway = ModelGateway()

    with bench.board(gateway=gateway) as board:
        board.exit_code()
        first = board.of_kind(HELLO)[0].json["ep"]
    gateway.epoch = None
    with bench.board(power_cut=True) as board:
        board.exit_code()
        second = board.of_kind(HELLO)[0].json["ep"]

    assert second != first
