"""A unit file, read as systemd does: what it asks for, and what can be had without systemd."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

APPLIED: Final = {
    "AmbientCapabilities": "none are raised",
    "CapabilityBoundingSet": "emptied",
    "DeviceAllow": "/dev has these devices and no others",
    "DevicePolicy": "and the pseudo devices of `closed`",
    "ExecStart": "this command, with the same paths",
    "Group": "a group of its own",
    "LimitCORE": "setrlimit",
    "LimitNOFILE": "setrlimit",
    "LockPersonality": "seccomp",
    "MemoryDenyWriteExecute": "seccomp",
    "MemoryMax": "what it takes is compared with it",
    "NoNewPrivileges": "prctl",
    "PrivateMounts": "a mount namespace, private",
    "PrivateTmp": "an empty /tmp and /var/tmp",
    "PrivateUsers": "a user namespace with the one account",
    "ProtectClock": "seccomp",
    "ProtectHome": "empty /home, /root and /run/user (but for the interpreter, where it is there)",
    "ProtectHostname": "seccomp, and a UTS namespace",
    "ProtectKernelLogs": "seccomp, and no /dev/kmsg",
    "ProtectKernelModules": "seccomp",
    "ProtectSystem": "all is read only, but the two folders",
    "RestrictAddressFamilies": "seccomp",
    "RestrictNamespaces": "seccomp",
    "RestrictSUIDSGID": "seccomp, of chmod and its kin",
    "RuntimeDirectory": "a folder, writable",
    "RuntimeDirectoryMode": "its mode",
    "StateDirectory": "a folder, writable",
    "StateDirectoryMode": "its mode",
    "SystemCallArchitectures": "seccomp",
    "SystemCallErrorNumber": "seccomp",
    "SystemCallFilter": "seccomp, with systemd's own lists",
    "Type": "a notify socket",
    "UMask": "umask",
    "User": "an account of its own",
    "WatchdogSec": "in the environment",
}
"""What `enter` applies, and how."""

NOT_APPLIED: Final = {
    "KeyringMode": "a session keyring is made by the service manager; the gateway uses none",
    "ProtectControlGroups": "/sys is read only as a whole",
    "ProtectKernelTunables": "/proc stays as it is: only root may write to /proc/sys",
    "ProtectProc": "needs a /proc of its own, and so a pid namespace",
    "RemoveIPC": "is done when the service has ended",
    "RestrictRealtime": "@resources is refused as a whole",
    "Restart": "the service manager's",
    "RestartMaxDelaySec": "the service manager's",
    "RestartSec": "the service manager's",
    "RestartSteps": "the service manager's",
    "TasksMax": "a control group's",
    "TimeoutStartSec": "the service manager's",
    "TimeoutStopSec": "the service manager's",
}
"""What only systemd can do, or need not be done here; why."""

Section = Mapping[str, list[str]]


def read_unit(text: str) -> dict[str, dict[str, list[str]]]:
    """Return what is assigned, by section and key, in order; comments and blanks left out."""
    sections: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", ";")):
            continue
        if stripped.startswith("["):
            section = stripped.strip("[]")
            continue
        key, _, value = stripped.partition("=")
        sections[section][key.strip()].append(value.strip())
    return {name: dict(keys) for name, keys in sections.items()}


def syscall_sets(listing: str) -> dict[str, list[str]]:
    """Return systemd's sets of system calls, as `systemd-analyze syscall-filter` prints them."""
    sets: dict[str, list[str]] = {}
    name = ""
    for line in listing.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = []
        elif name and re.fullmatch(r"\s+[@\w-]+", line):
            sets[name].append(line.strip())
        elif line.strip() and not line.startswith(" "):
            name = ""  # such as the calls that belong to no set
    return sets


def allowed_calls(assignments: Iterable[str], sets: Mapping[str, list[str]]) -> set[str]:
    """Return what a list of SystemCallFilter= leaves; the first must be a list of what is allowed.

    Source: systemd.exec(5). @default is always allowed.
    """
    allowed = _expanded(["@default"], sets)
    for assignment in assignments:
        if assignment.startswith("~"):
            allowed -= _expanded(assignment[1:].split(), sets)
        else:
            allowed |= _expanded(assignment.split(), sets)
    return allowed


def octal(section: Section, key: str) -> int:
    """Return a mode."""
    return int(section[key][-1], 8)


def binary(section: Section, key: str) -> bool:
    """Return a yes or a no; no where it is not assigned."""
    return section.get(key, ["no"])[-1] in {"yes", "true", "on", "1"}


def size_bytes(text: str) -> int:
    """Return a size such as `300M`."""
    return int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1]]


def seconds(text: str) -> float:
    """Return a time span such as `2min`."""
    found = re.fullmatch(r"([\d.]+)(s|min|h)?", text)
    assert found is not None, text
    return float(found[1]) * {None: 1, "s": 1, "min": 60, "h": 3600}[found[2]]


def _expanded(names: Iterable[str], sets: Mapping[str, list[str]]) -> set[str]:
    calls: set[str] = set()
    for name in names:
        calls |= _expanded(sets[name], sets) if name.startswith("@") else {name}
    return calls


def unit_of(path: Path) -> dict[str, dict[str, list[str]]]:
    """Read a file."""
    return read_unit(path.read_text(encoding="utf-8"))
