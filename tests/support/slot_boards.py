"""Boards with slots: the compiled firmware under MicroPython, as `edge-gateway flash` leaves it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from gateway.bundle.bundle import Bundle
from gateway.own_bundle import build_firmware, own_bundle
from gateway.simulate.boards import FirmwareBoard, Flash, Json
from gateway.simulate.firmware import Interpreter, firmware_folder
from gateway.simulate.slots import lay_out


def newer_firmware(folder: Path, changed_bytes: int = 0, **appended: str) -> Bundle:
    """Return the firmware as version 0.2.0, so many bytes of it in files that are other ones.

    `appended` is added to modules: `board__app="..."` to board/app.py.
    """
    copy = folder / "firmware"
    shutil.copytree(firmware_folder(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    identity = copy / "board" / "identity.py"
    identity.write_text(identity.read_text().replace('FIRMWARE = "', 'FIRMWARE = "1.'))
    for name, text in appended.items():
        module = copy / f"{name.replace('__', '/')}.py"
        module.write_text(f"{module.read_text()}\n{text}\n")
    left = changed_bytes
    for path, content in sorted(own_bundle().files.items(), key=lambda each: -len(each[1])):
        if left <= 0:
            break
        if len(content) <= left and path.startswith("board/"):
            source = copy / path.replace(".mpy", ".py")
            source.write_text(f"{source.read_text()}\n_NEW = 1\n")
            left -= len(content)
    return build_firmware(copy)


def changed_bytes(old: Bundle, new: Bundle) -> int:
    """Return how much of `new` a board with `old` does not have."""
    return sum(len(data) for path, data in new.files.items() if old.files.get(path) != data)


def slot_boards(
    folder: Path, count: int, interpreter: Interpreter, config: Mapping[str, Json]
) -> list[FirmwareBoard]:
    """Return boards that run our own firmware from slot a, not switched on yet."""
    bundle = own_bundle()
    boards = []
    for number in range(count):
        root = folder / f"flash-{number}"
        lay_out(root, bundle.manifest, bundle.files)
        flash = Flash({**config, "name": f"board {number}"})
        boards.append(FirmwareBoard(folder / f"tty{number}", root, flash, interpreter))
    return boards
