"""How a board's run ends and the next begins: resets, crashes, the watchdog, the REPL."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.firmware.board_process import Bench
from tests.firmware.model_gateway import BYE, HELLO, LOG, STREAM
from tests.firmware.under_test import FIRMWARE

COUNTER = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 10}


@pytest.fixture
def altered(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a bench with a copy of the firmware, to be broken on purpose."""
    firmware = tmp_path_factory.mktemp("firmware") / "device_firmware"
    shutil.copytree(FIRMWARE, firmware, ignore=shutil.ignore_patterns("__pycache__"))
    return replace(bench, firmware=firmware)


def break_at_start(firmware: Path) -> None:
    (firmware / "board" / "app.py").write_text(
        "def start():\n    flux()\ndef flux():\n    raise OSError(5, 'no flux')\n"
    )


def test_every_loss_of_power_begins_an_epoch(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])

    epochs = []
    for _ in range(3):
        with bench.board(power_cut=True) as board:
            board.await_records(1)
            assert board.power_off() == 0
        epochs.append(board.of_kind(HELLO)[0].json["ep"])

    assert [(later - epochs[0]) % 65536 for later in epochs] == [0, 1, 2]


def test_epochs_wrap_at_sixteen_bits(bench: Bench) -> None:
    (bench.flash / "boot.json").write_text('{"epoch": 65535}')
    bench.configure()

    with bench.board() as board:
        board.until(lambda: board.of_kind(HELLO))

    assert board.of_kind(HELLO)[0].json["ep"] == 0


@pytest.mark.parametrize("content", [None, "{", '{"epoch": "x"}', "\xff"])
def test_a_board_without_a_readable_epoch_draws_one(bench: Bench, content: str | None) -> None:
    bench.configure()
    epochs = set()

    for _ in range(2):
        if content is not None:
            (bench.flash / "boot.json").write_text(content, encoding="latin-1")
        else:
            (bench.flash / "boot.json").unlink(missing_ok=True)
        with bench.board(power_cut=True) as board:
            board.until(lambda: board.of_kind(HELLO))
        epochs.add(board.of_kind(HELLO)[0].json["ep"])

    assert len(epochs) == 2, "two draws out of 65,536 were the same, or not drawn"


def test_a_reset_is_answered_and_loses_nothing(every_bench: Bench) -> None:
    every_bench.configure(sensors=[COUNTER])

    with every_bench.board() as board:
        board.await_records(5)
        board.gateway.safe_delay_ms = 200
        answer = board.command("reset", cid="r1")
        code = board.exit_code()
    with every_bench.board() as again:
        again.await_records(1)

    assert answer == {"cid": "r1", "ok": None}
    assert code == 75
    assert [frame.kind for frame in board.heard][-1] == BYE
    assert board.of_kind(BYE)[0].payload == (4000).to_bytes(4, "little")
    assert board.gateway.safe == board.batches()[-1].next_seq
    first, second = (each.of_kind(HELLO)[0].json for each in (board, again))
    assert second["rst"] == "hard"
    assert second["n"] != first["n"]
    assert (second["ep"], second["sq"]) == (first["ep"], board.batches()[-1].next_seq)


def test_a_reset_does_not_wait_for_a_gateway_that_takes_nothing(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])

    with bench.board() as board:
        board.await_records(5)
        board.answers_acks = False
        board.command("reset")

        assert board.exit_code() == 75


def test_the_repl_is_reached_by_command_and_left_by_ctrl_d(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])

    with bench.board() as board:
        board.await_records(1)
        board.command("repl")
        code = board.exit_code()
    with bench.board() as at_repl:
        at_repl.until(lambda: at_repl.unfinished == b">>> ")
        at_repl.keep_talking(0.3)
        at_repl.send(b"\x04")
        repl_code = at_repl.exit_code()
    with bench.board() as again:
        again.await_records(1)

    assert (code, repl_code) == (75, 75)
    assert at_repl.heard == []


def test_a_crash_is_recorded_and_told_once(altered: Bench) -> None:
    altered.configure(sensors=[COUNTER])
    break_at_start(altered.firmware)

    with altered.board() as board:
        code = board.exit_code()
    whole = Bench(altered.interpreter, altered.flash)
    with whole.board() as next_board:
        next_board.await_records(1)
        next_board.until(lambda: any(b"no flux" in log for log in next_board.gateway.logs))
        assert not (altered.flash / "crash.txt").exists()
    with whole.board() as third:
        third.await_records(1)

    assert code == 75
    hello = next_board.of_kind(HELLO)[0].json
    assert "no flux" in hello["crash"]
    logs = [frame.payload for frame in next_board.of_kind(LOG)]
    assert logs[0].startswith(b"\x04Traceback")
    assert any(b"flux" in log and b"line 4" in log for log in logs)
    assert "crash" not in third.of_kind(HELLO)[0].json


