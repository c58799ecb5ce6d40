"""A machine that systemd has booted, in namespaces: it changes nothing of this one."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deb.debian import TrialError

_ROOT = Path(__file__).parents[1]

_NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "",
    "DEBIAN_FRONTEND": "noninteractive",
}

_BOOT_S = 90.0
_END_S = 30.0
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program in the machine did."""

    code: int
    out: str
    """What it printed, errors and all."""
    seconds: float


class Booted:
    """A machine in a folder, while its power is on."""

    def __init__(self, root: Path, group: Path) -> None:
        self.root = root
        self._group = group
        self._unshare: subprocess.Popen[bytes] | None = None
        self._first = 0

    def boot(self) -> float:
        """Switch it on; returns after how many seconds systemd had started all there is.

        Raises:
            TrialError: it did not boot.
        """
        began_s = time.monotonic()
        self._group.mkdir()
        words = ["unshare", *_NAMESPACES, "--fork", "--kill-child"]
        words += [sys.executable, "-m", "deb.first_process", str(self.root)]
        script = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        self._unshare = subprocess.Popen(
            ["sh", "-c", script, self._group, *words], cwd=_ROOT, stdin=subprocess.DEVNULL
        )
        self._first = self._wait_for_the_first_process(self._unshare)
        self.until("it has booted", self._is_running, _BOOT_S)
        return time.monotonic() - began_s

    def _wait_for_the_first_process(self, unshare: subprocess.Popen[bytes]) -> int:
        parent = unshare.pid
        children = Path(f"/proc/{parent}/task/{parent}/children")
        until_s = time.monotonic() + _END_S
        while time.monotonic() < until_s and unshare.poll() is None:
            pids = children.read_text().split()
            # Only after it has become systemd is the folder the root of its namespace.
            if pids and Path(f"/proc/{pids[0]}/comm").read_text() == "systemd\n":
                return int(pids[0])
            time.sleep(_LOOK_S)
        self.cut_power()
        raise TrialError("systemd did not become the first process: what refused is told above")

    def _is_running(self) -> bool:
        return self.run("systemctl", "is-system-running", expected=None).out.strip() in {
            "running",
            "degraded",
        }

    def cut_power(self) -> None:
        """Kill everything at once."""
        if self._unshare is None:
            return
        (self._group / "cgroup.kill").write_text("1")
        self._unshare.wait(_END_S)
        self._unshare = None
        until_s = time.monotonic() + _END_S
        while True:
            try:
                _remove(self._group)
            except OSError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(_LOOK_S)
            else:
                return

    def run(
        self,
        *words: str,
        expected: Sequence[int] | None = (0,),
        timeout_s: float = 300.0,
        inside_of: str = "",
    ) -> Ran:
        """Run a program in it; `inside_of` a unit's cgroup.

        Raises:
            TrialError: it ended otherwise than expected.
        """
        began_s = time.monotonic()
        command = ["nsenter", "--target", str(self._first), "--root", "--wd", *_NAMESPACES, *words]
        if inside_of:
            script = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
            group = self._group / "system.slice" / inside_of
            command = ["sh", "-c", script, str(group), *command]
        ran = subprocess.run(
            command,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            text=True,
            errors="replace",
            check=False,
        )
        if expected is not None and ran.returncode not in expected:
            said = ran.stdout[-4000:]
            raise TrialError(f"`{' '.join(words)}` ended with {ran.returncode}:\n{said}")
        return Ran(ran.returncode, ran.stdout, time.monotonic() - began_s)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a program in it, which ends with the machine at the latest."""
        command = ["nsenter", "--target", str(self._first), "--root", "--wd", *_NAMESPACES, *words]
        script = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        return subprocess.Popen(
            ["sh", "-c", script, str(self._group / "init.scope"), *command],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def property_of(self, unit: str, name: str) -> str:
        """Return what systemd says of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).out.strip()

    def until(self, what: str, is_so: Callable[[], bool], timeout_s: float) -> float:
        """Wait until something is so; returns how many seconds that took.

        Raises:
            TrialError: it did not become so.
        """
        began_s = time.monotonic()
        while not is_so():
            if time.monotonic() > began_s + timeout_s:
                log = self.run("journalctl", "-n", "40", "--no-pager", expected=None).out
                raise TrialError(f"not within {timeout_s:g} s: {what}\n{log}")
            time.sleep(_LOOK_S)
        return time.monotonic() - began_s


@contextmanager
def machine(root: Path) -> Iterator[Booted]:
    """Yield a machine that can be booted from a folder; in the end its power is off.

    Raises:
        TrialError: there is no cgroup2 here, or none may be made in it.
    """
    booted = Booted(root, _cgroup2() / f"edge-gateway-trial-{os.getpid()}")
    try:
        yield booted
    finally:
        booted.cut_power()


def controllers() -> str:
    """Return what of MemoryMax= and TasksMax= a booted machine can apply here."""
    return (_cgroup2() / "cgroup.subtree_control").read_text().strip()


def _cgroup2() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        if kind.split()[0] == "cgroup2":
            return Path(place.split()[4])
    raise TrialError("no cgroup2 is mounted here: mount -t cgroup2 cgroup2 /sys/fs/cgroup")


def _remove(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()
