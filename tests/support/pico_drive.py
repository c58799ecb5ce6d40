"""A Pico whose BOOTSEL button is held: a folder like its drive, which goes when it has its image.

The file that the image is copied to is a FIFO, so the boot loader sees each block as it is written,
as the real one does, and waits for no time.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.support.bare_board import BareBoard

_INFO = "UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n"


class PicoDrive:
    """The drive, while the context lasts; the board behind it starts once it has its image."""

    def __init__(self, folder: Path, image_bytes: int, board: Callable[[], BareBoard]) -> None:
        """`image_bytes` is the size of the image with which it starts as `board`."""
        self.folder = folder
        self.written = b""
        """What was copied onto it."""
        self._info = folder / "INFO_UF2.TXT"
        self._file = folder / "MICROPY.UF2"
        self._image_bytes = image_bytes
        self._make_board = board
        self._board: BareBoard | None = None
        self._thread = threading.Thread(target=self._run, name="pico drive")

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._info.write_text(_INFO, encoding="ascii")
        os.mkfifo(self._file)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._thread.is_alive():  # nobody wrote: end the wait for it
            os.close(os.open(self._file, os.O_WRONLY | os.O_NONBLOCK))
        self._thread.join()
        if self._board is not None:
            self._board.__exit__()

    @property
    def is_gone(self) -> bool:
        """Whether it started from its image."""
        return not self._info.exists()

    def _run(self) -> None:
        self.written = self._file.read_bytes()
        if len(self.written) >= self._image_bytes:
            self._info.unlink()
            self._board = self._make_board().__enter__()
