"""What can be done to a machine: each action is a value that says in words what it does."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from gateway.install.source import Source


@dataclass(frozen=True, slots=True)
class Folder:
    """Make a folder, with those above it; one that is there keeps its rights."""

    path: PurePosixPath
    mode: int = 0o755

    def __str__(self) -> str:
        return f"make the folder {self.path}"


@dataclass(frozen=True, slots=True)
class File:
    """Put a file in the place of another, or of none; whole, whenever the power fails."""

    path: PurePosixPath
    content: bytes = field(repr=False)
    mode: int = 0o644

    def __str__(self) -> str:
        return f"write {self.path} ({len(self.content)} bytes)"


@dataclass(frozen=True, slots=True)
class Link:
    """Put a symbolic link in the place of another, in one step."""

    path: PurePosixPath
    target: str

    def __str__(self) -> str:
        return f"link {self.path} -> {self.target}"


@dataclass(frozen=True, slots=True)
class Environment:
    """Copy what runs now into an environment of its own, which is there when it is whole."""

    path: PurePosixPath
    source: Source = field(repr=False)

    def __str__(self) -> str:
        megabytes = sum(each.size_bytes for each in self.source.files) / 1e6
        return (
            f"make the environment {self.path}: {self.source.python}, "
            f"{len(self.source.files)} files, {megabytes:.0f} MB"
        )


@dataclass(frozen=True, slots=True)
class Command:
    """Run a program. Words that are paths are those of the machine, wherever it is made."""

    words: tuple[str | PurePosixPath, ...]
    is_needed: bool = True
    """Whether its failure ends it all."""
    timeout_s: float = 90.0

    def __str__(self) -> str:
        return f"run {shlex.join(map(str, self.words))}"


@dataclass(frozen=True, slots=True)
class Removal:
    """Remove a file, a link or a folder with all that is in it; one that is not there is fine."""

    path: PurePosixPath

    def __str__(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True, slots=True)
class Tidying:
    """Remove folders that are empty now, the inner ones first."""

    paths: tuple[PurePosixPath, ...]

    def __str__(self) -> str:
        return f"remove, if empty: {' '.join(map(str, self.paths))}"


@dataclass(frozen=True, slots=True)
class Remark:
    """Do nothing, and say so."""

    text: str

    def __str__(self) -> str:
        return self.text


Action = Folder | File | Link | Environment | Command | Removal | Tidying | Remark


def systemctl(*words: str, is_needed: bool = True, timeout_s: float = 90.0) -> Command:
    """Return a command to systemd."""
    return Command(("systemctl", *words), is_needed, timeout_s)


def lines(actions: Sequence[Action]) -> list[str]:
    """Return what a dry run prints."""
    return [str(each) for each in actions]
