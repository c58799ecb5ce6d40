"""Espressif's esptool, run as a program of its own.

It is under the GPL, this gateway is not: it is never imported, and nothing of it is copied.
"""

import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gateway.errors import FlashError
from gateway.flash.chips import CHIPS, Chip

BAUDRATE: Final = 460_800
"""For writing; what a cable does not take, esptool says."""

SILENCE_S: Final = 180.0
"""It says something at least as often: to erase 16 MB takes a minute and more."""

_CONNECTED = re.compile(r"Connected to (\S+) on ")
_PERCENT = re.compile(r"Writing at .*?([0-9]{1,3})\.[0-9]%")
_VERIFIED = "Hash of data verified"
_KEPT_LINES: Final = 6

Say = Callable[[str, int], None]
"""Takes what is being done, and how many percent of it are."""


def find_chip(port: str) -> str:
    """Return what esptool calls the chip at `port`, such as ESP32-S3; the chip is reset.

    Raises:
        FlashError: none answers, or there is no esptool.
    """
    lines = list(_lines(["--port", port, "--connect-attempts", "3", "flash-id"], port))
    for line in lines:
        if found := _CONNECTED.search(line):
            return found[1]
    raise FlashError(f"{port}: esptool does not say which chip it found: {_end(lines)}")


def known_chip(port: str, name: str) -> Chip:
    """Return the chip of that name.

    Raises:
        FlashError: MicroPython has no image for it.
    """
    chip = CHIPS.get(name)
    if chip is None:
        raise FlashError(
            f"{port}: it is an {name}; MicroPython runs on {', '.join(CHIPS)}: take such a board"
        )
    return chip


def write_image(port: str, chip: Chip, image: Path, say: Say) -> None:
    """Erase the chip's flash, write the image and have it verified; the chip is reset.

    Raises:
        FlashError: it could not be written, or what the flash reads is something else.
    """
    arguments = ["--chip", chip.name.lower().replace("-", ""), "--port", port]
    arguments += ["--baud", str(BAUDRATE), "write-flash", "--erase-all", hex(chip.offset)]
    said = []
    for line in _lines([*arguments, str(image)], port):
        said.append(line)
        if percent := _PERCENT.search(line):
            say("write MicroPython", int(percent[1]))
        elif line.startswith("Erasing"):
            say("erase the flash", 0)
    if not any(_VERIFIED in line for line in said):
        raise FlashError(f"{port}: esptool does not say that it verified the image: {_end(said)}")


def _lines(arguments: Sequence[str], port: str) -> Iterator[str]:
    """Run esptool, and yield what it says, a line at a time."""
    if find_spec("esptool") is None:
        raise FlashError(
            "an ESP32 is written by esptool, and it is not there: pip install "
            "'edge-gateway[flash]', into the environment of edge-gateway"
        )
    program = subprocess.Popen(  # noqa: S603 our own interpreter, and a port's and a file's name
        [sys.executable, "-u", "-m", "esptool", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said: list[str] = []
    try:
        for line in _read_lines(program):
            said.append(line)
            yield line
        code = program.wait()
    except TimeoutError as exc:
        raise FlashError(
            f"{port}: esptool said nothing for {SILENCE_S:.0f} s, and was ended: {_end(said)}"
        ) from exc
    finally:
        program.kill()
        program.communicate()
    if code:
        raise FlashError(f"{port}: {_end(said)}{_hint(said)}")


def _read_lines(program: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield lines until the program ends; raises TimeoutError when it says nothing for long."""
    descriptor = program.stdout.fileno() if program.stdout is not None else -1
    rest = b""
    while True:
        if not select.select([descriptor], [], [], SILENCE_S)[0]:
            raise TimeoutError
        data = os.read(descriptor, 4096)
        *lines, rest = (rest + data).splitlines(keepends=True) or [b""]
        if not data or rest.endswith((b"\n", b"\r")):
            lines, rest = [*lines, rest], b""
        yield from (line.decode(errors="replace").strip() for line in lines)
        if not data:
            return


def _end(lines: Sequence[str]) -> str:
    """Return the reason it gave, or else its last lines."""
    for line in reversed(lines):
        _, is_there, reason = line.partition("fatal error occurred: ")
        if is_there:
            return f"esptool: {reason}"
    told = [line for line in lines if line][-_KEPT_LINES:]
    return "esptool: " + " / ".join(told) if told else "esptool says nothing"


def _hint(lines: Sequence[str]) -> str:
    text = " ".join(lines)
    if "Failed to connect" in text or "No serial data received" in text:
        return (
            ": hold the board's BOOT button, press its reset button, let both go, and try again; "
            "and see that the cable is not one for charging only"
        )
    if "MD5" in text or "digest" in text.lower():
        return ": the flash does not keep what is written to it; try again, then another board"
    return ""
