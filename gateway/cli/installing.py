"""What `install`, `upgrade` and `uninstall` share."""

import argparse
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from gateway.errors import ConfigError
from gateway.install.actions import Action, lines
from gateway.install.execute import Machine
from gateway.install.source import Source, refuse_a_hidden_python, running

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ROOT_HELP = "make the service in this folder, which becomes a machine's file system; start nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where, and whether to do anything."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help=ROOT_HELP)


def machine_of(arguments: argparse.Namespace) -> Machine:
    """Return where to work.

    Raises:
        ConfigError: only root may do that there.
    """
    root: Path = arguments.root.absolute()
    if not root.is_dir():
        raise ConfigError(f"--root {root}: there is no such folder")
    if root == Path("/") and os.geteuid() and not arguments.dry_run:
        raise ConfigError("only root may do that: try it with sudo, or with --dry-run")
    return Machine(root, say)


def say(line: str) -> None:
    """Print a line; what has begun goes on where nobody reads it any more."""
    with suppress(OSError):
        print(line, flush=True)


@contextmanager
def one_signal_heeded() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first signal to end, as when ssh is cut off, and at no other.

    What is taken back then must not be broken off by the next.
    """
    heeded = False

    def heed(_number: int, _frame: object) -> None:
        nonlocal heeded
        if not heeded:
            heeded = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, heed) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def what_runs(machine: Machine) -> Source:
    """Return what is to be installed: what runs here.

    Raises:
        ConfigError: it cannot be, or not on this Python.
    """
    source = running()
    if machine.root == Path("/"):
        refuse_a_hidden_python(source)
    elif not machine.at(PurePosixPath(source.python)).exists():
        print(f"note: {machine.root} has no {source.python} yet, which the service will need")
    return source


def tell(actions: Sequence[Action], nothing: str) -> None:
    """Print what would be done."""
    print("\n".join(lines(actions)) if actions else nothing)
