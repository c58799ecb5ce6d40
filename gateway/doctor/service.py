"""Does systemd run the gateway, and has it had to start it again?"""

import grp
import pwd
import re
from contextlib import suppress
from pathlib import Path

from gateway.doctor.case import Case, Machine, Unit, Who
from gateway.doctor.finding import Finding, Tell, error, ok, warning
from gateway.doctor.tools import answer
from gateway.systemd import STANDS_STILL, failures_in

UNIT = "edge-gateway"
WHERE = "service"

_PROPERTIES = (
    "LoadState ActiveState SubState UnitFileState Result ExecMainStatus NRestarts User Group "
    "SupplementaryGroups DynamicUser StateDirectory ExecStart LoadCredential StatusText"
)
_CONFIG = re.compile(r"--config[ =](\S+)")
_NOBODY = 65_534
"""Stands for the user that systemd makes up when the service starts."""
_MOST_RESTARTS = 3
"""Restarts since it was started that may be an accident."""
_LAST_LINES = 3
_USAGE = 2
"""Exit status of a gateway whose configuration cannot be used."""
_NO_PROGRAM, _NO_GROUP, _NO_USER, _NO_CREDENTIAL = 203, 216, 217, 243
"""Exit statuses of systemd itself. Source: systemd.exec(5)."""


async def find(machine: Machine, name: str = UNIT) -> tuple[bool, Unit | None]:
    """Return whether there is a systemd, and the service, if it knows it."""
    properties = ",".join(_PROPERTIES.split())
    text = await answer([machine.systemctl, "show", f"{name}.service", f"--property={properties}"])
    return (False, None) if text is None else (True, parse(name, text))


def parse(name: str, text: str) -> Unit | None:
    """Return the service that `systemctl show` tells of; None if it is not installed.

    One that systemd cannot load, or is forbidden to, is installed. Source: systemd(1), LoadState.
    """
    told: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        told.setdefault(key, []).append(value)
    one = {key: values[-1] for key, values in told.items()}
    if one.get("LoadState", "not-found") == "not-found":
        return None
    groups = (*one.get("SupplementaryGroups", "").split(), one.get("Group", ""))
    return Unit(
        name=name,
        load=one["LoadState"],
        active=one.get("ActiveState", ""),
        sub=one.get("SubState", ""),
        enabled=one.get("UnitFileState", ""),
        result=one.get("Result", ""),
        exit_status=_number(one.get("ExecMainStatus", "")),
        restarts=_number(one.get("NRestarts", "")),
        groups=tuple(group for group in groups if group),
        user=one.get("User", ""),
        is_dynamic=one.get("DynamicUser") == "yes",
        state_folder=one.get("StateDirectory", "").partition(" ")[0],
        command=one.get("ExecStart", ""),
        status=one.get("StatusText", ""),
        credentials=tuple(
            each for value in told.get("LoadCredential", ()) for each in value.split()
        ),
    )


def config_of(unit: Unit | None) -> Path | None:
    """Return the configuration the service is started with."""
    found = _CONFIG.search(unit.command) if unit else None
    return Path(found[1]) if found else None


def who_of(unit: Unit | None) -> Who | None:
    """Return whose rights the service has; None where it has ours, or root's.

    A user of its own has the groups of its unit, and those /etc/group says.
    """
    if unit is None or not (unit.is_dynamic or unit.user not in {"", "root"}):
        return None
    numbers = set()
    number = _NOBODY
    with suppress(KeyError):
        account = pwd.getpwnam(unit.user)
        number = account.pw_uid
        numbers.add(account.pw_gid)
    for name in unit.groups:
        try:
            numbers.add(int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid)
        except KeyError:
            continue
    numbers |= {each.gr_gid for each in grp.getgrall() if unit.user and unit.user in each.gr_mem}
    return Who(f"the service {unit.name}", number, frozenset(numbers))


