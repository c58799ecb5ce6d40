"""Boards that run the firmware itself, each in a process of its own, behind a pty or on the air."""

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from gateway.backoff import Backoff
from gateway.errors import LinkError
from gateway.simulate.child import ChildProcess
from gateway.simulate.faults import FaultPlan, LinkAction
from gateway.simulate.firmware import Interpreter, firmware_folder
from gateway.simulate.pty_port import PtyPort
from gateway.simulate.wire import Wire

Json: TypeAlias = "bool | int | float | str | list[Json] | Mapping[str, Json] | None"

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 3.0
"""How long the firmware may take to notice that its line was closed, before it is killed."""

_STEADY_S = 30.0
"""A board that ran this long is no longer held to fail at every start."""

_SHORT_S = 1.0
"""A board that resets sooner than this after its start is started less and less often."""

_SUSPICIOUS_STARTS = 3
"""So many resets right after the start are worth a warning."""

_WITHOUT_POWER = "--power-cut"
"""Argument that makes the firmware's start forget what a chip forgets without power."""


class Ending(Enum):
    """Why a run of the firmware ended."""

    OFF = "off"
    """It switched itself off."""
    RESET = "reset"
    """machine.reset(), or a soft reset."""
    DEEP_SLEEP = "deep_sleep"
    """machine.deepsleep(): back after the time in sleep.json."""
    WATCHDOG = "watchdog"
    POWER_CUT = "power_cut"
    """By `cut_power`."""
    KILLED = "killed"
    """By `reset`: its process was killed."""
    CRASH = "crash"
    """Any other exit code."""


_EXIT_CODES = {
    0: Ending.OFF,
    75: Ending.RESET,
    76: Ending.DEEP_SLEEP,
    77: Ending.WATCHDOG,
}
"""What the firmware's exit codes mean."""


@dataclass(frozen=True, slots=True)
class Flash:
    """What is in a board's file system at first."""

    config: Mapping[str, Json]
    """config.json: links, sensors and actuators."""
    fakes: Mapping[str, Json] = field(default_factory=dict)
    """fakes.json: what the simulated chips and pins see."""


