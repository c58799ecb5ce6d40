"""Wheels of the gateway as it is, and of versions to come that are better or broken."""

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from deb.debian import TrialError
from deb.wheels import EXTRAS, ROOT, make_pure, pip, requirements

_SOURCES = (
    *("gateway", "device_firmware", "systemd"),
    *("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "Makefile"),
)


@dataclass(frozen=True, slots=True)
class Change:
    """What is different in a file."""

    path: str
    old: str
    """Empty: the new text comes at the end."""
    new: str


NEVER_READY = Change("gateway/systemd.py", 'self._tell(f"READY=1\\nSTATUS=', 'self._tell(f"STATUS=')
"""It does all it should, but for saying so."""

ENDS_AFTERWARDS = Change(
    "gateway/systemd.py", "    def reloading(", "        os._exit(3)\n\n    def reloading("
)
"""It is ready, and gone."""

MIGRATES = Change(
    "gateway/store/state_database.py",
    "",
    '\nMIGRATIONS = (*MIGRATIONS, ("CREATE TABLE newer (n INTEGER)", "DELETE FROM devices"))\n',
)
"""Its database is of a form that no older one can read, and empty."""


def copy_source(folder: Path, version: str = "", *changes: Change) -> Path:
    """Copy what the gateway is made of, changed.

    Raises:
        TrialError: what is to be changed is not there, or not once.
    """
    folder.mkdir(parents=True)
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, folder / name)
    if version:
        package = folder / "gateway/__init__.py"
        text = package.read_text(encoding="utf-8")
        found = next(line for line in text.splitlines() if line.startswith("__version__"))
        changes = (Change("gateway/__init__.py", found, f'__version__ = "{version}"'), *changes)
    for change in changes:
        path = folder / change.path
        text = path.read_text(encoding="utf-8")
        if not change.old:
            path.write_text(text + change.new, encoding="utf-8")
            continue
        if text.count(change.old) != 1:
            raise TrialError(f"{change.path} has not once: {change.old}")
        path.write_text(text.replace(change.old, change.new), encoding="utf-8")
    return folder


def make_wheel(scratch: Path, into: Path, version: str = "", *changes: Change) -> None:
    """Make the wheel of a version."""
    source = copy_source(scratch / f"source-{version or 'own'}", version, *changes)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", into, source], check=True)


def fetch_needed(folder: Path, python: str) -> None:
    """Fetch what pip needs to install the gateway from its source, where there is no network."""
    folder.mkdir(parents=True, exist_ok=True)
    if not [*folder.glob("pyric-*.whl"), *folder.glob("PyRIC-*.whl")]:
        make_pure(folder)
    needed = [*requirements(), *_build_requirements()]
    options = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    pip("download", "-q", "--find-links", folder, "--dest", folder, *options, *needed)


def _build_requirements() -> list[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required: list[str] = tomllib.loads(text)["build-system"]["requires"]
    return required


EXTRA = ",".join(EXTRAS)