def test_a_crash_is_kept_until_a_gateway_has_heard_of_it(altered: Bench) -> None:
    altered.configure()
    break_at_start(altered.firmware)
    with altered.board() as board:
        board.exit_code()
    whole = Bench(altered.interpreter, altered.flash)

    for _ in range(2):
        with whole.board() as unheard:
            unheard.gateway.is_silent = True
            unheard.until(lambda: unheard.of_kind(HELLO))

        assert "no flux" in unheard.of_kind(HELLO)[0].json["crash"]


def test_a_bug_in_the_core_ends_in_a_crash_record(altered: Bench) -> None:
    altered.configure(sensors=[COUNTER])
    port = altered.firmware / "board" / "port.py"
    port.write_text(port.read_text().replace("line = await", "raise TypeError('a bug')\n  #"))

    with altered.board() as board:
        code = board.exit_code()

    assert code == 75
    assert "TypeError: a bug" in (altered.flash / "crash.txt").read_text()


def test_a_driver_that_blocks_is_ended_by_the_watchdog(altered: Bench) -> None:
    (altered.firmware / "sensors" / "blocking.py").write_text(
        "import time\n"
        "class Sensor:\n"
        "    fmt = 'h'\n"
        "    channels = (('x', '', 0, ''),)\n"
        "    def __init__(self, config): self.count = 0\n"
        "    async def read(self):\n"
        "        self.count += 1\n"
        "        if self.count > 5: time.sleep(60)\n"
        "        return (self.count,)\n"
    )
    altered.configure(sensors=[{"kind": "blocking", "interval_ms": 20}], watchdog_s=1)

    with altered.board() as board:
        board.await_records(5)
        code = board.exit_code()
    altered.configure(sensors=[COUNTER], watchdog_s=1)
    with altered.board() as again:
        again.await_records(150)  # longer than the watchdog waits: it is fed
        assert again.power_off() == 0

    assert code == 77
    assert again.of_kind(HELLO)[0].json["rst"] == "watchdog"


def test_a_broken_import_costs_one_sensor_only(altered: Bench) -> None:
    (altered.firmware / "sensors" / "broken.py").write_text("import nothing_like_it\n")
    (altered.firmware / "sensors" / "garbled.py").write_text("def def def\n")
    (altered.firmware / "sensors" / "wrong.py").write_text(
        "class Sensor:\n"
        "    fmt = 'hh'\n"
        "    channels = (('x', '', 0, ''), ('y', '', 0, ''))\n"
        "    def __init__(self, config): pass\n"
        "    async def read(self): return ('a', None)\n"
    )
    kinds = ("broken", "garbled", "wrong")
    altered.configure(sensors=[COUNTER, *({"kind": kind, "interval_ms": 20} for kind in kinds)])

    with altered.board() as board:
        board.until(lambda: len(board.gateway.logs) >= 3)
        board.await_records(20)
        errors = board.command("info")["ok"]["errors"]

    assert sorted(errors) == sorted(kinds)
    assert {frame.json["n"] for frame in board.of_kind(STREAM)} >= {"count"}
    assert {record[1] for record in board.gateway.records} == {
        frame.json["i"] for frame in board.of_kind(STREAM) if frame.json["n"] == "count"
    }


def test_there_is_a_moment_for_ctrl_c(bench: Bench) -> None:
    bench.configure(sensors=[COUNTER])

    with bench.board({"BOARD_WINDOW_MS": "10000"}) as board:
        board.until(lambda: board.text)
        board.process.send_signal(signal.SIGINT)
        code = board.exit_code()

    assert code == 0
    assert board.text == [b"starting in 10000 ms; Ctrl-C for the REPL", b"interrupted"]
    assert board.heard == []


def test_power_may_fail_while_the_epoch_is_written(bench: Bench) -> None:
    bench.configure()
    (bench.flash / "boot.json").write_text('{"epoch": 41}')
    (bench.flash / "boot.json.new").write_text('{"epo')

    with bench.board() as board:
        board.until(lambda: board.of_kind(HELLO))

    assert board.of_kind(HELLO)[0].json["ep"] == 42
    assert json.loads((bench.flash / "boot.json").read_text()) == {"epoch": 42}
