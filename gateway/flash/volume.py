"""A Pico whose BOOTSEL button was held: a drive, onto which an image is copied."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import FlashError
from gateway.flash.chips import PICOS, Pico
from gateway.flash.uf2 import Uf2Image

INFO: Final = "INFO_UF2.TXT"
MOUNTS: Final = Path("/proc/self/mounts")

GONE_S: Final = 30.0
"""The drive goes as soon as the last block is there, and the board starts."""

_STEP_S: Final = 0.1
_PIECE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Volume:
    """A drive that is a Pico's boot loader."""

    path: Path
    board_id: str
    pico: Pico


def find_volumes(mounts: Path = MOUNTS) -> list[Volume]:
    """Return the drives of Picos that are mounted."""
    found = []
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split(" ")
        if len(words) > 2 and words[2] in {"vfat", "msdos", "fuseblk"}:  # noqa: PLR2004 device, folder, kind
            volume = volume_at(Path(_unescaped(words[1])))
            found += [volume] if volume is not None else []
    return found


def volume_at(folder: Path) -> Volume | None:
    """Return the Pico whose drive `folder` is; None if it is none."""
    try:
        text = (folder / INFO).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    match = re.search(r"^Board-ID: *(\S+)", text, re.MULTILINE)
    for beginning, pico in PICOS.items():
        if match is not None and match[1].startswith(beginning):
            return Volume(folder, match[1], pico)
    return None


def check_pico(image: Uf2Image, volume: Volume, where: str) -> None:
    """See that the image is for the chip of that drive.

    Raises:
        FlashError: it is for another.
    """
    if image.pico != volume.pico:
        raise FlashError(
            f"{where}: for an {image.pico.name}, and {volume.path} is an {volume.pico.name} "
            f"({volume.board_id}): nothing was written; {volume.pico.advice}"
        )


def copy_image(data: bytes, volume: Volume, name: str) -> None:
    """Copy the image onto the drive, which goes when all of it is there; blocks.

    Raises:
        FlashError: it could not be written, or the board did not take it.
    """
    path = volume.path / name
    done = 0
    try:
        # As it is, and not by way of a draft: each block is written to the flash as it comes.
        with path.open("wb", buffering=0) as file:
            while done < len(data):
                done += file.write(data[done : done + _PIECE_BYTES]) or 0
            os.fsync(file.fileno())
    except OSError as exc:
        if done < len(data):
            raise FlashError(
                f"{path}: {exc.strerror} after {done} of {len(data)} bytes: hold BOOTSEL, plug "
                "the board in again, and try again"
            ) from exc  # else the board was off before the last of it was acknowledged
    deadline_s = time.monotonic() + GONE_S
    while volume_at(volume.path) is not None:
        if time.monotonic() > deadline_s:
            raise FlashError(
                f"{volume.path}: the board is still in its boot loader {GONE_S:.0f} s after all "
                "was written: it did not take the image; get it anew"
            )
        time.sleep(_STEP_S)


def no_volume(found: Sequence[str]) -> str:
    """Return how a Pico gets to be a drive; `found` are ports that are there."""
    ports = f" (there are the ports {', '.join(found)})" if found else ""
    return (
        f"no drive of a Pico is mounted{ports}: unplug it, hold BOOTSEL, plug it in, let go; where "
        "drives are not mounted by themselves: sudo mount -o uid=$USER "
        "/dev/disk/by-label/RPI-RP2 /mnt (a Pico 2: RP2350)"
    )


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
