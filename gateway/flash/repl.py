"""A board at MicroPython's raw REPL: the only module that imports mpremote.

mpremote's own text calls its interface one that will change, so the releases are pinned, and what
it raises and prints ends here.
"""

import ast
import contextlib
import fcntl
import io
import struct
import termios
import time
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from typing import Any, Final

from gateway.errors import FlashError

BAUDRATE: Final = 115_200

CHUNK_BYTES: Final = 1024
"""Of a file at once: as base64 it fits a board's memory beside all else, whatever its heap."""

HASHES: Final = 16
"""Files whose hashes are asked for at once: each question costs some 50 ms of waiting."""

READ_S: Final = 5.0
"""A board that says nothing for so long in the middle of an answer is gone."""

PATIENCE_S: Final = 2.0
"""MicroPython answers at once, unless a program of somebody's is busy."""

_PROMPT: Final = b">>> "
_ENTER_S: Final = 6.0
_WINDOW_S: Final = 4.0
"""Our main.py takes Ctrl-C for 1.5 s after a reset; an ESP32 is there after half a second."""
_CTRL_C_EVERY_S: Final = 0.1
_RESET_S: Final = 0.1

_FACTS = """\
import sys,os
try:
 import machine
 u=machine.unique_id()
except (ImportError,AttributeError):
 u=b''
try:
 s=os.statvfs(os.getcwd())
 s,b=s[0]*s[3],s[0]
except (AttributeError,OSError):
 s,b=-1,0
i=sys.implementation
print(repr((i[0],tuple(i[1])[:3],getattr(i,'_mpy',0),getattr(i,'_machine',''),sys.platform,u,s,b)))
"""

_HELPERS = """\
import os
from binascii import a2b_base64 as D,hexlify
from hashlib import sha256
def T(p):
 try:
  return os.stat(p)[0]&0x4000 and 2 or 1
 except OSError:
  return 0
def R(p):
 if T(p)==2:
  for e in list(os.ilistdir(p)):
   R(p+'/'+e[0])
  os.rmdir(p)
 elif T(p):
  os.remove(p)
def L(p):
 if T(p)==2:
  for e in os.ilistdir(p):
   L(p+'/'+e[0])
 elif T(p):
  print(p)
def M(p):
 if T(p)!=2:
  R(p)
  os.mkdir(p)
def W(p,m,d):
 with open(p,m) as f:
  f.write(D(d))
def H(p):
 h=sha256()
 try:
  with open(p,'rb') as f:
   while 1:
    b=f.read(512)
    if not b:
     break
    h.update(b)
 except OSError:
  return ''
 return hexlify(h.digest()).decode()
"""

_FAILURES = (OSError, struct.error, ValueError, SyntaxError, AssertionError)
"""What mpremote lets pass beside its own errors, of a line that is lost or says something else."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a board says of itself."""

    implementation: str
    version: tuple[int, ...]
    mpy: int
    """Version of its bytecode."""
    machine: str
    platform: str
    unique_id: bytes
    free_bytes: int
    """Of its file system; -1 if it does not know."""
    block_bytes: int = 0
    """What a file takes is a multiple of it; 0 if it does not know."""

    @property
    def board_id(self) -> str:
        """What its HELLO will call it, as `device_firmware/board/identity.py` has it."""
        return f"{self.platform}-{self.unique_id.hex()}"


def check_installed() -> None:
    """See that mpremote is there.

    Raises:
        FlashError: it is not.
    """
    if find_spec("mpremote") is None:
        raise FlashError(
            "mpremote is not there: pip install 'edge-gateway[flash]', into the environment of "
            "edge-gateway"
        )


