"""Enter a unit's sandbox and become its command: `python -m tests.support.sandbox.enter SPEC ...`.

SPEC is a file that `Spec` reads. The process stays the same one. Everything is done as systemd does
it, by root as well as by any user: who is not root has a user namespace for it from the start.
"""

import ctypes
import json
import os
import resource
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.sandbox.seccomp import Refusals, load_filters
from tests.support.sandbox.unit import (
    allowed_calls,
    binary,
    octal,
    syscall_sets,
    unit_of,
)

_NEWNS, _NEWUTS, _NEWUSER = 0x00020000, 0x04000000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR: Final = 442
_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41, "armv7l": 218, "i686": 217}
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID = 1, 2
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = (
    4,
    38,
    24,
    47,
    4,
)
_CAPABILITY_VERSION_3: Final = 0x20080522

PSEUDO_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
"""What `DevicePolicy=closed` leaves, but for ptys. Source: systemd.resource-control(5)."""
ETC: Final = ("hosts", "nsswitch.conf", "resolv.conf", "passwd", "group", "localtime", "ssl")
SYSTEM: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")


class ImpossibleError(Exception):
    """This machine lets nobody make namespaces; the text says what was refused."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A sandbox to enter."""

    unit: str
    syscalls: str
    """File with what `systemd-analyze syscall-filter` prints."""
    root: str
    """An empty folder where the sandbox is built."""
    account: int
    """The number of its account; our own, unless we are root."""
    binds: list[tuple[str, str, bool]] = field(default_factory=list)
    """What is where inside, and whether it is writable."""
    files: dict[str, str] = field(default_factory=dict)
    """Programs to be made, by their paths inside."""

    def save(self, path: Path) -> Path:
        """Write it to a file."""
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> "Spec":
        """Read a file."""
        return cls(**json.loads(path.read_text()))


def enter(spec: Spec) -> None:
    """Be in the sandbox from now on, without a way back."""
    service = unit_of(Path(spec.unit))["Service"]
    allowed = allowed_calls(service["SystemCallFilter"], syscall_sets(_text(spec.syscalls)))
    if os.geteuid() == 0:
        _call("unshare", _NEWNS | _NEWUTS)
    else:
        _unshare_user(_NEWNS | _NEWUTS)
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    _build_system(Path(spec.root))
    _build_own(Path(spec.root), spec)
    _pivot(Path(spec.root))
    os.umask(octal(service, "UMask"))
    _limit(resource.RLIMIT_CORE, int(service["LimitCORE"][-1]))
    _limit(resource.RLIMIT_NOFILE, int(service["LimitNOFILE"][-1]))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(spec.account, spec.account, spec.account)
        os.setresuid(spec.account, spec.account, spec.account)
        _call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self is root's
        if binary(service, "PrivateUsers"):
            _unshare_user(0)
    _drop_capabilities()
    assert binary(service, "NoNewPrivileges")
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    refusals = Refusals(
        families=frozenset(service["RestrictAddressFamilies"][-1].split()),
        write_execute=binary(service, "MemoryDenyWriteExecute"),
        namespaces=binary(service, "RestrictNamespaces"),
        set_id=binary(service, "RestrictSUIDSGID"),
        personality=binary(service, "LockPersonality"),
    )
    load_filters(allowed, refusals)


def _unshare_user(more: int) -> None:
    """Have a user namespace in which our account is, and nobody else."""
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _NEWUSER | more)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")


def _build_system(root: Path) -> None:
    _call("mount", b"tmpfs", bytes(root), b"tmpfs", _MS_NOSUID, b"mode=755")
    for name in SYSTEM:
        there = Path("/") / name
        if there.is_symlink():
            (root / name).symlink_to(os.readlink(there))
        elif there.exists():
            _bind(there, root / name)
    for name in ("proc", "sys"):
        _bind(Path("/") / name, root / name)
    for name in ("tmp", "var/tmp", "home", "root", "run/user", "dev", "var/lib"):
        (root / name).mkdir(parents=True)
    (root / "var/run").symlink_to("/run")
    for name in PSEUDO_DEVICES:
        _bind(Path("/dev") / name, root / "dev" / name)
    (root / "etc").mkdir()
    for name in ETC:
        source = Path("/etc") / name
        if source.is_dir():
            _bind(source, root / "etc" / name)
        elif source.exists():
            shutil.copyfile(source, root / "etc" / name)


def _build_own(root: Path, spec: Spec) -> None:
    for path, text in spec.files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755)
    writable = [root / "proc", root / "tmp", root / "var/tmp"]
    for there in writable[1:]:  # before the rest: the project itself may lie below /tmp
        _call("mount", b"tmpfs", bytes(there), b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=1777")
    for source_path, path, is_writable in spec.binds:
        target = root / path.lstrip("/")
        _bind(Path(source_path), target)
        writable += [target] if is_writable else []
    _set_read_only(root, is_read_only=True, is_recursive=True)
    for target in writable:
        _set_read_only(target, is_read_only=False, is_recursive=False)


def _bind(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _call("mount", bytes(source), bytes(target), None, _MS_BIND | _MS_REC, None)


def _set_read_only(target: Path, *, is_read_only: bool, is_recursive: bool) -> None:
    """Change a mount; with those below it where `is_recursive`. Source: mount_setattr(2)."""
    on = (_ATTR_RDONLY | _ATTR_NOSUID) if is_read_only else 0
    off = 0 if is_read_only else _ATTR_RDONLY
    attributes = (ctypes.c_uint64 * 4)(on, off, 0, 0)
    flags = _AT_RECURSIVE if is_recursive else 0
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    _call(
        "syscall",
        *(ctypes.c_long(_SYS_MOUNT_SETATTR), _AT_FDCWD, bytes(target), flags),
        *(ctypes.byref(attributes), size),
    )


def _pivot(root: Path) -> None:
    """Have the folder for root, and nothing of what was. Source: pivot_root(2)."""
    os.chdir(root)
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _call("syscall", ctypes.c_long(number), b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir("/")


def _drop_capabilities() -> None:
    libc = ctypes.CDLL(None)
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # the kernel has fewer
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _call("capset", ctypes.byref(header), ctypes.byref(none))


def _limit(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))


def _call(name: str, *arguments: Any) -> None:  # noqa: ANN401 - of C
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == -1:
        error = ctypes.get_errno()
        raise ImpossibleError(f"{name}{arguments}: {os.strerror(error)}")


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def main(words: Sequence[str]) -> None:
    """Enter, and become the command."""
    enter(Spec.load(Path(words[0])))
    os.execv(words[1], [*words[1:]])  # noqa: S606 - a command line


if __name__ == "__main__":
    main(sys.argv[1:])
