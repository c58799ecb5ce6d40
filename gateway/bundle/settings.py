"""A board's settings, held against the firmware's own rules before any board sees them."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.bundle.bundle import Bundle
from gateway.errors import BundleError
from gateway.firmware_files import firmware_first, firmware_folder

MAX_BYTES: Final = 8192
"""A board reads them at once, in a heap of 56 KB."""


def settings_bundle(config: Mapping[str, Any], where: str = "the settings") -> Bundle:
    """Return the bundle of settings that the firmware takes without complaint.

    Raises:
        BundleError: it would complain; one line for each thing that is wrong.
    """
    bundle = Bundle.settings(config, where)
    if bundle.size_bytes > MAX_BYTES:
        raise BundleError(
            f"{where}: {bundle.size_bytes} bytes, and a board reads at most {MAX_BYTES}"
        )
    if wrong := problems(config):
        raise BundleError("\n".join(f"{where}: {problem}" for problem in wrong))
    return bundle


def read_settings(path: Path) -> Mapping[str, Any]:
    """Return what a board's configuration file says, not checked.

    Raises:
        BundleError: it cannot be read, or is no JSON object.
    """
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(8 * MAX_BYTES))
    except OSError as exc:
        raise BundleError(f"{path}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{path}: expected JSON, as in device_firmware/README.md: {exc}") from exc
    if not isinstance(config, dict):
        raise BundleError(f"{path}: expected an object in {{ }}, found {type(config).__name__}")
    return config


def problems(config: Mapping[str, Any]) -> list[str]:
    """Return what the firmware would complain of, by its own `board/config.py`.

    What a sensor's or an actuator's file makes of its keys only the board can tell.
    """
    folder = firmware_folder()
    found: list[str] = []
    # It changes what it is given, and fetches some of its rules while it checks.
    given = json.loads(json.dumps(config))
    with firmware_first(folder):
        checked = importlib.import_module("board.config").check(given, found)
    for package in ("sensors", "actuators"):
        there = kinds(package)
        found += [
            f"{package}: there is no kind {part['kind']!r}; there are {', '.join(there)}"
            for part in checked[package]
            if part["kind"] not in there
        ]
    return found


def kinds(package: str) -> list[str]:
    """Return the kinds of `sensors` or `actuators` that the firmware has."""
    return sorted(path.stem for path in (firmware_folder() / package).glob("*.py"))