async def look(case: Case, tell: Tell) -> None:
    """Tell whether the service runs, and how it ended."""
    unit = case.unit
    if unit is None:
        why = "no service of that name" if case.has_systemd else "no systemd here"
        tell(ok(WHERE, f"not looked at: {why}"))
        return
    start = f"sudo systemctl enable --now {unit.name}"
    if unit.load != "loaded":
        tell(_cannot_be_loaded(unit, start))
    elif unit.active == "failed":
        tell(
            error(
                WHERE,
                f"it failed, and is not started again{await _last_words(case, unit)}",
                _mend_failure(case, unit),
                expected="active (running)",
                got=f"failed ({unit.result}, exit status {unit.exit_status})",
            )
        )
    elif unit.active in {"active", "reloading"}:
        _tell_status(unit, tell)
    elif unit.active == "activating" and (
        unit.sub.startswith("auto-restart") or unit.restarts >= _MOST_RESTARTS
    ):
        tell(
            error(
                WHERE,
                f"it ends again and again{await _last_words(case, unit)}",
                _mend_failure(case, unit),
                expected="active (running)",
                got=f"{unit.result}, exit status {unit.exit_status}, {unit.restarts} restarts",
            )
        )
        return
    else:
        tell(
            warning(
                WHERE, "it is not running", start, expected="active", got=unit.active or "unknown"
            )
        )
    if unit.enabled == "disabled":
        tell(
            warning(
                WHERE, "it will not be there after a reboot", f"sudo systemctl enable {unit.name}"
            )
        )
    if unit.active != "failed" and unit.restarts >= _MOST_RESTARTS:
        tell(
            warning(
                WHERE,
                f"systemd had to start it again {unit.restarts} times"
                f"{await _last_words(case, unit)}",
                f"journalctl -u {unit.name} --since -1d -p warning",
                got=f"last result: {unit.result}",
            )
        )


def _cannot_be_loaded(unit: Unit, start: str) -> Finding:
    if unit.load == "masked":
        return error(
            WHERE,
            "it is masked: nothing starts it",
            f"sudo systemctl unmask {unit.name} && {start}",
        )
    verify = f"systemd-analyze verify {unit.name}.service    # what is wrong with it, and where"
    return error(WHERE, "systemd cannot load it", verify, expected="loaded", got=unit.load)


def _tell_status(unit: Unit, tell: Tell) -> None:
    if unit.status.startswith(STANDS_STILL):
        tell(
            error(
                WHERE,
                f"a part of it {unit.status}; systemd ends and starts it soon",
                f"journalctl -u {unit.name} -p err -n 20    # if it comes again: the disk, the "
                "adapter or the port it names",
                expected="every part moves",
                got=unit.status,
            )
        )
        return
    if failing := failures_in(unit.status):
        mend = f"journalctl -u {unit.name} -p err -n 20    # what it cannot use, and why"
        tell(error(WHERE, f"it runs, and keeps nothing on the disk: {failing}", mend))
        return
    told = f": {unit.status}" if unit.status else ""
    tell(ok(WHERE, f"{unit.active} ({unit.sub}){told}"))


def _mend_failure(case: Case, unit: Unit) -> str:
    restart = f"sudo systemctl restart {unit.name}"
    if unit.exit_status == _USAGE:
        return f"edge-gateway check-config {case.file}    # then: {restart}"
    if unit.result == "oom-kill":
        return f"systemctl show -p MemoryMax {unit.name}    # it, or the machine, has too little"
    if unit.result == "watchdog":
        return f"journalctl -u {unit.name} -g '{STANDS_STILL}' -n 5    # which part, and why"
    if unit.result == "start-limit-hit":
        return f"sudo systemctl reset-failed {unit.name} && {restart}"
    account = f"sudo systemd-sysusers && {restart}    # its account is not there"
    mends = {
        _NO_PROGRAM: f"systemctl cat {unit.name} | grep ^ExecStart    # it, or its Python, is gone",
        _NO_CREDENTIAL: f"systemctl cat {unit.name} | grep Credential    # is that file there?",
        _NO_USER: account,
        _NO_GROUP: account,
    }
    return mends.get(unit.exit_status, f"journalctl -u {unit.name} -n 50    # then: {restart}")


async def _last_words(case: Case, unit: Unit) -> str:
    """Return what the journal has of it, if it can be read: its errors, or else what it said.

    A traceback of Python's own, and what the kernel kills, is no error there.
    """
    its = f"_SYSTEMD_UNIT={unit.name}.service"  # not -u, which has what systemd says of it, too
    ask = (case.machine.journalctl, its, "-o", "cat", "--no-pager", "-q", "--since", "-1d")
    for errors in (("-p", "err"), ()):
        text = await answer([*ask, *errors, "-n", str(_LAST_LINES)])
        lines = [line for line in (text or "").splitlines() if line.strip()][-_LAST_LINES:]
        if lines:
            return f"; its last words: {' / '.join(line[:200] for line in lines)}"
    return ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
