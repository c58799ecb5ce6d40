"""Runs pieces of the firmware on this machine, under each interpreter that can be had."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import nursery

FIRMWARE = Path(__file__).parents[2] / "device_firmware"

_PRELUDE = """\
import sys
sys.path[0:0] = [{host!r}, {firmware!r}]
import asyncio, json, time
if sys.implementation.name == "cpython":
    sys.path.insert(0, {host!r} + "/cpython")
    import shims
    shims.install()

def say(value):
    print(json.dumps(value))

def sensor(kind, config):
    return __import__("sensors." + kind, None, None, ("Sensor",)).Sensor(config)

# A reading, or what went wrong.
def read(made):
    try:
        return list(asyncio.run(made.read()))
    except (OSError, ValueError) as e:
        return type(e).__name__ + ": " + str(e)
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a script ended."""

    code: int
    """Exit code; 77 when the watchdog bit."""
    said: list[Any]
    """What it passed to `say`, in order."""
    errors: str
    """Its stderr."""


@dataclass(frozen=True, slots=True)
class Host:
    """An interpreter that can run the firmware."""

    name: str
    command: tuple[str, ...]
    folder: Path
    """The board's flash: the current folder of the scripts."""

    def fakes(self, settings: dict[str, Any]) -> None:
        """Tell the fakes; takes effect at once, in a running script too."""
        draft = self.folder / "fakes.draft"
        draft.write_text(json.dumps(settings))
        draft.rename(self.folder / "fakes.json")

    def prepare(self, script: str) -> list[str]:
        """Write the script; returns the command that runs it in `folder`."""
        prelude = _PRELUDE.format(host=str(FIRMWARE / "host"), firmware=str(FIRMWARE))
        path = self.folder / "script.py"
        path.write_text(prelude + script)
        return [*self.command, path.name]

    def environment(self, **settings: str) -> dict[str, str]:
        """Return the environment of a script: this one's, without any BOARD_ setting."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BOARD_")}
        return kept | settings

    def run(self, script: str, **settings: str) -> Ended:
        """Run `script` to its end, with environment variables of its own."""
        ended = nursery.run(
            self.prepare(script),
            folder=self.folder,
            environment=self.environment(**settings),
            timeout_s=60,
        )
        said = [json.loads(line) for line in ended.stdout.splitlines() if line]
        return Ended(ended.returncode, said, ended.stderr.decode())

    def said(self, script: str, **settings: str) -> Any:  # noqa: ANN401 - JSON, as the script likes
        """Run a script that must succeed; returns the one value it said."""
        ended = self.run(script, **settings)
        assert ended.code == 0, ended.errors
        assert len(ended.said) == 1, ended
        return ended.said[0]
