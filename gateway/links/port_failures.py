"""Why a port does not open, in words that say what to do."""

import errno
import grp
import os
import pwd
import stat

from gateway.links.port_holders import holders, locker

_BUSY = frozenset({errno.EBUSY, errno.EWOULDBLOCK})
"""EBUSY: exclusive mode; EWOULDBLOCK: another one's lock."""
_PTS = "/dev/pts/"
"""Ptys are also open in the program that simulates what is behind them."""
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_WORDS = {
    errno.ENOENT: "there is no such port",
    errno.ENOTTY: "it is no serial port",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n, LimitNOFILE=)",
    errno.ENODEV: "its device is gone",
    errno.ENXIO: "its device is gone",
    errno.EIO: "its device does not answer",
}


def explain(path: str, error: OSError | ValueError) -> str:
    """Return why opening `path` failed; looks into /proc, so call it from a thread."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _BUSY:
        return f"busy: {_holder(path)} has it open"
    if number in _FORBIDDEN:
        group = _group(path)
        how = f"sudo usermod -aG {group} {_user()}, then log in again"
        return f"permission denied: add the user to group {group}: {how}"
    return _WORDS.get(number or 0) or str(error)


def _holder(path: str) -> str:
    device = os.path.realpath(path)
    holder = locker(device)
    if holder is None and not device.startswith(_PTS):
        holder = holders({device}).get(device)
    if holder is None:
        return "another program (ModemManager, brltty or a serial monitor?)"
    if holder.pid == os.getpid():
        return "this program"
    return f"another program ({holder.program}, process {holder.pid})"


def _group(path: str) -> str:
    """Name the group that may open `path`; dialout where it is not to be known."""
    try:
        status = os.stat(path)  # noqa: PTH116  # beside os.path.realpath
        if status.st_mode & stat.S_IRGRP and status.st_gid:
            return grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        pass
    return "dialout"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a number without a name, as in a container
        return "USER"
