"""Where the firmware is, and what runs it.

A simulated board is the firmware itself (`device_firmware`), in a process of its own. It runs under
MicroPython where that is installed, and otherwise under this Python with the stand-ins of
`device_firmware/host` for MicroPython's modules.
"""

import importlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from gateway.errors import ConfigError

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


def firmware_folder() -> Path:
    """Return the folder `device_firmware`: in an installed package, or next to it in a checkout.

    Raises:
        ConfigError: it is in neither place.
    """
    package = Path(__file__).parents[1]
    places = (package / "_device_firmware", package.parent / "device_firmware")
    for place in places:
        if (place / "board" / "session.py").is_file():
            return place
    raise ConfigError(f"the firmware is missing: neither {places[0]} nor {places[1]} holds it")


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


_importing = threading.Lock()


@contextmanager
def _firmware_first(folder: Path) -> Iterator[None]:
    """Let absolute imports find the firmware's packages, for a moment."""
    with _importing:
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_firmware(name)}
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            for name in [name for name in sys.modules if _is_firmware(name)]:
                del sys.modules[name]
            sys.modules.update(hidden)


def _is_firmware(name: str) -> bool:
    return name.partition(".")[0] in {"board", "sensors", "actuators"}


def load_modules(*names: str) -> tuple[ModuleType, ...]:
    """Import modules of the firmware that need no stand-ins, such as `board.session`.

    On a board the folder is the root of the file system, so its modules import each other as
    `board.frame`. Here that name belongs to nobody: Adafruit's Blinka, for one, installs a module
    `board` too. So the folder is on `sys.path` only while these modules load, and they leave
    `sys.modules` again; they keep working, for each holds what it imported. Modules that import
    others later, inside a function, cannot be loaded this way.

    Raises:
        ConfigError: the firmware is missing.
    """
    with _firmware_first(firmware_folder()):
        return tuple(importlib.import_module(name) for name in names)
