"""Tries a new version, and keeps it, or returns to the one before."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import GatewayError
from gateway.install import layout
from gateway.install.actions import Command, systemctl
from gateway.install.execute import Machine, TookTooLongError
from gateway.install.plan import Upgrade
from gateway.systemd import failures_in, is_opening

_LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a new version has."""

    ready_s: float = 60.0
    """Until it says that it is ready."""
    steady_s: float = 10.0
    """It has to stay there, afterwards."""
    opening_s: float = 900.0
    """Until it has opened its files, and brought them forward."""
    look_s: float = 1.0


class NotProvenError(GatewayError):
    """A new version did not prove itself; the one before is back."""


def upgrade(
    machine: Machine,
    plan: Upgrade,
    give_back: Callable[[], Sequence[str]],
    say: Callable[[str], object],
    patience: Patience = Patience(),
) -> None:
    """Do an upgrade; whatever fails, the version before is what runs in the end.

    Args:
        machine: where.
        plan: what to do.
        give_back: gives the state the form back that the version before can read; called while
            nothing runs.
        say: is told each step.
        patience: how long the new version has.

    Raises:
        NotProvenError: the new version was not ready in time, did not stay, or cannot use what is
            stored.
        GatewayError: it could not be prepared, and nothing was changed; or it runs, and a step
            behind its trial failed, as is said then.
    """
    machine.do(plan.prepare)
    if not plan.trial:
        machine.do(plan.keep)
        return
    try:
        machine.do(plan.trial)
        why = _prove(machine, say, patience)
    except BaseException:
        _return(machine, plan, give_back, say, patience)
        raise
    if why:
        came_back = _return(machine, plan, give_back, say, patience)
        raise NotProvenError(f"the new version {why}\n{came_back}")
    try:
        machine.do(plan.keep)
    except GatewayError as exc:
        what = f"{exc}\nthe new version runs; its `install` once more ends this"
        raise GatewayError(what) from exc


def _prove(machine: Machine, say: Callable[[str], object], patience: Patience) -> str:
    """Start the new version; returns what is wrong with it, empty if nothing is."""
    failed_before = failures_in(_told(machine).get("StatusText", ""))
    restart = systemctl("restart", layout.UNIT, timeout_s=patience.ready_s)
    say(f"{restart}; it has {patience.ready_s:g} s to be ready")
    try:
        # For a unit that notifies, systemctl waits until it is ready.
        ran = machine.run(restart)
    except TookTooLongError:
        return f"was not ready within {patience.ready_s:g} s{_last_words(machine)}"
    if ran.returncode:
        return f"ended before it was ready{_last_words(machine)}"
    say(f"it is ready; whether it stays so for {patience.steady_s:g} s")
    process, status = _process(told := _told(machine)), told.get("StatusText", "")
    steady_s = time.monotonic() + patience.steady_s
    opened_s = time.monotonic() + patience.opening_s
    while (now_s := time.monotonic()) < (opened_s if is_opening(status) else steady_s):
        left_s = steady_s - now_s
        time.sleep(min(patience.look_s, left_s) if left_s > 0 else patience.look_s)
        told = _told(machine)
        status = told.get("StatusText", "")
        if not process or _process(told) != process:
            return f"ended soon after it was ready{_last_words(machine)}"
    if (failing := failures_in(status)) and not failed_before:
        return f"cannot use its files: {failing}"
    if is_opening(status):
        return f"had not opened its files within {patience.opening_s:g} s{_last_words(machine)}"
    return ""


def _told(machine: Machine) -> dict[str, str]:
    """Return what systemd tells of the service."""
    command = systemctl("show", layout.UNIT, "--property=ActiveState,MainPID,StatusText")
    return dict(line.partition("=")[::2] for line in machine.run(command).stdout.splitlines())


def _process(told: dict[str, str]) -> str:
    """Return the number of the running service's process; empty while it does not run."""
    return told.get("MainPID", "") if told.get("ActiveState") == "active" else ""


def _return(
    machine: Machine,
    plan: Upgrade,
    give_back: Callable[[], Sequence[str]],
    say: Callable[[str], object],
    patience: Patience,
) -> str:
    """Go back to the version before, as far as possible; returns how that went."""
    say("back to the version before")
    _tolerant(machine, systemctl("stop", layout.UNIT))
    failed = []
    # Each for itself: whatever fails of it, the version before is started.
    for action in plan.back:
        try:
            machine.do([action])
        except GatewayError as exc:
            failed.append(str(exc))
    try:
        for line in give_back():
            say(line)
    except (GatewayError, OSError) as exc:
        failed.append(f"the state is not given back: {exc}")
    for line in failed:
        say(line)
    start = systemctl("start", layout.UNIT, timeout_s=patience.ready_s)
    say(str(start))
    if _tolerant(machine, start):
        return "\n".join(["the version before runs again", *failed])
    how = f"the version before is back, but did not start: journalctl -u {layout.UNIT} -n 50"
    return "\n".join([how, *failed])


def _tolerant(machine: Machine, command: Command) -> bool:
    """Run a command; returns whether it went well."""
    try:
        return machine.run(command).returncode == 0
    except GatewayError:
        return False


def _last_words(machine: Machine) -> str:
    words = ("journalctl", "-u", layout.UNIT, "-o", "cat", "--no-pager", "-q")
    try:
        text = machine.run(Command((*words, "-n", str(_LAST_LINES)), timeout_s=10.0)).stdout
    except GatewayError:
        return ""
    said = [line for line in text.splitlines() if line.strip()]
    return "; its last words:\n" + "\n".join(f"  {line[:300]}" for line in said) if said else ""
