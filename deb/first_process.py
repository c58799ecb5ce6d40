"""Becomes the first process of a machine in a folder: `python -m deb.first_process FOLDER`.

Called in namespaces of its own (mount, PID, network, host name, IPC, cgroup). What the machine must
not change of this one it cannot: the kernel's settings and devices are read only, its clock and
modules out of reach.
"""

import ctypes
import os
import sys
from pathlib import Path

# Source: mount(2), umount(2).
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT = 1, 2, 4, 8, 32
_BIND, _REC, _PRIVATE = 1 << 12, 1 << 14, 1 << 18
_DETACH = 2
_PR_CAPBSET_DROP = 24

_OUT_OF_REACH = {
    "CAP_SYS_MODULE": 16,
    "CAP_SYS_RAWIO": 17,
    "CAP_SYS_TIME": 25,
    "CAP_SYSLOG": 34,
    "CAP_WAKE_ALARM": 35,
}
"""Source: linux/capability.h."""

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)


def _succeeded(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _mount(source: Path | str, target: Path, kind: str = "", flags: int = 0, how: str = "") -> None:
    result = _libc.mount(
        *(str(source).encode(), str(target).encode(), kind.encode() or None),
        *(ctypes.c_ulong(flags), how.encode() or None),
    )
    _succeeded(result, f"mount {kind or source} at {target}")


def _make_devices(folder: Path) -> None:
    _mount("tmpfs", folder, "tmpfs", _NOSUID, "mode=755")
    for name in _DEVICES:
        there = Path("/dev", name).stat()
        os.mknod(folder / name, there.st_mode, there.st_rdev)
        (folder / name).chmod(0o666)
    for name in ("pts", "shm"):
        (folder / name).mkdir()
    how = "newinstance,ptmxmode=0666,mode=620,gid=5"
    _mount("devpts", folder / "pts", "devpts", _NOSUID | _NOEXEC, how)
    (folder / "ptmx").symlink_to("pts/ptmx")
    (folder / "fd").symlink_to("/proc/self/fd")
    _mount("tmpfs", folder / "shm", "tmpfs", _NOSUID | _NODEV)


def enter(root: Path) -> None:
    """Make `root` the root of this mount namespace, with what a machine has besides its files."""
    nothing = _NOSUID | _NODEV | _NOEXEC
    _mount("none", Path("/"), flags=_REC | _PRIVATE)
    _mount(root, root, flags=_BIND | _REC)
    _mount("proc", root / "proc", "proc", nothing)
    _mount("sysfs", root / "sys", "sysfs", nothing | _RDONLY)
    _mount("cgroup2", root / "sys/fs/cgroup", "cgroup2", nothing)
    _make_devices(root / "dev")
    _mount("tmpfs", root / "run", "tmpfs", _NOSUID | _NODEV, "mode=755")
    _mount("tmpfs", root / "tmp", "tmpfs", _NOSUID | _NODEV, "mode=1777")
    settings = root / "proc/sys"
    _mount(settings, settings, flags=_BIND)
    _mount("none", settings, flags=_BIND | _REMOUNT | _RDONLY | nothing)
    os.chdir(root)
    # Source: pivot_root(2), "pivot_root(".", ".")".
    _succeeded(_libc.pivot_root(b".", b"."), "pivot_root")
    _succeeded(_libc.umount2(b".", _DETACH), "umount")
    os.chdir("/")


def main() -> None:
    """Be systemd."""
    enter(Path(sys.argv[1]))
    for name, number in _OUT_OF_REACH.items():
        _succeeded(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), name)
    _succeeded(_libc.sethostname(b"trial", 5), "sethostname")
    # Source: https://systemd.io/CONTAINER_INTERFACE
    environment = {"container": "trial", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    os.execve("/usr/lib/systemd/systemd", ["systemd", "--system"], environment)  # noqa: S606 - it is to be this


if __name__ == "__main__":
    main()
