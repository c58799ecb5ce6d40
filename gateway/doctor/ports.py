"""Are the serial ports there, may they be opened, who holds them, and what speaks?"""

import asyncio
import grp
import os
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.doctor.case import Case, Who
from gateway.doctor.finding import Tell, error, ok, warning
from gateway.doctor.hearing import Kind, listen
from gateway.doctor.processes import Running, process, running
from gateway.doctor.rights import may
from gateway.errors import LinkError
from gateway.links.port_holders import Holder, holders, locker
from gateway.links.serial_ports import FoundPort, find_ports
from gateway.links.threads import Call
from gateway.ports import PortsOptions

WHERE = "ports"

_PTS = "/dev/pts/"
"""Ptys are also open in the program that simulates what is behind them."""
_WILDCARDS = frozenset("*?[")
_RATES = (9_600, 115_200, 57_600, 38_400, 19_200, 230_400, 460_800, 921_600)
"""Tried in turn where noise is heard, the most frequent ones of boards first."""
_LEAST_TEXT = 8
"""Bytes: fewer may be text by chance."""
_CULPRITS = {
    "ModemManager": (
        "ModemManager takes it for a modem",
        "sudo systemctl mask --now ModemManager",
    ),
    "brltty": (
        "brltty takes it for a braille display",
        "sudo systemctl mask --now brltty.path brltty.service && sudo systemctl mask brltty-udev",
    ),
    "agetty": (
        "a login prompt (serial getty) runs there",
        "sudo systemctl mask --now serial-getty@{name}.service",
    ),
    "gpsd": ("gpsd takes it for a GPS receiver", "sudo systemctl mask --now gpsd.socket gpsd"),
}
"""Programs that are known to take ports: why, and what stops them."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What /proc and the file system tell of a port."""

    port: FoundPort
    is_allowed: bool
    """Whether the gateway may open it."""
    is_ours: bool
    """Whether we may."""
    group: str
    """The group that would help; empty for none."""
    holder: Holder | None
    program: Running | None
    """More of the holder."""
    suspect: Running | None
    """Who is known to take such ports, and runs."""
    is_console: bool
    """Whether the kernel writes its messages there."""

    @property
    def where(self) -> str:
        """For people."""
        return f"port {self.port.path}"


async def look(case: Case, tell: Tell) -> None:
    """Tell of each port that is there, and of those that should be."""
    options = case.ports
    if options is None:
        tell(warning(WHERE, "not looked at: the configuration cannot be read", case.first))
        return
    if not options.patterns:
        tell(ok(WHERE, "none is to be read"))
        return
    seen = await Call(partial(_see, case, options)).result()
    _tell_of_missing(options, [each.port for each in seen], tell)
    async with asyncio.TaskGroup() as tasks:
        for each in seen:
            tasks.create_task(_look_at(case, options, each, tell))


def _see(case: Case, options: PortsOptions) -> list[_Seen]:
    """Look at all ports, and open none; reads files."""
    proc = case.machine.proc
    found = find_ports(options.patterns, options.exclude)
    open_in = holders([each.device for each in found if not each.device.startswith(_PTS)], proc)
    programs = list(running(proc))
    try:
        command_line = (proc / "cmdline").read_text(errors="replace").split()
    except OSError:
        command_line = []
    consoles = {
        word.removeprefix("console=").partition(",")[0]
        for word in command_line
        if word.startswith("console=")
    }
    seen = []
    for port in found:
        try:
            is_allowed, group = _rights(port.device, case.who)
        except OSError:  # it was pulled out a moment ago
            continue
        holder = locker(port.device, proc) or open_in.get(port.device)
        name = port.device.rpartition("/")[2]
        seen.append(
            _Seen(
                port,
                is_allowed,
                may(port.device, None, os.R_OK | os.W_OK),
                group,
                holder,
                process(proc, holder.pid) if holder else None,
                next((each for each in programs if _may_take(each, name)), None),
                name in consoles,
            )
        )
    return seen


def _rights(device: str, who: Who | None) -> tuple[bool, str]:
    """Return whether a port may be opened, and the group whose members may."""
    found = Path(device).stat()
    rights = stat.S_IRGRP | stat.S_IWGRP
    group = ""
    if found.st_mode & rights == rights and found.st_gid:
        try:
            group = grp.getgrgid(found.st_gid).gr_name
        except KeyError:
            group = str(found.st_gid)
    return may(device, who, os.R_OK | os.W_OK), group


def _may_take(program: Running, name: str) -> bool:
    if program.program == "agetty":
        return name in program.words
    return program.program in _CULPRITS


def _tell_of_missing(options: PortsOptions, found: list[FoundPort], tell: Tell) -> None:
    for rule in options.rules:
        alone = not _WILDCARDS.intersection(rule.match)
        if alone and not any(rule.match in {each.path, each.name, each.device} for each in found):
            tell(
                error(
                    f"port {rule.match}",
                    "it is not there, and the configuration has a section for it",
                    "dmesg | tail; edge-gateway ports    # plugged in, powered, a cable for data?",
                    expected=f"[[serial.port]] match = {rule.match!r}",
                    got=", ".join(each.name for each in found) or "no port",
                )
            )
    if not found and not options.rules:
        tell(
            warning(
                WHERE,
                "there is no serial port",
                "lsusb; dmesg | tail    # plugged in, powered, a cable for data?",
                expected=" or ".join(options.patterns),
                got="nothing that matches",
            )
        )


