"""Which programs run, as /proc tells everybody; reads files, so call it from a thread."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.doctor.case import Who

_OURS = frozenset({"run", "demo"})
"""The commands that read ports and publish."""


class Running(NamedTuple):
    """A process."""

    pid: int
    program: str
    words: tuple[str, ...]
    """Its command line."""

    @property
    def is_gateway(self) -> bool:
        """Whether it is a gateway that reads ports, rather than one of the other commands."""
        names = [word.rpartition("/")[2] for word in self.words]
        if not names or not names[0].startswith(("edge-gateway", "python")):
            return False  # somebody who starts one, such as timeout
        for index, name in enumerate(names):
            if name == "edge-gateway" or (name == "gateway" and names[index - 1] == "-m"):
                return any(each in _OURS for each in names[index + 1 : index + 2])
        return False


def running(proc: Path) -> Iterator[Running]:
    """Yield all processes that can be seen."""
    for entry in proc.iterdir():
        if entry.name.isdecimal() and (found := process(proc, int(entry.name))):
            yield found


def process(proc: Path, pid: int) -> Running | None:
    """Return one process; None if it has ended, or is hidden."""
    try:
        program = (proc / str(pid) / "comm").read_text(errors="replace").strip()
        words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return None
    return Running(pid, program, tuple(words.split("\0")[:-1]))


def gateway_of(proc: Path, config: Path | None) -> Running | None:
    """Return the gateway that runs with a configuration, or with the defaults, if there is one."""
    wanted = config.resolve() if config else None
    for each in gateways(proc):
        is_told, given = _config_of(proc, each)
        if is_told and given == wanted:
            return each
    return None


def _config_of(proc: Path, program: Running) -> tuple[bool, Path | None]:
    """Return whether it can be told which configuration a gateway was given, and the file."""
    words = [each for word in program.words for each in word.partition("=") if each]
    if "--config" not in words[:-1]:
        return True, None
    named = next(each for each in words[words.index("--config") + 1 :] if each != "=")
    try:
        return True, (proc / str(program.pid) / "cwd").readlink().joinpath(named).resolve()
    except OSError:  # it is another user's
        return Path(named).is_absolute(), Path(named).resolve()


def rights_of(proc: Path, program: Running) -> Who | None:
    """Return whose rights a process has. Source: proc_pid_status(5), Uid, Gid, Groups."""
    try:
        lines = (proc / str(program.pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    told = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    groups = frozenset(int(each) for each in [*told["Groups"], told["Gid"][1]])
    return Who(f"the gateway (process {program.pid})", int(told["Uid"][1]), groups)


def gateways(proc: Path) -> list[Running]:
    """Return the gateways that run here."""
    return [each for each in running(proc) if each.is_gateway]
