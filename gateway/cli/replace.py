"""Have a new board go on in the place of an old one: its name, topics, entities and settings.

Who knows the old board by its name in topics, by its id in the configuration, or as a device in
Home Assistant, has the new one from then on: dashboards, automations and history go on. The old one
is forgotten; should it be plugged in again it is a new device of another name, and takes nothing
back.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.cli import control
from gateway.cli.commands import FAILED, OK
from gateway.config.loader import load
from gateway.config.models import Settings
from gateway.drivers.board import DRIVER

EPILOG = """\
examples:
  edge-gateway replace shed esp32-c3d4      the new board is the shed from now on

Before it, set the new board up, and learn its key:
  edge-gateway flash --config shed.json     with the sensors and pins of the old one
  edge-gateway request devices

The new board's sensors and pins are its own: bring it the old one's config.json with `flash
--config FILE`, or afterwards with `edge-gateway update shed --settings FILE`. Its key is its own,
too. A gateway has to run on this machine.
Exit codes: 0 done, 1 not done, 2 wrong usage or configuration.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take who goes, and who comes."""
    parser.add_argument("old", metavar="OLD", help="the old device: its name in topics, or its key")
    parser.add_argument("new", metavar="NEW", help="the new one, which the gateway knows already")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the gateway's configuration")


def execute(arguments: argparse.Namespace) -> int:
    """Do it, and say what was taken over, and what was not."""
    settings = load(arguments.config)
    done = control.ask(settings, "replace", {"device": arguments.old, "by": arguments.new})
    for line in told(settings, done):
        print(line)
    if not done["kept"]:
        print(
            "it is not on the disk yet: a crash within the next seconds may undo it; see "
            "`edge-gateway doctor`",
            file=sys.stderr,
        )
        return FAILED
    return OK


def told(settings: Settings, done: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was done, in words."""
    level = done["level"]
    yield f"{done['device']} goes on in the place of {done['replaced']}"
    yield f"  name              {done['name']}"
    yield f"  topics            {settings.base_topic}/{level}/..."
    if settings.homeassistant.enabled:
        yield f"  Home Assistant    the device and its history go on, known as {done['identity']}"
    yield f"  goes on           {_listed(done['goes_on'])}"
    if done["missing"]:
        yield f"  missing           {_listed(done['missing'])}: the new one has no such thing yet"
        if settings.homeassistant.enabled:
            yield "                    Home Assistant keeps them for a day, then they are removed"
    if done["new"]:
        yield f"  new               {_listed(done['new'])}"
    yield from _intervals(done)
    yield from _ended(done)
    if done["driver"] == DRIVER:
        yield "not taken over:"
        yield "  sensors and pins  its config.json has them: `edge-gateway flash --config FILE`, or"
        yield f"                    `edge-gateway update {level} --settings FILE`"
        yield "  key               each board has its own; the old one's is kept, see `keys remove`"
    yield f"{done['replaced']} is a new device of another name, should it be plugged in again."


def _intervals(done: Mapping[str, Any]) -> Iterator[str]:
    if not done["interval_ms"]:
        return
    said = ", ".join(f"{name} every {each} ms" for name, each in done["interval_ms"].items())
    yield f"  sampling          {said}"
    if not done["applied"]:
        yield f"                    not there yet: {done['reason']}"


def _ended(done: Mapping[str, Any]) -> Iterator[str]:
    if commands := done["commands_ended"]:
        yield f"  commands          {commands} waited for the old board: they have ended, not done"
    if done["rollouts_ended"]:
        numbers = ", ".join(map(str, done["rollouts_ended"]))
        yield f"  updates           the old board's part of rollout {numbers} has ended"


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys) or "nothing that both boards have"
