"""Does what was planned. Whenever the power fails, the machine starts as before or as after."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from gateway import files
from gateway.errors import GatewayError
from gateway.install.actions import (
    Action,
    Command,
    Environment,
    File,
    Folder,
    Link,
    Remark,
    Removal,
    Tidying,
)
from gateway.install.source import Source

_LAST_WORDS = 3
"""Lines of a program that failed which are told."""

_GROWTH: Final = 1.5
"""By how much an environment is larger than its files: their blocks, and what is compiled."""

_SCRIPT = """\
#!{python}
import sys
from gateway.cli import main
sys.exit(main())
"""

_PYVENV = """\
home = {home}
include-system-site-packages = false
version = {version}
executable = {executable}
"""


class Machine:
    """A machine that is worked on: this one, or a folder that becomes one."""

    def __init__(self, root: Path, say: Callable[[str], object]) -> None:
        self.root = root
        self._say = say

    def at(self, path: PurePosixPath) -> Path:
        """Return where a path of the machine is."""
        return self.root / path.relative_to("/")

    def do(self, actions: Sequence[Action]) -> None:
        """Do them in their order, and tell each before.

        Raises:
            GatewayError: one failed; those before it are done.
        """
        umask = os.umask(0o022)  # a stricter one would hide the programs from the service
        try:
            for action in actions:
                self._say(str(action))
                try:
                    self._do(action)
                except OSError as exc:
                    raise GatewayError(f"{action}: {exc.strerror or exc}") from exc
        finally:
            os.umask(umask)

    def run(self, command: Command) -> subprocess.CompletedProcess[str]:
        """Run a program to its end.

        Raises:
            GatewayError: it is not there, or did not end in time.
        """
        words = [self._word(each) for each in command.words]
        environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
        try:
            return subprocess.run(  # noqa: S603 - words of ours
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                timeout=command.timeout_s,
                check=False,
            )
        except FileNotFoundError:
            raise GatewayError(f"there is no {words[0]} here") from None
        except subprocess.TimeoutExpired:
            raise TookTooLongError(f"{command}: took over {command.timeout_s:g} s") from None

    def _word(self, word: str | PurePosixPath) -> str:
        return str(self.at(word)) if isinstance(word, PurePosixPath) else word

    def _do(self, action: Action) -> None:
        match action:
            case Folder(path, mode):
                files.make_folder(self.at(path), mode)
            case File(path, content, mode):
                files.write_atomically(self.at(path), content, mode)
            case Link(path, target):
                _link(self.at(path), target)
            case Environment(path, source):
                self._make_environment(path, source)
            case Command():
                self._command(action)
            case Removal(path):
                _remove(self.at(path))
            case Tidying(paths):
                for path in paths:
                    _remove_if_empty(self.at(path))
            case Remark():
                pass

    def _command(self, command: Command) -> None:
        try:
            ran = self.run(command)
        except GatewayError:
            if command.is_needed:
                raise
            return
        if ran.returncode and command.is_needed:
            said = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-_LAST_WORDS:]
            raise GatewayError("\n".join([f"{command}: exit status {ran.returncode}", *said]))

    def _make_environment(self, path: PurePosixPath, source: Source) -> None:
        """Copy into a folder beside it, which is given its name when all of it is on the disk."""
        final = self.at(path)
        files.make_folder(final.parent, 0o755)
        for left in final.parent.glob(".*.new"):
            shutil.rmtree(left)
        needed_bytes = round(sum(each.size_bytes for each in source.files) * _GROWTH)
        free_bytes = shutil.disk_usage(final.parent).free
        if free_bytes < needed_bytes:
            raise GatewayError(
                f"{path}: {needed_bytes >> 20} MB are needed, and {free_bytes >> 20} MB are free"
            )
        draft = final.with_name(f".{final.name}.new")
        try:
            write_environment(draft, path, source)
        except BaseException:  # the gateway that runs needs the room
            shutil.rmtree(draft, ignore_errors=True)
            raise
        # One sync of all for thousands of files: an fsync of each takes minutes on an SD card.
        os.sync()
        files.rename(draft, final)


class TookTooLongError(GatewayError):
    """A program did not end in its time."""


def write_environment(folder: Path, place: PurePosixPath, source: Source) -> None:
    """Write a virtual environment into `folder` that is to be used at `place`.

    Its commands name their Python by `place`; nothing else in it says where it is.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    (programs / "python3").symlink_to(source.python)
    (programs / "python").symlink_to("python3")
    (folder / "pyvenv.cfg").write_text(
        _PYVENV.format(
            home=source.python.parent, version=source.python_version, executable=source.python
        )
    )
    library = folder / source.library
    made: set[Path] = set()
    for each in source.files:
        target = library / each.inside
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        # With its time of change: compiled files are valid for that alone.
        shutil.copy2(each.path, target)
        target.chmod(0o755 if os.access(each.path, os.X_OK) else 0o644)
    if not any(each.inside.suffix == ".pyc" for each in source.files):
        _compile(source.python, library)
    script = programs / "edge-gateway"
    script.write_text(_SCRIPT.format(python=place / "bin" / "python3"))
    script.chmod(0o755)


def _compile(python: Path, library: Path) -> None:
    """Compile what pip has not: the service may not write, and would do so at each start."""
    words = [str(python), "-m", "compileall", "-q", str(library)]
    subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 - words of ours


def _link(path: Path, target: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    draft.symlink_to(target)
    files.rename(draft, path)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
    if path.parent.is_dir():
        files.sync_folder(path.parent)


def _remove_if_empty(path: Path) -> None:
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