class Repl:
    """A board whose program was interrupted, until `close`. Everything blocks.

    Each method raises FlashError when the board stops answering, or refuses.
    """

    def __init__(self, path: str) -> None:
        """Open the port.

        Raises:
            FlashError: it does not open, or there is no mpremote.
        """
        self._path = path
        check_installed()
        # Only here, so that whoever has not installed it can read the help.
        from mpremote.transport import TransportError, TransportExecError  # noqa: PLC0415
        from mpremote.transport_serial import SerialTransport  # noqa: PLC0415

        self._refused: type[Exception] = TransportExecError
        self._failed: tuple[type[Exception], ...] = (TransportError, *_FAILURES)
        with self._translated("open the port"):
            self._transport = SerialTransport(path, BAUDRATE, timeout=READ_S)

    def enter(
        self, say: Callable[[str], None] = lambda _text: None, patience_s: float = PATIENCE_S
    ) -> None:
        """Get to the prompt: interrupt what runs, or reset the board and interrupt that.

        `patience_s` is for a board that is on its way there by itself.

        Raises:
            FlashError: no MicroPython answers.
        """
        is_there = self._interrupt(patience_s)
        if not is_there and self._reset_by_lines():
            say("no prompt: the board was reset")
            is_there = self._interrupt(_WINDOW_S)
        if not is_there:
            raise FlashError(f"{self._path}: no prompt of MicroPython comes")
        with self._translated("reach MicroPython's raw prompt"):
            self._transport.enter_raw_repl(soft_reset=True, timeout_overall=_ENTER_S)
        self._run(_HELPERS, "prepare the board")

    def facts(self) -> Facts:
        """Return what the board says of itself."""
        return Facts(*self._value(_FACTS))

    def read(self, path: str, longest: int) -> bytes | None:
        """Return a file of the board, at most so many bytes of it; None if there is none."""
        script = f"print(repr(T({path!r})==1 and open({path!r},'rb').read({longest})))"
        found = self._value(script)
        return found if isinstance(found, bytes) else None

    def list_files(self, path: str) -> list[str]:
        """Return the files below a folder."""
        return self._run(f"L({path!r})", f"list {path}").decode().split()

    def wrong_files(
        self, files: Mapping[str, bytes], progress: Callable[[int], None]
    ) -> dict[str, bytes]:
        """Return those of the files that the board has not exactly so; `progress` counts them."""
        wrong = {}
        names = list(files)
        for start in range(0, len(names), HASHES):
            some = names[start : start + HASHES]
            said = self._run(f"for p in {some!r}:\n print(H(p))", "read its files")
            hashes = said.decode().split("\r\n" if b"\r\n" in said else "\n")
            for name, found in zip(some, hashes, strict=False):
                if found != sha256(files[name]).hexdigest():
                    wrong[name] = files[name]
            progress(start + len(some))
        return wrong

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all in it; nothing if there is none."""
        self._run(f"R({path!r})", f"remove {path}")

    def make_folders(self, names: Iterable[str]) -> None:
        """Make the folders that these files are to be in."""
        folders = {
            name.rsplit("/", depth)[0] for name in names for depth in range(1, name.count("/") + 1)
        }
        self._run("".join(f"M({folder!r})\n" for folder in sorted(folders)), "make folders")

    def write(self, name: str, data: bytes, progress: Callable[[int], None]) -> None:
        """Write a file into a folder that is there; `progress` hears of each so many bytes."""
        for start in range(0, max(len(data), 1), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            mode = "ab" if start else "wb"
            text = b2a_base64(chunk, newline=False)
            self._run(f"W({name!r},{mode!r},{text!r})", f"write {name}")
            progress(len(chunk))

    def reset(self) -> None:
        """Restart the board, which then runs what it has; the port is closed."""
        with self._translated("reset"):
            self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
            time.sleep(_RESET_S)
        self.close()

    def restart(self) -> None:
        """Have the board run what it has, at whatever prompt it is; the port is closed."""
        with contextlib.suppress(OSError):  # it is gone
            self._transport.serial.write(b"\r\x03\x02")  # out of what runs and of the raw REPL
            time.sleep(_RESET_S)
            self._transport.serial.write(b"\rimport machine; machine.reset()\r\x04")
            time.sleep(_RESET_S)
        self.close()

    def close(self) -> None:
        """Let go of the port."""
        with contextlib.suppress(OSError):
            self._transport.close()

    def _reset_by_lines(self) -> bool:
        """Pull the reset line, if the port has one: RTS up and DTR down resets an ESP32."""
        both = termios.TIOCM_RTS | termios.TIOCM_DTR
        try:
            for level in (termios.TIOCM_RTS, both):
                descriptor = self._transport.serial.fileno()
                fcntl.ioctl(descriptor, termios.TIOCMSET, struct.pack("I", level))
                time.sleep(_RESET_S)
        except OSError:  # a pty has no such lines, native USB may be gone for a moment
            return False
        return True

    def _interrupt(self, seconds: float) -> bool:
        """Send Ctrl-C, and Ctrl-B for who was left in the raw REPL, until the prompt comes."""
        deadline_s = time.monotonic() + seconds
        said = b""
        with self._translated("interrupt what runs"):
            while time.monotonic() < deadline_s:
                self._transport.serial.write(b"\x03\x02")
                time.sleep(_CTRL_C_EVERY_S)
                if waiting := self._transport.serial.in_waiting:
                    said = said[-len(_PROMPT) :] + self._transport.serial.read(waiting)
                    if _PROMPT in said:
                        return True
        return False

    def _run(self, script: str, doing: str) -> bytes:
        with self._translated(doing):
            said = self._transport.exec(script)
        return bytes(said)

    def _value(self, script: str) -> Any:  # noqa: ANN401 - whatever the script prints
        with self._translated("say what it is"):
            return ast.literal_eval(self._transport.exec(script).decode())

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it did not expect
                yield
        except self._refused as exc:
            lines = str(exc).strip().splitlines() or ["no reason"]
            raise FlashError(f"{self._path}: the board cannot {doing}: {lines[-1]}") from exc
        except self._failed as exc:
            raise FlashError(f"{self._path}: cannot {doing}: {exc}") from exc
