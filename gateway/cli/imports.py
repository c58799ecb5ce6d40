"""Modules are imported quickly: nothing that is imported is garbage, so nobody looks for any."""

import gc
from importlib import import_module
from types import ModuleType


def imported(name: str) -> ModuleType:
    """Return a module, imported in five sixths of the time (`run`, medians of five in turn)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        if was_enabled:
            gc.enable()
