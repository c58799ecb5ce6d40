"""Follows udev rules for a device that is only described: enough of udev(7) for ours.

`udevadm verify` knows whether rules are well formed, but only a real device shows what they do.
Known are ==, !=, =, +=, alternatives, globs, ENV, ATTR, SUBSYSTEMS, GOTO and LABEL; anything else
is an error.
"""

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

_PART = re.compile(r'\s*([A-Z]+)(?:\{([^}]+)\})?\s*(==|!=|\+=|=)\s*"([^"]*)"\s*(?:,|$)')


@dataclass
class Device:
    """What udev knows of a device, and what the rules made of it."""

    subsystem: str
    kernel: str = ""
    action: str = "add"
    parents: tuple[str, ...] = ()
    """Subsystems of the devices it hangs on."""
    attributes: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    group: str = ""
    mode: str = ""


def follow(rules: str, device: Device) -> None:
    """Do to the device what the rules say."""
    wanted = ""
    for line in rules.splitlines():
        parts = _parts(line)
        if wanted:
            if ("LABEL", "", "=", wanted) in parts:
                wanted = ""
            continue
        if not all(_matches(device, part) for part in parts if part[2] in {"==", "!="}):
            continue
        for part in parts:
            if part[0] == "GOTO":
                wanted = part[3]
            elif part[2] in {"=", "+="}:
                _assign(device, part)
    assert not wanted, f"no LABEL={wanted}"


def _parts(line: str) -> list[tuple[str, str, str, str]]:
    if not line.strip() or line.startswith("#"):
        return []
    parts, at = [], 0
    while at < len(line):
        match = _PART.match(line, at)
        assert match, f"not understood: {line[at:]}"
        parts.append((match[1], match[2] or "", match[3], match[4]))
        at = match.end()
    return parts


def _matches(device: Device, part: tuple[str, str, str, str]) -> bool:
    key, name, sign, pattern = part
    match key:
        case "ACTION":
            values = [device.action]
        case "SUBSYSTEM":
            values = [device.subsystem]
        case "KERNEL":
            values = [device.kernel]
        case "SUBSYSTEMS":
            values = [device.subsystem, *device.parents]
        case "ATTR":
            values = [device.attributes.get(name, "")]
        case "ENV":
            values = [device.properties.get(name, "")]
        case _:
            raise AssertionError(f"unknown: {key}")
    fits = any(fnmatchcase(value, each) for value in values for each in pattern.split("|"))
    return fits is (sign == "==")


def _assign(device: Device, part: tuple[str, str, str, str]) -> None:
    key, name, sign, value = part
    value = re.sub(r"\$env\{([^}]+)\}", lambda found: device.properties.get(found[1], ""), value)
    match key, sign:
        case "ENV", "=":
            device.properties[name] = value
        case "SYMLINK", "+=":
            device.links.append(value)
        case "TAG", "+=":
            device.tags.append(value)
        case "GROUP", "=":
            device.group = value
        case "MODE", "=":
            device.mode = value
        case "LABEL", "=":
            pass
        case _:
            raise AssertionError(f"unknown: {key}{sign}")
