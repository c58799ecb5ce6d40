"""Simulated boards that run the firmware, made of what `simulate` was asked for."""

import argparse
import sys
from pathlib import Path

from gateway.cli.sim_boards import actuators_of, flash, on_air, words_of
from gateway.cli.sim_flashed import flashed, write_keys
from gateway.simulate.boards import FirmwareBoard
from gateway.simulate.faults import FaultPlan
from gateway.simulate.firmware import find_interpreter


def firmware_boards(
    arguments: argparse.Namespace, folder: Path, plan: FaultPlan, radio: str = ""
) -> dict[str, FirmwareBoard]:
    """Return the boards by name, not switched on yet; with `radio` they are there, else on ports.

    Raises:
        ConfigError: a kind of sensor or actuator is unknown, or the interpreter cannot be used.
        BundleError: there is no firmware to flash them with.
    """
    interpreter = find_interpreter(arguments.interpreter)
    kinds, actuators = words_of(arguments.sensors), actuators_of(words_of(arguments.actuators))
    boards = {}
    for number in range(arguments.boards):
        name = f"{arguments.name}-{number}"
        root = folder / ".flash" / name
        content = flash(name, kinds, arguments.interval_ms, seed=number + 1, actuators=actuators)
        if radio:
            content = on_air(content)
        if arguments.flashed:
            content = flashed(root, content, interpreter)
        boards[name] = FirmwareBoard(
            folder / name, root, content, interpreter, plan=plan, radio=radio
        )
    if arguments.flashed:
        keys = folder / ".flash" / "keys"
        write_keys(keys, boards.values())
        print(f"their keys: edge-gateway keys import {keys}", file=sys.stderr, flush=True)
    return boards
