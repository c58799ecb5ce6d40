"""What runs now, as it would be copied: the gateway, what it needs, and its Python."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import Final

from gateway.errors import ConfigError

NAME: Final = "edge-gateway"
_NOT_FOR_A_SERVICE: Final = frozenset({"dev"})
"""Extras that are left behind; of the others comes along what is installed."""
_OUT_OF_REACH: Final = tuple(map(Path, ("/home", "/root", "/run", "/tmp", "/var/tmp")))  # noqa: S108 - where it may not be
"""What the service does not see. Source: ProtectHome=, PrivateTmp= in systemd.exec(5)."""
_OF_THE_ACT: Final = frozenset({"direct_url.json", "INSTALLER", "REQUESTED", "RECORD"})
"""What tells of an installation and not of what is installed."""
_REQUIREMENT: Final = re.compile(
    r"\s*(?P<name>[\w.-]+)\s*(?:\[(?P<extras>[^]]*)\])?(?P<rest>.*)", re.DOTALL
)
_EXTRA: Final = re.compile(r"extra\s*==\s*[\"']([^\"']+)[\"']")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of an installed package."""

    path: Path
    inside: PurePosixPath
    """Where it is in site-packages."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """All that makes up one version."""

    version: str
    key: str
    """Names it: the same key is the same files for the same Python."""
    python: Path
    python_version: str
    """Such as 3.11.2."""
    files: tuple[SourceFile, ...]

    @property
    def library(self) -> str:
        """Where site-packages are in the environment."""
        major, minor, *_ = self.python_version.split(".")
        return f"lib/python{major}.{minor}/site-packages"


def running() -> Source:
    """Return what this process runs from.

    Raises:
        ConfigError: it cannot be copied.
    """
    python = base_python(Path(sys._base_executable))  # type: ignore[attr-defined]  # noqa: SLF001 - what venv itself uses
    return collect(python, ".".join(map(str, sys.version_info[:3])))


def refuse_a_hidden_python(source: Source) -> None:
    """Raise ConfigError where the service could not use this Python."""
    for folder in _OUT_OF_REACH:
        if source.python.is_relative_to(folder):
            raise ConfigError(
                f"the Python this runs on, {source.python}, is below {folder}, which the service "
                "does not see; make the environment with the system's: /usr/bin/python3 -m venv ..."
            )


def base_python(executable: Path) -> Path:
    """Return an interpreter by the name with its version, which stays what it is."""
    named = executable.with_name(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return named if named.exists() else executable


def collect(
    python: Path, python_version: str, find: Callable[[str], Distribution] = distribution
) -> Source:
    """Return the gateway with what it needs, as far as it is installed.

    Raises:
        ConfigError: the gateway is not installed, or as a link to its source.
    """
    try:
        own = find(NAME)
    except PackageNotFoundError:
        raise ConfigError("this edge-gateway is not installed, and cannot be copied") from None
    if _is_editable(own):
        raise ConfigError(
            "this edge-gateway is a link to its source (pip install -e), which a service must not "
            "depend on; in the source's folder: sudo make install"
        )
    found = closure(find)
    feature_version = ".".join(python_version.split(".")[:2])
    digest = hashlib.sha256(f"{python} {feature_version}\n".encode())
    files: list[SourceFile] = []
    for _, each in sorted(found.items()):
        digest.update("\n".join(_told(each)).encode())
        files += _files(each)
    return Source(
        version=own.version,
        key=f"{own.version}-{digest.hexdigest()[:8]}",
        python=python,
        python_version=python_version,
        files=tuple(files),
    )


def closure(find: Callable[[str], Distribution]) -> Mapping[str, Distribution]:
    """Return the gateway and all it needs that is installed, by name.

    A requirement that is not there was not for this machine: pip has seen to that.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting: list[tuple[str, str]] = [(NAME, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            there = found.get(name) or find(name)
        except PackageNotFoundError:
            continue
        found[name] = there
        waiting += _required(there, name, extra)
    return found


def _required(there: Distribution, name: str, extra: str) -> Iterator[tuple[str, str]]:
    for text in there.requires or ():
        match = _REQUIREMENT.fullmatch(text)
        if match is None:
            continue
        for_extras = set(_EXTRA.findall(match["rest"].partition(";")[2]))
        if name == NAME:
            is_wanted = not for_extras or bool(for_extras - _NOT_FOR_A_SERVICE)
        else:
            is_wanted = extra in for_extras if for_extras else not extra
        if is_wanted:
            needed = _normal(match["name"])
            yield (needed, "")
            yield from (
                (needed, each.strip()) for each in (match["extras"] or "").split(",") if each
            )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_editable(own: Distribution) -> bool:
    told = json.loads(own.read_text("direct_url.json") or "{}")
    return bool(told.get("dir_info", {}).get("editable"))


def _told(there: Distribution) -> Iterator[str]:
    """Yield what makes a package another one; where it came from and pip put it does not."""
    record = there.read_text("RECORD") or ""
    yield there.metadata["Version"] or ""
    for line in sorted(record.splitlines()):
        name = line.partition(",")[0]
        # Commands outside name the environment, which `make install` makes anew each time.
        if not name.startswith(("../", "/")) and PurePosixPath(name).name not in _OF_THE_ACT:
            yield line


def _files(there: Distribution) -> Iterator[SourceFile]:
    """Yield what a package has in site-packages; its commands and manual pages stay behind."""
    for each in there.files or ():
        if each.parts[0] == ".." or each.is_absolute() or each.suffix == ".pth":
            continue
        path = Path(str(there.locate_file(each)))
        try:
            size_bytes = path.stat().st_size
        except FileNotFoundError:  # compiled by pip, and swept away since
            continue
        yield SourceFile(path, PurePosixPath(*each.parts), size_bytes)
