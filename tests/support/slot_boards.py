"""Boards with slots: the compiled firmware under MicroPython, as `edge-gateway flash` leaves it."""

from collections.abc import Mapping
from pathlib import Path

from gateway.bundle.bundle import Bundle
from gateway.own_bundle import build_firmware, own_bundle
from gateway.simulate.boards import FirmwareBoard, Flash, Json
from gateway.simulate.firmware import Interpreter, firmware_folder
from gateway.simulate.slots import lay_out

_IDENTITY = "board/identity.py"


def newer_firmware(folder: Path, changed: int = 0, **appended: str) -> Bundle:
    """Return the firmware as a newer version, about so many bytes of it in files that are others.

    `appended` is added to modules: `board__app="..."` to board/app.py.
    """
    own = own_bundle()
    texts = {f"{name.replace('__', '/')}.py": text for name, text in appended.items()}
    left = changed
    for path, content in sorted(own.files.items(), key=lambda each: -len(each[1])):
        if path.startswith("board/") and len(content) <= left:
            texts[path.replace(".mpy", ".py")] = "_NEW = 1"
            left -= len(content)
    texts.setdefault(_IDENTITY, "")
    for name, text in texts.items():
        source = (firmware_folder() / name).read_text(encoding="utf-8")
        if name == _IDENTITY:
            source = source.replace('FIRMWARE = "', 'FIRMWARE = "1.')
        module = folder / "firmware" / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(f"{source}\n{text}\n", encoding="utf-8")
    compiled = build_firmware(folder / "firmware")
    return Bundle.firmware(compiled.version, {**own.files, **compiled.files})


def changed_bytes(old: Bundle, new: Bundle) -> int:
    """Return how much of `new` a board with `old` does not have."""
    return sum(len(data) for path, data in new.files.items() if old.files.get(path) != data)


def slot_boards(
    folder: Path,
    count: int,
    interpreter: Interpreter,
    config: Mapping[str, Json],
    key: bytes = b"",
) -> list[FirmwareBoard]:
    """Return boards that run our own firmware from slot a, not switched on yet."""
    bundle = own_bundle()
    boards = []
    for number in range(count):
        root = folder / f"flash-{number}"
        lay_out(root, bundle.manifest, bundle.files, key)
        flash = Flash({**config, "name": f"board {number}"})
        boards.append(FirmwareBoard(folder / f"tty{number}", root, flash, interpreter))
    return boards
