"""Our unit's sandbox, prepared for a test: its folders, its account, where Python comes from."""

import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.sandbox.enter import Spec
from tests.support.sandbox.unit import octal, unit_of

PROJECT = Path(__file__).parents[3]
UNIT = PROJECT / "systemd" / "edge-gateway.service"

ACCOUNT = "daemon"
"""Stands for the service's where root makes the sandbox: a bus knows no account that is not in
/etc/passwd."""

_PROGRAM = f"""\
#!{sys.executable}
import sys
sys.path.insert(0, {str(PROJECT)!r})
from gateway.cli import main
sys.exit(main())
"""


@dataclass
class Sandbox:
    """The folders behind a sandbox."""

    folder: Path
    systemd_analyze: Path
    binds: list[tuple[str, str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        euid = os.geteuid()
        self.account = pwd.getpwnam(ACCOUNT).pw_uid if euid == 0 else euid
        self.unit = unit_of(UNIT)
        service = self.unit["Service"]
        for name, place, mode in (
            ("root", "", 0o755),
            ("etc", "/etc/edge-gateway", 0o755),
            ("state", "/var/lib/edge-gateway", octal(service, "StateDirectoryMode")),
            ("run", "/run/edge-gateway", octal(service, "RuntimeDirectoryMode")),
            ("notify", "/run/notify", 0o755),
            ("timesync", "/run/systemd/timesync", 0o755),
        ):
            made = self.folder / name
            made.mkdir()
            made.chmod(mode)
            is_own = name in {"state", "run"}
            if is_own:
                self.own(made)
            if place:
                self.binds.append((str(made), place, is_own))

    def own(self, path: Path | str) -> None:
        """Give something to the account, as the group dialout does with a port."""
        if os.geteuid() == 0:
            os.chown(path, self.account, self.account)

    @property
    def command(self) -> list[str]:
        """What the unit starts."""
        return self.unit["Service"]["ExecStart"][-1].split()

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return a command that enters the sandbox and becomes another."""
        listing = self.folder / "syscalls"
        with listing.open("wb") as written:
            subprocess.run(
                [self.systemd_analyze, "syscall-filter", "--no-pager"],
                check=True,
                stdout=written,
                stderr=subprocess.DEVNULL,
            )
        spec = Spec(
            unit=str(UNIT),
            syscalls=str(listing),
            root=str(self.folder / "root"),
            account=self.account,
            binds=[*self.binds, *_interpreter()],
            files={self.command[0]: _PROGRAM},
        )
        saved = spec.save(self.folder / "spec.json")
        return [sys.executable, "-m", "tests.support.sandbox.enter", str(saved), *command]


def _interpreter() -> list[tuple[str, str, bool]]:
    """Return what of Python, and of us, is not below /usr."""
    places = {
        *(Path(sys.prefix), Path(sys.base_prefix), PROJECT),
        *(Path(sys.executable).resolve().parents[1],),
    }
    outside = [each for each in places if not each.is_relative_to("/usr")]
    return [(str(each), str(each), False) for each in sorted(outside, key=lambda p: len(p.parts))]
