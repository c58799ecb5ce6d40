"""What runs the firmware on a PC.

A simulated board is the firmware itself (`device_firmware`), in a process of its own. It runs under
MicroPython where that is installed, and otherwise under this Python with the stand-ins of
`device_firmware/host` for MicroPython's modules.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import ConfigError
from gateway.firmware_files import firmware_folder, load_modules

__all__ = ["CPYTHON", "Interpreter", "find_interpreter", "firmware_folder", "load_modules"]

MICROPYTHON_VARIABLE = "EDGE_GATEWAY_MICROPYTHON"
"""Environment variable that names the interpreter for simulated boards."""

CPYTHON = "cpython"
"""Names this Python where an interpreter is asked for."""

_OLDEST = (1, 23)
"""The firmware's least MicroPython; older ones cannot read its .mpy files."""

_ASK_VERSION = "import sys; print(sys.implementation[0], *sys.implementation[1][:3])"

_ASK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Something that runs the firmware."""

    path: str
    label: str
    """Its name and version, for people."""
    is_micropython: bool

    def command(self, folder: Path, root: Path, heap_size: str = "") -> list[str]:
        """Return the command that runs one board.

        Args:
            folder: the firmware, as `firmware_folder` returns it.
            root: the board's flash.
            heap_size: limit of MicroPython's heap, such as `56K`; CPython has none.
        """
        limit = ["-X", f"heapsize={heap_size}"] if heap_size and self.is_micropython else []
        return [self.path, *limit, str(folder / "host" / "run.py"), str(root)]


def find_interpreter(
    wanted: str | None = None, environment: Mapping[str, str] = os.environ
) -> Interpreter:
    """Return what runs the firmware; blocks while it asks an interpreter for its version.

    The first of: `wanted` (a path, or `cpython`), $EDGE_GATEWAY_MICROPYTHON, `micropython` on PATH
    unless it is too old, this Python.

    Raises:
        ConfigError: the interpreter named by `wanted` or the variable cannot be used.
    """
    named = wanted or environment.get(MICROPYTHON_VARIABLE)
    if named == CPYTHON:
        return _this_python("")
    if named:
        return _micropython(named)
    on_path = shutil.which("micropython", path=environment.get("PATH"))
    if on_path is None:
        return _this_python("")
    try:
        return _micropython(on_path)
    except ConfigError as exc:
        return _this_python(f"; {exc}")


def _this_python(why: str) -> Interpreter:
    version = ".".join(map(str, sys.version_info[:3]))
    label = f"CPython {version} with the firmware's stand-ins{why}"
    return Interpreter(sys.executable, label, is_micropython=False)


def _micropython(path: str) -> Interpreter:
    try:
        answer = subprocess.run(  # noqa: S603 the user names the program
            [path, "-c", _ASK_VERSION], capture_output=True, timeout=_ASK_TIMEOUT_S, check=True
        )
        name, *numbers = answer.stdout.decode().split()
        version = tuple(map(int, numbers))
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        raise ConfigError(f"{path} is no MicroPython that runs here: {exc}") from exc
    if name != "micropython" or version < _OLDEST:
        found = f"{name} {'.'.join(numbers)}"
        needed = ".".join(map(str, _OLDEST))
        raise ConfigError(f"{path} is {found}, needed is micropython {needed} or newer")
    return Interpreter(path, f"MicroPython {'.'.join(numbers)} ({path})", is_micropython=True)
