"""What is examined, and on which machine; pure."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.clock import Clock
from gateway.mqtt.settings import BrokerSettings
from gateway.ports import PortsOptions


class Who(NamedTuple):
    """Whose rights count."""

    name: str
    user: int
    groups: frozenset[int]


class Space(NamedTuple):
    """What a file system has left for who is not root."""

    free_bytes: int
    free_files: int
    """-1 where files are not counted."""
    is_read_only: bool


def space_at(path: Path) -> Space:
    """Return what is left where `path` is. Source: statvfs(3)."""
    found = os.statvfs(path)
    return Space(
        found.f_bavail * found.f_frsize,
        found.f_favail if found.f_files else -1,
        bool(found.f_flag & os.ST_RDONLY),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where to look; tests have roots and programs of their own."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    etc: Path = Path("/etc")
    systemctl: str = "systemctl"
    journalctl: str = "journalctl"
    clock: Clock = field(default_factory=Clock)
    space: Callable[[Path], Space] = space_at
    listen_s: float = 2.5
    """How long a port is listened to: a board without a gateway says HELLO once a second."""
    try_s: float = 1.2
    """How long it is at each other baud rate, after noise."""
    retained_s: float = 2.0
    """How long the broker has to send what it retained: it follows the SUBACK at once."""
    scan_s: float = 4.0
    """How long Bluetooth is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The systemd service, as `systemctl show` tells it."""

    name: str
    load: str = "loaded"
    """loaded, or why it cannot be: masked, bad-setting, error."""
    active: str
    """active, activating, inactive, failed ..."""
    sub: str = ""
    enabled: str = ""
    result: str = "success"
    """Why it ended last."""
    exit_status: int = 0
    restarts: int = 0
    groups: tuple[str, ...] = ()
    """SupplementaryGroups=, and Group=."""
    user: str = ""
    """User=; empty for root, or for one that systemd makes up (`is_dynamic`)."""
    is_dynamic: bool = False
    state_folder: str = ""
    """StateDirectory=, below /var/lib."""
    command: str = ""
    """ExecStart=, as systemctl shows it."""
    credentials: tuple[str, ...] = ()
    """LoadCredential=, each NAME:FILE."""
    status: str = ""
    """What it told systemd last, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One gateway. What its configuration does not tell, because it is broken, is None."""

    config: Path | None = None
    problems: tuple[str, ...] = ()
    """What is wrong with the configuration, a line each."""
    last_good: Path | None = None
    """The configuration a start uses while this one is broken, if there is one; what is told of
    ports, broker and so on then goes by it."""
    reload: str = ""
    """What has the running gateway read its configuration, which is not the one it goes by; empty
    if it is."""
    is_hidden: bool = False
    """Whether we may not read the configuration, or a file it names."""
    remarks: tuple[str, ...] = ()
    """Of secrets that others can read: what, and behind the last `: ` the command that mends it."""
    ports: PortsOptions | None = None
    """Without patterns if no port is to be read."""
    broker: BrokerSettings | None = None
    no_password: str = ""
    """Why the password, or the key, is not to be had; empty if it is, or none is needed."""
    is_radio_wanted: bool = True
    adapter: str = ""
    outbox: Path | None = None
    state: Path | None = None
    own_files: tuple[Path, ...] = ()
    """What the gateway must be able to write, if it is there."""
    max_bytes: int = 0
    """How large the outbox may become."""
    unit: Unit | None = None
    """None where there is no systemd, or it does not know the service."""
    has_systemd: bool = False
    who: Who | None = None
    """Whose rights on ports count; None for our own."""
    machine: Machine = field(default_factory=Machine)

    @property
    def file(self) -> str:
        """The configuration, as a word of a command."""
        return shlex.quote(str(self.config or "/etc/edge-gateway/gateway.toml"))

    @property
    def first(self) -> str:
        """The command to begin with where the configuration is not known."""
        return f"sudo {self.again}" if self.is_hidden else f"edge-gateway check-config {self.file}"

    @property
    def again(self) -> str:
        """The command that examines this once more."""
        return "edge-gateway doctor" + (f" --config {self.file}" if self.config else "")
