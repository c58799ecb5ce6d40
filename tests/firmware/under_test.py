"""The firmware's own modules: their root is the folder that becomes a board's file system."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

FIRMWARE = Path(__file__).parents[2] / "device_firmware"


def load(name: str) -> ModuleType:
    """Import a module of the firmware that needs no hardware and no shim."""
    if str(FIRMWARE) not in sys.path:
        sys.path.append(str(FIRMWARE))
    return importlib.import_module(name)
