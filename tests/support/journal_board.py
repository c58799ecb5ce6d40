"""Boards that note what they measure, so that it is known what was produced whoever is killed."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gateway.simulate.boards import FirmwareBoard, Flash, Json
from gateway.simulate.faults import FaultPlan
from gateway.simulate.firmware import Interpreter, firmware_folder

_SENSOR = """
# Counts its readings over all lives of the board, and notes each in the file `journal` before it
# gives it. The file `lives` has the epoch and the first number of each life. Ends at `limit`.

import json
import os


class Sensor:
    fmt = "I"
    channels = (("number", "", 0, ""),)

    def __init__(self, config):
        self._limit = config["limit"]
        try:
            self._number = os.stat("journal")[6] // 9
        except OSError:
            self._number = 0
        with open("boot.json") as file:
            epoch = json.load(file)["epoch"]
        self._append("lives", b"%d %d\\n" % (epoch, self._number))

    async def read(self):
        number = self._number
        if number >= self._limit:
            raise OSError("all done")
        self._append("journal", b"%08d\\n" % number)
        self._number = number + 1
        return (number,)

    def _append(self, path, line):
        with open(path, "ab") as file:
            file.write(line)
"""


_ACTUATOR = """
# Notes each value it is set to in the file `done`, so that it is known how often it was.

import os


class Actuator:
    kind = "number"

    def __init__(self, config):
        self.key = config["name"]
        self.state = None

    def describe(self):
        return {"k": self.key, "n": self.key, "t": self.kind, "state": self.state}

    def set(self, value):
        with open("done", "ab") as file:
            file.write(b"%d\\n" % value)
        self.state = value

    def safe(self):
        pass
"""


class Life(NamedTuple):
    """What a board was from one start of its program to the next."""

    epoch: int
    first: int
    """Number of its first reading."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What one board has noted."""

    device: str
    noted: int
    """Readings its sensor gave, numbered from 0 over all its lives. The last one of a life may not
    have become a sample: the board was killed in between."""
    lives: tuple[Life, ...]


class JournalBoard:
    """A board with the firmware and a sensor that keeps a journal."""

    def __init__(  # noqa: PLR0913 - each says something about the board
        self,
        number: int,
        ports: Path,
        flashes: Path,
        firmware: Path,
        interpreter: Interpreter,
        *,
        faults: FaultPlan,
        limit: int,
        interval_ms: int,
        is_batch: bool = False,
        radio: str = "",
        has_valve: bool = False,
    ) -> None:
        """Give readings up to `limit`; `firmware` is what `firmware_with_journal` made.

        With `is_batch` it writes what no gateway takes to its flash. `radio` is where a board is
        that is on the air instead of on a port. With a valve it can be told something.
        """
        self.name = f"board-{number}"
        self.limit = limit
        board_id = f"c0ffee{number:02x}"
        self.device = f"linux-{board_id}"
        sensor: Json = {"kind": "journal", "name": "n", "interval_ms": interval_ms, "limit": limit}
        config: dict[str, Json] = {
            "name": self.name,
            "links": ["ble" if radio else "stdio"],
            "sensors": [sensor],
        }
        if has_valve:
            config["actuators"] = [{"kind": "journal", "name": "valve"}]
        if is_batch:
            config |= {"durability": "batch", "ring_bytes": 2048}
        self.board = FirmwareBoard(
            ports / self.name,
            flashes / self.name,
            Flash(config),
            interpreter,
            plan=faults,
            board_id=board_id,
            firmware=firmware,
            radio=radio,
        )

    def noted(self) -> int:
        """Return how many readings its sensor gave so far."""
        return len(self._lines("journal"))

    def filed(self) -> int:
        """Return how many samples are in files of its flash."""
        names = [path.name for path in (self.board.root / "q").glob("*") if "." not in path.name]
        return sum(int(name[-4:], 16) for name in names)

    def done(self) -> list[int]:
        """Return to what its valve was set, over all its lives."""
        return [int(line) for line in self._lines("done")]

    def journal(self) -> Journal:
        """Read what it has noted."""
        lives = tuple(Life(*map(int, line.split())) for line in self._lines("lives"))
        return Journal(self.device, self.noted(), lives)

    def _lines(self, name: str) -> list[str]:
        path = self.board.root / name
        return path.read_text().splitlines() if path.exists() else []


def firmware_with_journal(folder: Path) -> Path:
    """Copy the firmware into `folder`, with the sensor; return that folder."""
    shutil.copytree(firmware_folder(), folder)
    (folder / "sensors" / "journal.py").write_text(_SENSOR)
    (folder / "actuators" / "journal.py").write_text(_ACTUATOR)
    return folder
