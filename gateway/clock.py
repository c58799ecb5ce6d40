"""The machine's clocks: monotonic seconds for order and age, UTC for people."""

import ctypes
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

SLEWED_S = 0.02
"""A correction below 0.4 s is not stepped by systemd-timesyncd but slewed, over minutes, in which
the clock counts as synchronised; until no more than this is left, it is not for us."""

TimeQuality: TypeAlias = Literal["synced", "unsynced"]
"""Whether somebody vouches for the machine's clock."""


class TimeBase(NamedTuple):
    """How monotonic seconds of one boot of the machine become UTC."""

    offset_s: float
    """UTC seconds minus monotonic seconds."""
    quality: TimeQuality


def machine_boot_id() -> str:
    """Return what tells this boot of the machine from all others: its monotonic clock began there.

    Where the kernel does not say it, each run of the gateway counts as a boot of its own.

    Source: random(4), /proc/sys/kernel/random/boot_id.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return str(uuid.uuid4())


TIMESYNCD = Path("/run/systemd/timesync/synchronized")
"""There once systemd-timesyncd has set the clock, until it ends. Source: systemd-timesyncd(8)."""


def is_clock_synchronised(timesyncd: Path = TIMESYNCD) -> bool:
    """Tell whether the machine's clock is right, as the kernel sees it.

    Where it may not be asked, as in our service, systemd-timesyncd's word counts.
    """
    word = kernel_word()
    return timesyncd.exists() if word is None else word


def kernel_word() -> bool | None:
    """Tell whether the kernel takes its clock for right; None if it may not be asked.

    It does when somebody (NTP, GPS) keeps it, and what is left to be slewed is below SLEWED_S. A
    clock set by hand is not synchronised from that moment on, until it is disciplined again.

    Source: adjtimex(2). It returns TIME_ERROR, 5, while the clock is not synchronised; with `modes`
    0 nothing is set; STA_NANO, 0x2000, in `status` tells the unit of `offset`.
    """
    timex = _Timex()
    state: int = _libc.adjtimex(ctypes.byref(timex))
    if state == -1:
        return None
    if state == _TIME_ERROR:
        return False
    unit_s = 1e-9 if timex.status & _STA_NANO else 1e-6
    return bool(abs(timex.offset) * unit_s < SLEWED_S)


_TIME_ERROR = 5
_STA_NANO = 0x2000
_libc = ctypes.CDLL(None)


class _Timex(ctypes.Structure):
    """The first fields of `struct timex`, and room for the others, of any architecture."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("others", ctypes.c_char * 512),
    )


_boottime_s = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""It costs 0.14 us, CLOCK_MONOTONIC 0.09 us. Source: clock_gettime(2)."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from; tests put their own functions in."""

    monotonic_s: Callable[[], float] = _boottime_s
    """Seconds that never step, those in which the machine slept among them: else what waits while
    it sleeps would be dated by so much too late. Not the clock of asyncio's loop, which stops then.
    """
    unix_s: Callable[[], float] = time.time
    """Seconds since 1970, UTC; may step when the machine's clock is set."""
    boot_id: str = field(default_factory=machine_boot_id)
    """Names the boot in which `monotonic_s` counts; times of another boot are no times of this."""
    is_synchronised: Callable[[], bool] = is_clock_synchronised
    """Whether somebody vouches for `unix_s` now."""


class TimeFormat:
    """Formats UTC seconds as ISO 8601; remembers the last second, as most repeat."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def text(self, unix_s: float) -> str:
        """Return for example `2026-11-22T07:00:00.123Z`."""
        millis = round(unix_s * 1000)
        second, milli = divmod(millis, 1000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{milli:03d}Z"
