"""Which wheels the gateway needs on a machine, and whether there are any: `python -m deb.wheels`.

With the standard library and pip alone. Nothing is compiled: what has no wheel is named.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

PYTHONS = ("3.11", "3.12", "3.13")
"""Of Debian 12, Ubuntu 24.04 and Debian 13."""

MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l"}
"""By Debian's names, those of wheels."""

GLIBC_MINOR = 36
"""Of Debian 12, the oldest: 2.36."""

PURE_SOURCES = ("PyRIC",)
"""Published as source only, but Python alone: pip makes a wheel of it without a compiler."""

EXTRAS = ("ble-devices",)
"""What belongs to a service beside the gateway itself."""


class WheelsMissingError(Exception):
    """pip found no wheels; the text is its own."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that pip would install."""

    name: str
    version: str
    file: str

    @property
    def is_compiled(self) -> bool:
        """Whether it is for one kind of machine."""
        return not self.file.endswith("-none-any.whl")


def platforms(machine: str) -> Iterator[str]:
    """Yield the tags of wheels that run there; `linux_` are those of piwheels."""
    yield from (f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 16, -1))
    yield f"manylinux2014_{machine}"
    yield f"linux_{machine}"


def target_options(python: str, machine: str) -> list[str]:
    """Return what makes pip resolve for another machine than this."""
    each = [word for tag in platforms(machine) for word in ("--platform", tag)]
    return ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *each]


def pip(*words: str | Path) -> str:
    """Run pip; returns what it prints.

    Raises:
        WheelsMissingError: it failed.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        errors = [line for line in ran.stderr.splitlines() if line.lstrip().startswith("ERROR")]
        raise WheelsMissingError("\n".join(errors) or ran.stderr[-2000:])
    return ran.stdout


def requirements() -> list[str]:
    """Return what the project says it needs, with the extras of a service."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(each for name in EXTRAS for each in extras[name])]


def make_pure(folder: Path) -> None:
    """Put the wheels of pure sources into a folder."""
    # Without the option pip of Debian 12 wants the package `wheel`, which its environments lack.
    pip("wheel", "-q", "--no-deps", "--use-pep517", "--wheel-dir", folder, *PURE_SOURCES)


def resolve(wanted: Iterable[str], python: str, machine: str, links: Path) -> list[Wheel]:
    """Return what pip would install there.

    Raises:
        WheelsMissingError: something has no wheel.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip(
            *("install", "-q", "--dry-run", "--ignore-installed", "--report", report),
            *("--target", Path(folder) / "none", "--find-links", links),
            *target_options(python, machine),
            *wanted,
        )
        found = json.loads(report.read_text())["install"]
    return [
        Wheel(
            each["metadata"]["name"],
            each["metadata"]["version"],
            each["download_info"]["url"].rpartition("/")[2],
        )
        for each in found
    ]


def without_wheel(wheels: Sequence[Wheel], python: str, machine: str) -> list[Wheel]:
    """Return those that have no wheel there, in the version that other machines get."""
    missing = []
    with tempfile.TemporaryDirectory() as folder:
        for wheel in wheels:
            try:
                pip(
                    *("download", "-q", "--no-deps", "--dest", folder),
                    *target_options(python, machine),
                    f"{wheel.name}=={wheel.version}",
                )
            except WheelsMissingError:
                missing.append(wheel)
    return missing


HEAD = (
    "| Python | machine | wheels | of these compiled | have none |",
    "| --- | --- | --- | --- | --- |",
)


def row(python: str, machine: str, wheels: Sequence[Wheel], missing: Sequence[Wheel]) -> str:
    """Return the line of a table: Python, machine, its wheels, and those that are missing."""
    compiled = sum(each.is_compiled for each in wheels)
    names = ", ".join(f"{each.name} {each.version}" for each in missing) or "-"
    count = len(wheels) - len(missing)
    return f"| {python} | {machine} | {count} of {len(wheels)} | {compiled} | {names} |"


def main() -> int:
    """Print the table of all machines and Pythons."""
    wanted = requirements()
    print("\n".join(HEAD), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make_pure(Path(folder))
        for python in PYTHONS:
            usual: list[Wheel] = []
            for machine in MACHINES.values():
                print(f"wheels: Python {python} on {machine} ...", file=sys.stderr, flush=True)
                missing: list[Wheel] = []
                try:
                    wheels = resolve(wanted, python, machine, Path(folder))
                except WheelsMissingError:
                    wheels = usual
                    compiled = [each for each in usual if each.is_compiled]
                    missing = without_wheel(compiled, python, machine)
                usual = usual or wheels
                print(row(python, machine, wheels, missing), flush=True)
    pure = ", ".join(PURE_SOURCES)
    print(f"\nwheels: made of pure Python source, without a compiler: {pure}", file=sys.stderr)
    return 0


def libc_needed(files: Iterable[str]) -> tuple[int, int]:
    """Return the oldest glibc that all wheels run on, by the tags in their names."""
    needed = (2, 17)
    for file in files:
        tags = [(2, int(minor)) for minor in re.findall(r"manylinux_2_(\d+)_", file)]
        if "manylinux2014" in file:
            tags.append((2, 17))
        if tags:
            needed = max(needed, min(tags))
    return needed


if __name__ == "__main__":
    sys.exit(main())
