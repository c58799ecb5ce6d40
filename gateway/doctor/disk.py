"""Is there room for the store, may it be written, and does it wear the disk out?"""

import os
from pathlib import Path

from gateway.doctor.case import Case, Space
from gateway.doctor.finding import Tell, error, ok, warning
from gateway.doctor.processes import gateway_of
from gateway.doctor.rights import may
from gateway.store.obstacles import obstacle

WHERE = "disk"
STORE = "store"
WEAR = "wear"

_FULL_BYTES = 16 << 20
"""Below this SQLite soon has no room for what it must write before it can delete."""
_MUCH_A_DAY = 5 << 30
"""An SD card of 32 GB is written through in a week; a gateway whose broker is there writes MB."""
_TELLING_S = 3600.0
"""A start writes more than an hour: a younger gateway counts as if it had been one."""
_WORN = 0x0A
"""A life time estimate of 90 to 100 %. Source: JEDEC eMMC 5.1, DEVICE_LIFE_TIME_EST_TYP_A."""
_ROOM = "sudo journalctl --vacuum-size=50M; sudo du -xh --max-depth=3 / | sort -h | tail"


def look(case: Case, tell: Tell) -> None:
    """Tell of the place where the gateway keeps what the broker does not have yet."""
    _look_at_wear(case, tell)
    if case.outbox is None:
        tell(warning(STORE, "not looked at: the configuration cannot be read", case.first))
        return
    try:
        _look_at_store(case, tell, case.outbox)
    except PermissionError as exc:
        what = f"{exc.filename or case.outbox} could not be seen: only its user and root may look"
        tell(warning(STORE, what, f"sudo {case.again}"))


def _look_at_store(case: Case, tell: Tell, path: Path) -> None:
    folder = next(each for each in path.parents if each.exists())
    space = case.machine.space(folder)
    if space.is_read_only:
        mend = f"dmesg | grep -i 'error\\|remount'; sudo mount -o remount,rw $(df -P {folder} | tail -1 | awk '{{print $6}}')"  # noqa: E501 - one command
        tell(error(WHERE, f"{folder} is mounted read-only, as after errors of the card", mend))
        return
    sizes = [_size(each) for each in _files(case, path)]
    _look_at_space(case, tell, folder, space, max(0, case.max_bytes - sum(sizes)))
    is_ours = case.who is None or os.geteuid() == 0
    trouble = obstacle(path, path.with_suffix(".ledger")) if is_ours else ""
    if trouble := trouble or _forbidden(case):
        tell(error(STORE, trouble, clear_the_way(case, path, trouble)))
        return
    put_aside = sorted(path.parent.glob(f"{path.name}*damaged*")) if path.parent.exists() else []
    for each in put_aside[:1]:
        what = f"{each.name} is what was damaged once: what could be read was salvaged"
        tell(warning(STORE, what, f"rm {each}    # once nobody wants to look into it"))
    tell(ok(STORE, f"{_mega(sum(sizes))} of at most {_mega(case.max_bytes)} in {path.parent}"))


def _forbidden(case: Case) -> str:
    """Return which of its files the gateway may not write: root, who looks, may write them all."""
    whom = case.who.name if case.who else "us"
    for each in case.own_files:
        wanted = os.R_OK | os.W_OK | (os.X_OK if each.is_dir() else 0)
        if each.exists() and not may(each, case.who, wanted):
            return f"{each} may not be read and written by {whom}, and must"
    return ""


def clear_the_way(case: Case, path: Path, trouble: str) -> str:
    """Return what removes an obstacle; what it is stands first in the words for it."""
    for words in (" is a folder, ", " is a file, "):
        if words in trouble:
            return f"mv {trouble.partition(words)[0]} ~/"
    owner = case.unit.user if case.unit and case.unit.user else "$(id -un)"
    inside = trouble.partition(" may not be ")[0]
    if Path(inside) in path.parents:
        return f"sudo install -d -o {owner} {path.parent}"
    if Path(inside).is_dir():
        return f"sudo chown -R {owner} {inside}"
    return f"sudo chown {owner} {inside}"


def _look_at_space(case: Case, tell: Tell, folder: Path, space: Space, growth_bytes: int) -> None:
    del case
    free = _mega(space.free_bytes)
    if space.free_files == 0:
        what = f"no file can be made at {folder}: the file system has no inode left"
        tell(error(WHERE, what, f"sudo du --inodes -x / | sort -n | tail; df -i {folder}"))
    elif space.free_bytes < _FULL_BYTES:
        what = f"the disk at {folder} is full: what waits for the broker cannot be kept"
        tell(
            error(WHERE, what, _ROOM, expected=f"{_mega(_FULL_BYTES)} or more", got=f"{free} free")
        )
    elif space.free_bytes < growth_bytes:
        what = f"while the broker is away the outbox may grow by {_mega(growth_bytes)}, and that is more than there is"  # noqa: E501 - one sentence
        mend = f"{_ROOM}    # or a smaller max_mb in [outbox]"
        tell(warning(WHERE, what, mend, expected=_mega(growth_bytes), got=f"{free} free"))
    else:
        tell(ok(WHERE, f"{free} free at {folder}"))


def _look_at_wear(case: Case, tell: Tell) -> None:
    """Tell what a running gateway has written a day, and what a card says of its age.

    Source: proc_pid_io(5), write_bytes; sd cards tell nothing of their age, eMMC does.
    """
    for each in sorted(case.machine.sys.glob("block/mmcblk*/device/life_time")):
        estimates = [int(word, 16) for word in each.read_text().split()]
        if max(estimates, default=0) >= _WORN:
            what = f"{each.parts[-3]} says that 90 % of its life or more is over"
            tell(error(WEAR, what, "sudo rpi-clone sda    # or dd: move to a new card soon"))
    gateway = gateway_of(case.machine.proc, case.config)
    if gateway is not None:
        rate = _written_a_day(case, gateway.pid)
        if rate is None:
            mend = f"sudo {case.again}"
            what = f"what the gateway (process {gateway.pid}) writes a day only root may see"
            tell(warning(WEAR, what, mend))
        elif rate > _MUCH_A_DAY:
            what = "so much writing wears out an SD card within months"
            mend = f'durability = "spill" in [outbox] of {case.file}; log level "info"'
            tell(
                warning(
                    WEAR, what, mend, expected=f"below {_mega(_MUCH_A_DAY)} a day", got=_mega(rate)
                )
            )
        else:
            tell(ok(WEAR, f"the gateway (process {gateway.pid}) writes {_mega(rate)} a day"))
        return
    tell(ok(WEAR, "not known: no gateway runs here with this configuration"))


def _written_a_day(case: Case, pid: int) -> int | None:
    """Return the bytes a process writes a day, counted since its start; None if that is hidden."""
    proc = case.machine.proc
    try:
        lines = (proc / str(pid) / "io").read_text(encoding="ascii").splitlines()
        # the 20th word behind the name, which may hold anything: proc_pid_stat(5), starttime
        stat = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        up_s = float((proc / "uptime").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    written = next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
    age_s = up_s - int(stat[19]) / os.sysconf("SC_CLK_TCK")
    return round(written / max(age_s, _TELLING_S) * 86_400)


def _files(case: Case, path: Path) -> list[Path]:
    files = [path, path.with_suffix(".ledger"), Path(f"{path}-wal"), Path(f"{path}-shm")]
    return files if case.state is None else [*files, case.state, Path(f"{case.state}-wal")]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _mega(size: int) -> str:
    return f"{size / (1 << 20):.1f} MB" if size < 10 << 20 else f"{size >> 20} MB"
