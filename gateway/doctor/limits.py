"""Are there memory and descriptors enough?"""

import re
import resource
from contextlib import suppress

from gateway.doctor.case import Case
from gateway.doctor.finding import Tell, error, ok, warning
from gateway.doctor.processes import gateway_of
from gateway.links.serial_ports import find_ports

MEMORY = "memory"
DESCRIPTORS = "descriptors"

_LITTLE_KB = 64 << 10
"""What a gateway takes with Bluetooth and a few devices."""
_TOO_LITTLE_KB = 16 << 10
"""Below this the kernel soon ends something."""
_BESIDE_PORTS = 64
"""Descriptors for all but the ports: files of the store, broker, D-Bus, the program itself."""
_MAX_FILES = re.compile(r"^Max open files +\S+ +(\S+)", re.MULTILINE)


def look(case: Case, tell: Tell) -> None:
    """Tell how much memory there is, and whether there may be a descriptor for each port."""
    _look_at_memory(case, tell)
    _look_at_descriptors(case, tell)


def _look_at_memory(case: Case, tell: Tell) -> None:
    try:
        text = (case.machine.proc / "meminfo").read_text(encoding="ascii")
    except OSError as exc:
        tell(warning(MEMORY, f"could not be seen: {exc.strerror}", "free -m"))
        return
    found = re.search(r"^MemAvailable: +(\d+) kB", text, re.MULTILINE)
    if found is None:
        tell(warning(MEMORY, "the kernel does not tell how much is available", "free -m"))
        return
    available_kb = int(found[1])
    mend = "ps -eo rss,pid,comm --sort -rss | head    # stop what takes most, or add swap"
    told = f"{available_kb >> 10} MB available"
    if available_kb < _TOO_LITTLE_KB:
        what = "there is hardly any memory left: the kernel may end the gateway at any time"
        tell(error(MEMORY, what, mend, expected=f"{_LITTLE_KB >> 10} MB", got=told))
    elif available_kb < _LITTLE_KB:
        what = "there is little memory left"
        tell(warning(MEMORY, what, mend, expected=f"{_LITTLE_KB >> 10} MB", got=told))
    else:
        tell(ok(MEMORY, told))


def _look_at_descriptors(case: Case, tell: Tell) -> None:
    """Compare the hard limit, which a gateway makes its own, with what it needs."""
    limit, whose = resource.getrlimit(resource.RLIMIT_NOFILE)[1], "here"
    gateway = gateway_of(case.machine.proc, case.config)
    if gateway is not None:
        with suppress(OSError):
            text = (case.machine.proc / str(gateway.pid) / "limits").read_text(encoding="ascii")
            if (found := _MAX_FILES.search(text)) is not None:
                limit = -1 if found[1] == "unlimited" else int(found[1])
                whose = f"of the gateway (process {gateway.pid})"
    ports = len(find_ports(case.ports.patterns, case.ports.exclude)) if case.ports else 0
    needed = ports + _BESIDE_PORTS
    if limit != resource.RLIM_INFINITY and limit < needed:
        tell(
            error(
                DESCRIPTORS,
                f"the limit {whose} is too low for {ports} ports: some cannot be opened",
                "sudo systemctl edit edge-gateway    # [Service] LimitNOFILE=4096, then restart it",
                expected=f"{needed} or more",
                got=str(limit),
            )
        )
    else:
        shown = "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit}"
        tell(ok(DESCRIPTORS, f"{shown} {whose}, {needed} are enough"))