async def _look_at(case: Case, options: PortsOptions, seen: _Seen, tell: Tell) -> None:
    """Tell of one port; it is opened if nobody has it, and left alone else."""
    if seen.holder is not None and seen.program is not None and seen.program.is_gateway:
        who = f"{seen.holder.program} (process {seen.holder.pid})"
        tell(ok(seen.where, f"the gateway reads it: {who}; not listened to"))
        return
    if not seen.is_allowed:
        _tell_of_rights(case, seen, tell)
        return
    if seen.holder is not None:
        _tell_of_holder(case, seen, seen.holder, tell)
        return
    if seen.is_console:
        tell(
            warning(
                seen.where,
                "the kernel writes its messages there, between what a board says",
                "sudo raspi-config nonint do_serial_cons 1 && sudo reboot    # or take console= "
                "out of the kernel's command line",
            )
        )
    if not seen.is_ours:
        what = "not listened to: this user may not open it"
        tell(warning(seen.where, what, f"sudo {case.again}"))
        return
    rate = options.use_of(seen.port).options.baudrate
    try:
        heard = await listen(seen.port.path, rate, case.machine.listen_s)
    except LinkError as exc:
        _tell_of_failure(seen, str(exc), tell)
        return
    if heard.kind is Kind.NOISE:
        await _find_rate(case, seen, rate, tell)
    elif heard.kind is Kind.NOTHING:
        tell(
            warning(
                seen.where,
                f"silent for {case.machine.listen_s:g} s",
                f"edge-gateway sniff {seen.port.path}    # longer; is there a board, and is it on?",
            )
        )
    else:
        tell(ok(seen.where, f"speaks: {heard.words}"))


def _tell_of_rights(case: Case, seen: _Seen, tell: Tell) -> None:
    device = seen.port.device
    whom = case.who.name if case.who else f"the user {os.geteuid()}"
    if not seen.group:
        mend = f"sudo chgrp dialout {device} && sudo chmod g+rw {device}    # for good: a udev rule"
    elif case.unit is not None and case.who is not None:
        mend = (
            f"sudo systemctl edit {case.unit.name}    # [Service] SupplementaryGroups={seen.group}"
        )
    else:
        mend = f"sudo usermod -aG {seen.group} $(id -un)    # then log in again"
    tell(
        error(
            seen.where,
            f"permission denied for {whom}",
            mend,
            expected=f"membership of the group {seen.group}" if seen.group else "rw for a group",
            got=stat.filemode(Path(device).stat().st_mode),
        )
    )


def _tell_of_holder(case: Case, seen: _Seen, holder: Holder, tell: Tell) -> None:
    who = f"{holder.program} (process {holder.pid})"
    if holder.program in _CULPRITS:
        why, mend = _CULPRITS[holder.program]
        name = seen.port.device.rpartition("/")[2]
        tell(error(seen.where, f"{why}: {who} has it open", mend.format(name=name)))
    else:
        tell(error(seen.where, f"busy: {who} has it open", _evict(case, seen, str(holder.pid))))


def _tell_of_failure(seen: _Seen, reason: str, tell: Tell) -> None:
    """Tell why a port does not open that nobody was seen to hold."""
    if not reason.startswith("busy"):
        tell(error(seen.where, reason, f"dmesg | grep {seen.port.device.rpartition('/')[2]}"))
        return
    if seen.suspect is not None:
        why, mend = _CULPRITS[seen.suspect.program]
        name = seen.port.device.rpartition("/")[2]
        what = f"busy, probably as {why} (process {seen.suspect.pid})"
        tell(error(seen.where, what, mend.format(name=name)))
        return
    tell(error(seen.where, reason, f"sudo fuser -v {seen.port.device}    # only root sees all"))


def _evict(case: Case, seen: _Seen, pid: str) -> str:
    return (
        f'kill {pid}    # or leave the port to it: exclude = ["{seen.port.name}"] in [serial] of '
        f"{case.file}"
    )


async def _find_rate(case: Case, seen: _Seen, rate: int, tell: Tell) -> None:
    """Tell at which rate noise becomes text, if at any."""
    for other in _RATES:
        if other == rate:
            continue
        try:
            heard = await listen(seen.port.path, other, case.machine.try_s, is_fresh=True)
        except LinkError as exc:
            _tell_of_failure(seen, str(exc), tell)
            return
        is_text = heard.kind is Kind.TEXT and heard.size >= _LEAST_TEXT
        if heard.kind is Kind.BOARD or is_text:
            section = f'\\n[[serial.port]]\\nmatch = "{seen.port.name}"\\nbaudrate = {other}\\n'
            tell(
                error(
                    seen.where,
                    f"wrong baud rate: at {other} it is understood ({heard.words})",
                    f"printf '{section}' | sudo tee -a {case.file}",
                    expected=f"baudrate = {other}",
                    got=f"{rate}, at which it is noise",
                )
            )
            return
    tell(
        error(
            seen.where,
            f"noise at {rate} baud, and at the usual other rates",
            f"edge-gateway sniff {seen.port.path}    # binary, no common ground, inverted?",
            expected="lines of text, or of our firmware",
            got="bytes that are neither",
        )
    )
