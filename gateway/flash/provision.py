"""The firmware onto a board with MicroPython: look, write, verify, restart, hear it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from gateway.errors import FlashError
from gateway.flash.chips import OLDEST
from gateway.flash.layout import SLOT, STALE, START, Layout
from gateway.flash.line import BoardLine, await_hello
from gateway.flash.repl import PATIENCE_S, Facts, Repl
from gateway.protocol.guard import Keys
from gateway.protocol.message_values import Hello

MPY: Final = 6

HELLO_S: Final = 20.0
"""main.py waits for 1.5 s, and the program starts within three; a USB port may come back later."""

_LEAVE_S: Final = 10.0
"""Our firmware delivers what it has for up to 3 s before it restarts."""

_SPARE_BYTES: Final = 16 * 1024
"""What a board needs beside its files, to keep state; an update needs room for a second slot."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done, for a progress bar."""

    name: str
    done: int = 0
    total: int = 0
    """0 where there is no telling."""


Progress = Callable[[Step], None]


def open_board(path: str, keys: Keys, progress: Progress) -> Repl:
    """Return the board at its REPL, whatever runs on it now.

    Our own firmware takes no Ctrl-C, and is asked to leave; anything else is interrupted.

    Raises:
        FlashError: the port does not open, or no MicroPython answers there.
    """
    progress(Step("look who is there"))
    is_leaving = False
    with BoardLine(path) as line:
        hello = line.ask_who()
        if hello is not None:
            progress(Step(f"{hello.name or hello.id} runs our firmware: asking it to leave"))
            try:
                line.leave_for_repl(hello, keys)
                is_leaving = True
            except FlashError as exc:  # a reset may still bring us there
                progress(Step(f"{exc}"))
    repl = Repl(path)
    try:
        repl.enter(lambda text: progress(Step(text)), _LEAVE_S if is_leaving else PATIENCE_S)
    except BaseException as exc:
        repl.restart()
        if not isinstance(exc, FlashError):
            raise
        raise NoMicroPythonError(
            f"{path}: no MicroPython answers there ({exc})", is_ours=hello is not None
        ) from exc
    return repl


class NoMicroPythonError(FlashError):
    """Nothing at the port is MicroPython, or lets itself be interrupted."""

    def __init__(self, text: str, *, is_ours: bool) -> None:
        super().__init__(text)
        self.is_ours = is_ours
        """Our firmware runs there, and did not let go."""


def check_facts(path: str, facts: Facts) -> None:
    """See that the firmware runs on this MicroPython.

    Raises:
        FlashError: it does not; says what to install.
    """
    version = ".".join(map(str, facts.version))
    if facts.implementation != "micropython":
        raise FlashError(
            f"{path}: expected MicroPython, found {facts.implementation} {version}: "
            "install MicroPython on it with --image"
        )
    if facts.version[:2] < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise FlashError(
            f"{path}: expected MicroPython {needed} or newer, found {version}: "
            "write a newer one with --image; it erases the board"
        )
    if facts.mpy & 0xFF != MPY:
        raise FlashError(
            f"{path}: expected bytecode version {MPY}, and this MicroPython {version} runs "
            f"{facts.mpy & 0xFF}: write another one with --image"
        )


def install(path: str, repl: Repl, layout: Layout, progress: Progress) -> None:
    """Make the board's files those of the layout, and nothing else that would run; verified.

    Raises:
        FlashError: there is no room, or a file is not what was written.
    """
    facts = repl.facts()
    check_facts(path, facts)
    looked = partial(_count, progress, "look what is there", len(layout.files))
    wrong = repl.wrong_files(layout.files, looked)
    wrong[START] = layout.files[START]
    for name in (START, *STALE):
        repl.remove(name)
    for name in repl.list_files(SLOT):
        if name not in layout.files:
            repl.remove(name)
    repl.make_folders(layout.files)
    _check_room(path, repl.facts(), wrong.values())
    _write(repl, wrong, progress)
    _verify(path, repl, layout, progress)


def _check_room(path: str, facts: Facts, files: Iterable[bytes]) -> None:
    """See that the files have room, in blocks as the file system counts."""
    block, free = max(facts.block_bytes, 1), facts.free_bytes
    needed = _SPARE_BYTES + sum((len(data) // block + 1) * block for data in files)
    if 0 <= free < needed:
        raise FlashError(
            f"{path}: its file system has {free // 1024} KB free, and {needed // 1024} KB are "
            "needed: remove files of yours from it, or write MicroPython anew with --image"
        )


def _write(repl: Repl, files: dict[str, bytes], progress: Progress) -> None:
    total, done = sum(map(len, files.values())), 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress(Step("write", done, total))

    for name, data in files.items():
        repl.write(name, data, count)


def _verify(path: str, repl: Repl, layout: Layout, progress: Progress) -> None:
    verified = partial(_count, progress, "verify", len(layout.files))
    if wrong := repl.wrong_files(layout.files, verified):
        repl.remove(START)  # nothing runs that is not whole
        raise FlashError(
            f"{path}: {next(iter(wrong))}: the board reads other bytes than were written to it: "
            "flash again; if it stays so, its flash is worn out"
        )


def _count(progress: Progress, name: str, total: int, done: int) -> None:
    progress(Step(name, done, total))


class Restartable(Protocol):
    """A board that can be restarted: `Repl`."""

    def reset(self) -> None:
        """Restart it; the port is closed."""


def restart(
    path: str, repl: Restartable, layout: Layout, progress: Progress, hello_s: float = HELLO_S
) -> Hello:
    """Restart the board, and return its HELLO.

    Raises:
        FlashError: no HELLO with the right manifest and key came.
    """
    repl.reset()
    progress(Step("restart"))
    hello = await_hello(path, hello_s, lambda hello: hello.manifest_hash == layout.manifest_hash)
    if hello.key_id != layout.key_id:
        raise FlashError(
            f"{path}: {hello.id} says its key is {hello.key_id or 'none'}, and "
            f"{layout.key_id or 'none'} was written: flash again"
        )
    return hello
