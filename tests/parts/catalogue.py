"""The real programs the tests run against: which they are, and where they stand."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).parents[2] / ".tools"
"""Where fetched programs live; never under version control."""

SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin"
"""Searched after PATH: Debian installs the broker where a plain user's PATH does not look."""

IGNORE_INSTALLED = "IGNORE_INSTALLED_PARTS"
"""Set in the environment: look only at what `make parts` fetched, as on a bare machine."""

VERSION_TIMEOUT_S = 20.0
"""A program that takes longer to say its version does not work."""

X86 = frozenset({"amd64", "i386", "x86_64", "i686"})
"""The machines that run 32-bit x86 programs, by Debian's names and the kernel's."""

_MICROPYTHON_VERSION = "import sys, asyncio; print('%d.%d' % sys.implementation[1][:2])"


class PartMissingError(Exception):
    """A real part is not here; the text says why, and what would help."""


class PartImpossibleError(PartMissingError):
    """This kind of machine cannot run the part, whatever is installed."""


@dataclass(frozen=True, slots=True)
class Part:
    """One program: the Debian package that has it, and the oldest release that will do."""

    name: str
    package: str
    program: str
    """Path of the program in the package."""
    version_arguments: tuple[str, ...]
    oldest: tuple[int, int]
    architecture: str | None = None
    """Debian's name of a foreign architecture; None is the machine's own."""


_BROKER_OLDEST = (2, 0)
_MICROPYTHON_OLDEST = (1, 25)
_STRACE_OLDEST = (5, 0)
_DBUS_OLDEST = (1, 12)
_SYSTEMD_OLDEST = (252, 0)
_UDEV_OLDEST = (254, 0)
"""The first udevadm that verifies rules."""
_SYSTEMD_ANALYZE_OLDEST = (252, 0)
"""It looks at units without a running systemd, `security --offline`, since 250."""

PARTS = (
    Part("mosquitto", "mosquitto", "usr/sbin/mosquitto", ("-h",), _BROKER_OLDEST),
    Part(
        "mosquitto_pub",
        "mosquitto-clients",
        "usr/bin/mosquitto_pub",
        ("--version",),
        _BROKER_OLDEST,
    ),
    Part(
        "mosquitto_sub",
        "mosquitto-clients",
        "usr/bin/mosquitto_sub",
        ("--version",),
        _BROKER_OLDEST,
    ),
    Part("strace", "strace", "usr/bin/strace", ("-V",), _STRACE_OLDEST),
    Part("dbus-daemon", "dbus-daemon", "usr/bin/dbus-daemon", ("--version",), _DBUS_OLDEST),
    Part(
        "systemd-sysusers",
        "systemd-standalone-sysusers",
        "usr/bin/systemd-sysusers",
        ("--version",),
        _SYSTEMD_OLDEST,
    ),
    Part(
        "systemd-tmpfiles",
        "systemd-standalone-tmpfiles",
        "usr/bin/systemd-tmpfiles",
        ("--version",),
        _SYSTEMD_OLDEST,
    ),
    Part("udevadm", "udev", "usr/bin/udevadm", ("--version",), _UDEV_OLDEST),
    Part(
        "systemd-analyze",
        "systemd",
        "usr/bin/systemd-analyze",
        ("--version",),
        _SYSTEMD_ANALYZE_OLDEST,
    ),
    Part(
        "micropython",
        "micropython",
        "usr/bin/micropython",
        ("-c", _MICROPYTHON_VERSION),
        _MICROPYTHON_OLDEST,
    ),
    Part(
        "micropython-i386",
        "micropython",
        "usr/bin/micropython",
        ("-c", _MICROPYTHON_VERSION),
        _MICROPYTHON_OLDEST,
        architecture="i386",
    ),
)


def machine_architecture() -> str:
    """Return Debian's name of this machine's architecture, or the kernel's where dpkg is absent."""
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        return os.uname().machine
    printed = subprocess.run(
        [dpkg, "--print-architecture"], capture_output=True, text=True, check=True
    )
    return printed.stdout.strip()


def version_of(command: Sequence[str | Path], part: Part) -> tuple[int, int] | None:
    """Return the release that `command` says it is; None if it does not run here."""
    try:
        ran = subprocess.run(
            [*command, *part.version_arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
            check=False,  # `mosquitto -h` exits with 3
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.search(r"\b(\d+)\.(\d+)", ran.stdout) or re.match(r"(\d+)()\s", ran.stdout)
    return (int(said[1]), int(said[2] or 0)) if said else None


def on_path(part: Part) -> Path | None:
    """Return the installed program if it is recent enough; foreign ones are never installed."""
    if part.architecture not in (None, machine_architecture()) or os.environ.get(IGNORE_INSTALLED):
        return None
    # An activated venv has a MicroPython of its own, for `flash` alone: it lacks what boards need.
    own = Path(sys.prefix, "bin")
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    searched = os.pathsep.join([*(each for each in folders if Path(each) != own), SYSTEM_FOLDERS])
    found = shutil.which(Path(part.program).name, path=searched)
    if found is None:
        return None
    version = version_of([found], part)
    return Path(found) if version is not None and version >= part.oldest else None


def impossible_because(part: Part) -> str | None:
    """Return why this kind of machine cannot run the part; None if it can."""
    if part.architecture is None or machine_architecture() in X86:
        return None
    return f"it runs on x86 only, and this machine is {machine_architecture()}"


def wrapper(part: Part, tools: Path = TOOLS) -> Path:
    """Return where the fetched program is started from."""
    return tools / "bin" / part.name


def locate(name: str, tools: Path = TOOLS) -> Path:
    """Return the program to run.

    Raises:
        PartMissingError: neither PATH nor `make parts` has it.
        PartImpossibleError: it cannot run on this kind of machine.
    """
    part = next(part for part in PARTS if part.name == name)
    installed = on_path(part)
    if installed is not None:
        return installed
    because = impossible_because(part)
    if because is not None:
        raise PartImpossibleError(f"no {name}: {because}")
    if os.access(wrapper(part, tools), os.X_OK):
        return wrapper(part, tools)
    raise PartMissingError(f"no {name}: {reasons_missing(tools).get(name, 'run `make parts`')}")


def reasons_missing(tools: Path = TOOLS) -> dict[str, str]:
    """Return why the last fetch could not get a part, by the part's name."""
    try:
        reasons: dict[str, str] = json.loads((tools / "missing.json").read_text())
    except FileNotFoundError:
        return {}
    return reasons