class FirmwareBoard:
    """One board: `run` it in a task, and do to it what happens to boards.

    What the firmware prints while nobody reads the port, or while it is unplugged, is lost, as it
    is on a UART; it never waits. Its stderr is logged at DEBUG. A board whose configuration has
    the link `ble` is on the virtual radio at `radio` as long as its process runs, and is not while
    it sleeps deeply; without the link `stdio` it has no port.
    """

    def __init__(  # noqa: PLR0913 each says something about the board
        self,
        path: Path,
        root: Path,
        flash: Flash,
        interpreter: Interpreter,
        *,
        plan: FaultPlan | None = None,
        heap_size: str = "",
        board_id: str = "",
        firmware: Path | None = None,
        radio: str = "",
    ) -> None:
        """Describe a board.

        Args:
            path: where its port appears.
            root: the folder that is its flash; made when it is missing, kept afterwards.
            flash: files to write there before the first start.
            interpreter: what runs the firmware.
            plan: what goes wrong on its wire.
            heap_size: limit of MicroPython's heap, such as `56K`.
            board_id: what the chip's unique id is, in hex; made of the port's name by default.
            firmware: a copy of `device_firmware` with drivers of your own; ours by default.
            radio: `VirtualRadio.board_address`; a board without one has no Bluetooth.
        """
        self.path = path
        self.root = root
        self.endings: Counter[Ending] = Counter()
        """How often the firmware ended, and why; each but OFF was followed by a start."""
        reactions = {LinkAction.RESTART: self.cut_power, LinkAction.KILL: self.reset}
        links = flash.config.get("links", ["stdio"])
        self._has_port = isinstance(links, list) and "stdio" in links
        port = PtyPort(path)
        self.wire = Wire(port, self._on_input, plan, reactions, has_port=self._has_port)
        self._name = path.name
        self._flash = flash
        self._interpreter = interpreter
        self._heap_size = heap_size
        self._firmware = firmware
        board_id = board_id or hashlib.sha256(self._name.encode()).hexdigest()[:12]
        self._environment = {**os.environ, "BOARD_ID": board_id, "BOARD_LOG": "1"}
        if radio:
            self._environment["BOARD_RADIO"] = radio
        self._child: ChildProcess | None = None
        self._forced: Ending | None = None
        """How the present life is being ended from outside."""
        self._was_cut = True
        """Whether it was without power before its next life."""
        self._wake = asyncio.Event()

    @property
    def chip_id(self) -> str:
        """What the chip's unique id is, in hex."""
        return self._environment["BOARD_ID"]

    @property
    def radio_address(self) -> str:
        """What it has for an address on the radio: its id + 2, as an ESP32's Bluetooth has."""
        *base, last = bytes.fromhex(self.chip_id)[-6:]
        return ":".join(f"{octet:02X}" for octet in (*base, (last + 2) & 0xFF))

    @property
    def pid(self) -> int:
        """Process id of the firmware; 0 while it does not run."""
        return 0 if self._child is None else self._child.pid or 0

    @property
    def input_dropped(self) -> int:
        """Bytes of the gateway that the firmware, in its present life, did not read in time."""
        return 0 if self._child is None else self._child.input_dropped

    @property
    def restarts(self) -> int:
        """How often the firmware was started again."""
        return self.endings.total() - self.endings[Ending.OFF]

    async def run(self) -> None:
        """Be switched on until the firmware switches itself off, or until cancelled.

        Raises:
            ConfigError: the firmware is missing.
            LinkError: the interpreter or the port cannot be had.
        """
        folder = self._firmware or firmware_folder()
        command = self._interpreter.command(folder, self.root, self._heap_size)
        backoff = Backoff(base_s=0.2, cap_s=10.0)
        try:
            await asyncio.to_thread(self._write_flash)
            self.wire.open()
            while True:
                started_s = asyncio.get_running_loop().time()
                ending = await self._live(command)
                self.endings[ending] += 1
                if ending is Ending.OFF:
                    return
                lasted_s = asyncio.get_running_loop().time() - started_s
                if lasted_s > _STEADY_S:
                    backoff.reset()
                await self._sleep(await self._pause_s(ending, lasted_s, backoff))
        except OSError as exc:
            raise LinkError(f"simulated board {self._name}: {exc.strerror or exc}") from exc
        finally:
            self.wire.close()

    def cut_power(self) -> None:
        """Cut the power for a moment: what is not in its flash is gone."""
        self._forced = Ending.POWER_CUT
        self._wake.set()
        if self._child is not None:
            self._child.kill()

    def reset(self) -> None:
        """Reset it amid whatever it does: what is in its RTC memory stays; nothing if it is off."""
        if self._child is not None:
            self._forced = self._forced or Ending.KILLED
            self._child.kill()

    def write_fakes(self, fakes: Mapping[str, Json]) -> None:
        """Change what the chips and pins see, while it runs; blocks for a file of some bytes."""
        _replace(self.root / "fakes.json", fakes)

    async def _live(self, command: list[str]) -> Ending:
        """Run the firmware once; say how it ended."""
        child = self._child = ChildProcess(self._name, self.wire.send)
        if self._was_cut:
            self._was_cut = False
            command = [*command, _WITHOUT_POWER]
        try:
            await child.start(command, self._environment)
            if self._forced is not None:
                child.kill()
            await child.ended.wait()
        finally:
            if not self._has_port:
                child.kill()  # nobody reads the line whose end would tell it to stop
            await child.stop(_STOP_TIMEOUT_S)
            self._child = None
        if self._forced is not None:
            ending, self._forced = self._forced, None
            return ending
        ending = _EXIT_CODES.get(child.exit_code or 0, Ending.CRASH)
        if ending is Ending.CRASH:
            _log.warning("simulated board %s crashed: %s", self._name, child.last_words())
        return ending

    async def _pause_s(self, ending: Ending, lasted_s: float, backoff: Backoff) -> float:
        """Return how long the board stays off."""
        match ending:
            case Ending.CRASH:
                return backoff.next_delay_s()
            case Ending.RESET | Ending.WATCHDOG if lasted_s < _SHORT_S:
                if backoff.attempt == _SUSPICIOUS_STARTS:
                    where = self.root / "crash.txt"
                    _log.warning("simulated board %s keeps resetting: see %s", self._name, where)
                return backoff.next_delay_s()
            case Ending.DEEP_SLEEP:
                return await asyncio.to_thread(self._sleep_s)
            case Ending.POWER_CUT:
                self._was_cut = True
        return 0.0

    async def _sleep(self, pause_s: float) -> None:
        """Wait, unless the power is cut meanwhile: then a board starts at once."""
        self._wake.clear()
        if pause_s > 0 and self._forced is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
        if self._forced is not None:
            self._forced = None
            self.endings[Ending.POWER_CUT] += 1
            self._was_cut = True

    def _on_input(self, data: bytes) -> None:
        if self._child is not None:
            self._child.write(data)

    def _write_flash(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        _replace(self.root / "config.json", self._flash.config)
        _replace(self.root / "fakes.json", self._flash.fakes)

    def _sleep_s(self) -> float:
        milliseconds = json.loads((self.root / "sleep.json").read_bytes())["ms"]
        return math.inf if milliseconds is None else milliseconds / 1000


def _replace(path: Path, content: Mapping[str, Json]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(path)
