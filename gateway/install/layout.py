"""Where everything of an installed gateway is, as the service sees it: without any --root."""

from pathlib import PurePosixPath as Path
from typing import Final

UNIT: Final = "edge-gateway.service"
ACCOUNT: Final = "edge-gateway"

HOME: Final = Path("/opt/edge-gateway")
VERSIONS: Final = HOME / "versions"
CURRENT: Final = HOME / "current"
"""A link to the version in use: renamed in one step, so that there always is one."""
PREVIOUS: Final = HOME / "previous"
"""A link to the version before it."""
PROGRAMS: Final = HOME / "bin"
"""What the unit names; leads through `CURRENT`."""
COMMAND: Final = Path("/usr/local/bin/edge-gateway")

CONFIGURATION: Final = Path("/etc/edge-gateway")
CONFIG: Final = CONFIGURATION / "gateway.toml"
DEFAULT_CONFIG: Final = CONFIGURATION / "gateway.toml.default"
STATE: Final = Path("/var/lib/edge-gateway")

# The administrator's own files in /etc come before these, and a trial's in /run does.
# Source: systemd.unit(5), udev(7), sysusers.d(5), tmpfiles.d(5).
LOCAL: Final = Path("/usr/local/lib")
UNIT_FILE: Final = LOCAL / "systemd/system" / UNIT
RELOAD_FILE: Final = LOCAL / "systemd/system" / f"{UNIT}.d" / "10-reload.conf"
RULES_FILE: Final = LOCAL / "udev/rules.d/61-edge-gateway.rules"
SYSUSERS_FILE: Final = LOCAL / "sysusers.d/edge-gateway.conf"
TMPFILES_FILE: Final = LOCAL / "tmpfiles.d/edge-gateway.conf"
WANTED: Final = Path("/etc/systemd/system/multi-user.target.wants") / UNIT

TRIAL_FILE: Final = Path("/run/systemd/system") / UNIT
"""The unit of a version on trial. A loss of power takes it away, and the old version starts."""

ADMINISTRATORS_UNIT: Final = Path("/etc/systemd/system") / UNIT
"""Comes before ours and before that of a trial. Source: systemd.unit(5)."""

PACKAGED: Final = Path("/usr/lib/edge-gateway")
"""Where the Debian package has its programs."""


def version_folder(key: str) -> Path:
    """Return where a version is."""
    return VERSIONS / key


def unit_of_trial(unit: str, key: str) -> str:
    """Return a unit that starts one version, whichever is in use."""
    return unit.replace(f"{PROGRAMS}/", f"{version_folder(key)}/bin/")
