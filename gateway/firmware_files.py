"""Where the firmware's source is, and how to use modules of it here."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from gateway.errors import ConfigError

PACKAGES = ("board", "sensors", "actuators", "commands")
"""What an update replaces; `main.py` and `boot_sel.py` beside them stay what they were."""


def firmware_folder() -> Path:
    """Return the folder `device_firmware`: in an installed package, or next to it in a checkout.

    Raises:
        ConfigError: it is in neither place.
    """
    package = Path(__file__).parent
    places = (package / "_device_firmware", package.parent / "device_firmware")
    for place in places:
        if (place / "board" / "session.py").is_file():
            return place
    raise ConfigError(f"the firmware is missing: neither {places[0]} nor {places[1]} holds it")


@contextmanager
def firmware_first(folder: Path) -> Iterator[None]:
    """Let absolute imports find the firmware's packages, for a moment; for one thread at a time."""
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
    with firmware_first(firmware_folder()):
        return tuple(importlib.import_module(name) for name in names)
