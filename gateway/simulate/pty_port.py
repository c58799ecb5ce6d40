"""A serial port made of a pseudo terminal, that can be plugged in and pulled out."""

import contextlib
import fcntl
import os
import termios
import tty
from pathlib import Path

_READ_SIZE = 4096
"""Bytes asked for per read; a pty hands out no more at once."""


class PtyPort:
    """The board's end of a serial line; the gateway opens `link_path`.

    The link is stable, as udev's by-id links are: the pty behind it is another one after each
    `plug`. Two descriptors while plugged; `fileno` is the board's, non-blocking, for add_reader.
    """

    def __init__(self, link_path: Path | str) -> None:
        self.link_path = Path(link_path)
        self._board = -1
        self._held = -1
        """The gateway's end, held open: without it the board's end reports a hangup at once."""

    @property
    def is_plugged(self) -> bool:
        """Whether there is a pty behind the link."""
        return self._board >= 0

    @property
    def device(self) -> str:
        """Path of the pty, as the kernel names it; empty while unplugged."""
        return os.ttyname(self._held) if self.is_plugged else ""

    def fileno(self) -> int:
        """Return the board's descriptor; -1 while unplugged."""
        return self._board

    def plug(self) -> None:
        """Make a new pty and point the link at it; nothing if there is one."""
        if self.is_plugged:
            return
        self._board, self._held = os.openpty()
        tty.setraw(self._held)  # no echo while nobody has opened it yet
        os.set_blocking(self._board, False)
        fresh = self.link_path.with_name(f".{self.link_path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(os.ttyname(self._held))
        fresh.replace(self.link_path)

    def unplug(self) -> None:
        """Take the port away: whoever has it open gets a hangup; nothing if it is not there."""
        if not self.is_plugged:
            return
        with contextlib.suppress(FileNotFoundError):
            self.link_path.unlink()
        os.close(self._board)
        os.close(self._held)
        self._board = self._held = -1

    def read(self) -> bytes:
        """Return what the gateway has sent; empty if nothing waits."""
        try:
            return os.read(self._board, _READ_SIZE)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> int:
        """Send to the gateway; return how many bytes the line took, fewer if nobody reads."""
        try:
            return os.write(self._board, data)
        except BlockingIOError:
            return 0

    def release(self) -> None:
        """End the exclusive mode of a gateway that was killed, if no other has the port by now.

        A real port forgets that mode with its last close; this one is held open. A live gateway
        holds a lock, so it keeps its mode.
        """
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.ioctl(self._held, termios.TIOCNXCL)
            fcntl.flock(self._held, fcntl.LOCK_UN)
