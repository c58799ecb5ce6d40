"""Looks at what is there: files, links, and what systemd says. Changes nothing."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from gateway.errors import ConfigError, GatewayError
from gateway.install import layout
from gateway.install.actions import Command, systemctl
from gateway.install.execute import Machine
from gateway.install.plan import Seen, ServiceFiles

_FILES: Final = (
    layout.UNIT_FILE,
    layout.RELOAD_FILE,
    layout.RULES_FILE,
    layout.SYSUSERS_FILE,
    layout.TMPFILES_FILE,
    layout.TRIAL_FILE,
    layout.CONFIG,
    layout.DEFAULT_CONFIG,
)
_LINKS: Final = (
    layout.CURRENT,
    layout.PREVIOUS,
    layout.PROGRAMS,
    layout.COMMAND,
    layout.WANTED,
)
_LINKS_OF_OURS: Final = (layout.CURRENT, layout.PREVIOUS, layout.PROGRAMS, layout.COMMAND)
_BOOTED: Final = PurePosixPath("/run/systemd/system")
"""Is there where systemd runs. Source: sd_booted(3)."""


def look(machine: Machine, *, is_live: bool | None = None) -> Seen:
    """Return what is there; `is_live` tells whether systemd runs it, where it is known already.

    Raises:
        GatewayError: a file cannot be read.
    """
    if is_live is None:
        is_live = machine.root == Path("/") and machine.at(_BOOTED).is_dir()
    links = {each: link for each in _LINKS if (link := _link(machine.at(each)))}
    versions = machine.at(layout.VERSIONS)
    state = _says(machine, systemctl("is-active", layout.UNIT)) if is_live else ""
    return Seen(
        is_live=is_live,
        systemd=_systemd(machine) if is_live else _systemd_of_image(machine),
        current=_key(links.get(layout.CURRENT, "")),
        previous=_key(links.get(layout.PREVIOUS, "")),
        versions=frozenset(
            each.name
            for each in (versions.iterdir() if versions.is_dir() else ())
            if not each.name.startswith(".")
        ),
        contents={
            each: content for each in _FILES if (content := _content(machine.at(each))) is not None
        },
        links=links,
        is_packaged=machine.at(layout.PACKAGED).is_dir(),
        in_the_way=frozenset(_in_the_way(machine)),
        is_enabled=layout.WANTED in links,
        is_active=state in {"active", "reloading"},
        is_failing=state in {"failed", "activating"},
        has_account=_has_account(machine),
        has_state=machine.at(layout.STATE).is_dir(),
    )


def service_files() -> ServiceFiles:
    """Return what this version brings along for systemd: in a package, or next to it in a checkout.

    Raises:
        ConfigError: it is in neither place.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_systemd", package.parent / "systemd"):
        if (folder / layout.UNIT).is_file():
            return ServiceFiles(
                unit=(folder / layout.UNIT).read_text(encoding="utf-8"),
                reload=(folder / "edge-gateway-252.conf").read_bytes(),
                rules=(folder / "61-edge-gateway.rules").read_bytes(),
                sysusers=(folder / "edge-gateway.sysusers").read_bytes(),
                tmpfiles=(folder / "edge-gateway.tmpfiles").read_bytes(),
                config=(folder / "gateway.toml").read_bytes(),
            )
    raise ConfigError("the files for systemd are missing in this installation")


def _in_the_way(machine: Machine) -> Iterator[PurePosixPath]:
    """Yield what somebody else made where only ours can be."""
    unit = machine.at(layout.ADMINISTRATORS_UNIT)
    if unit.is_symlink() or unit.exists():
        yield layout.ADMINISTRATORS_UNIT
    for path in _LINKS_OF_OURS:
        there = machine.at(path)
        if there.exists() and not there.is_symlink():
            yield path


def _link(path: Path) -> str:
    return str(path.readlink()) if path.is_symlink() else ""


def _key(target: str) -> str:
    return PurePosixPath(target).name


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        # A link to a disk that is not there now is somebody's configuration all the same.
        return b"" if path.is_symlink() else None
    except OSError as exc:
        raise GatewayError(f"{path}: {exc.strerror}") from exc


def _has_account(machine: Machine) -> bool:
    accounts = _content(machine.at(PurePosixPath("/etc/passwd"))) or b""
    return any(line.startswith(f"{layout.ACCOUNT}:".encode()) for line in accounts.splitlines())


def _systemd(machine: Machine) -> int:
    found = re.match(r"systemd (\d+)", _says(machine, systemctl("--version")))
    return int(found[1]) if found else 0


def _systemd_of_image(machine: Machine) -> int:
    """Return the version of the systemd in a folder, by the library its programs share."""
    library = machine.at(PurePosixPath("/usr/lib"))
    for found in library.glob("**/systemd/libsystemd-shared-*.so"):
        number = found.stem.removeprefix("libsystemd-shared-").partition(".")[0]
        if number.isdecimal():
            return int(number)
    return 0


def _says(machine: Machine, command: Command) -> str:
    try:
        return machine.run(command).stdout.strip()
    except GatewayError:
        return ""
