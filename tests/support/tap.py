"""Somebody on the wire: hears all that a board and its gateway say, and may say it again."""

import asyncio
import os
import tty
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.protocol.frames import Frame, open_frame
from gateway.protocol.lines import LineSplitter
from gateway.simulate.pty_port import PtyPort

if TYPE_CHECKING:
    from collections.abc import Callable


class Tap:
    """Stands between the port of a board and the one a gateway opens; by callbacks of the loop."""

    def __init__(self, board: Path, gateway: Path) -> None:
        self.to_board: list[bytes] = []
        """Lines of the gateway, without their newline."""
        self.to_gateway: list[bytes] = []
        self.on_frame: Callable[[Frame, bool], bool] = lambda _frame, _is_to_board: True
        """Asked for each frame, and whether it goes to the board; False has it vanish."""
        self._board = board
        self._port = PtyPort(gateway)
        self._descriptor = -1
        self._splitters = LineSplitter(), LineSplitter()
        self._changed = asyncio.Event()

    def open(self) -> None:
        """Begin; the board's port is there."""
        loop = asyncio.get_running_loop()
        self._descriptor = os.open(self._board, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._descriptor)
        self._port.plug()
        loop.add_reader(self._descriptor, self._from_board)
        loop.add_reader(self._port.fileno(), self._from_gateway)

    def close(self) -> None:
        """Take both ports away."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        loop.remove_reader(self._port.fileno())
        os.close(self._descriptor)
        self._port.unplug()

    def release(self) -> None:
        """Let another gateway have the port of one that was killed."""
        self._port.release()

    def say_to_board(self, line: bytes) -> None:
        """Say a line as the gateway would."""
        os.write(self._descriptor, line + b"\n")

    def count(self, kind: int) -> int:
        """Return how many frames of that type the board has said."""
        return sum(kind_of(line) == kind for line in self.to_gateway)

    async def until_more(self, kind: int, than: int) -> None:
        """Wait until the board has said more frames of that type."""
        while self.count(kind) <= than:
            self._changed.clear()
            await self._changed.wait()

    def sealed_to_board(self) -> list[bytes]:
        """Return the lines of all sealed frames that the gateway said."""
        return [line for line in self.to_board if (kind_of(line) or 0) & 0x80]

    def _from_board(self) -> None:
        for line in self._splitters[0].feed(os.read(self._descriptor, 65_536)):
            self.to_gateway.append(line)
            self._changed.set()
            if self._passes(line, is_to_board=False):
                self._port.write(line + b"\n")

    def _from_gateway(self) -> None:
        for line in self._splitters[1].feed(self._port.read()):
            self.to_board.append(line)
            if self._passes(line, is_to_board=True):
                self.say_to_board(line)

    def _passes(self, line: bytes, *, is_to_board: bool) -> bool:
        frame = open_frame(line)
        return not isinstance(frame, Frame) or self.on_frame(frame, is_to_board)


def kind_of(line: bytes) -> int | None:
    """Return the type of the frame a line is; None for text."""
    frame = open_frame(line)
    return frame.type if isinstance(frame, Frame) else None
