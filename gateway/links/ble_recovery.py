"""What to do about a scan that does not start, or hears nothing: a ladder, climbed rung by rung."""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

ScanMode: TypeAlias = Literal["passive", "active"]

FIRST_WAIT_S: Final = 1.5
"""An adapter that was just plugged in takes so long to be ready. Source: habluetooth, which found
it in the field."""

LONGEST_WAIT_S: Final = 60.0

LOOK_S: Final = 5.0
"""Where there is no adapter, it is looked for so often."""

MANY_LOOKS: Final = 24
RARE: Final = 12
"""After so many looks they are so many times rarer: each asks the bus to start bluetoothd, and
where that is not installed the bus logs it."""

LONGEST_PATIENCE_S: Final = 900.0
"""Where nothing is ever heard, there may be nothing to hear."""


class Failure(Enum):
    """Why there is no scan."""

    NO_ADAPTER = "no_adapter"
    """No radio, or nobody who serves it: nothing to repair, only to look for."""
    NO_PASSIVE = "no_passive"
    """The adapter cannot listen passively."""
    NOT_STARTED = "not_started"
    """It does not start, or was ended from outside."""
    DEAF = "deaf"
    """It runs, and hears nothing."""


class Remedy(Enum):
    """What is done before the next start."""

    NONE = "none"
    POWER_CYCLE = "power_cycle"
    """Switch the adapter off and on again."""
    RESET = "reset"
    """Lift an rfkill block, power cycle, reset the USB device."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next try."""

    wait_s: float
    remedy: Remedy
    mode: ScanMode


_RUNGS = (Remedy.NONE, Remedy.POWER_CYCLE, Remedy.RESET, Remedy.NONE)
"""By failures in a row; from the second on again and again. The fourth try is in the other mode: a
passive scan takes another way through BlueZ, which often works where a discovery is stuck."""


class Ladder:
    """Decides, from one failure to the next; pure."""

    def __init__(
        self, wanted: ScanMode, look_s: float = LOOK_S, first_wait_s: float = FIRST_WAIT_S
    ) -> None:
        self.mode: ScanMode = wanted
        """How to scan now."""
        self.failures = 0
        """In a row, since something was heard."""
        self._wanted = wanted
        self._look_s = look_s
        self._first_wait_s = first_wait_s
        self._has_heard = False
        self._looks = 0

    def failed(self, failure: Failure, *, is_in_use: bool = False) -> Step:
        """Return what to do now; while boards are connected (`is_in_use`) nothing that cuts them.

        A scan that hears nothing is then started anew and that is all: the boards that are
        connected are perhaps all there are.
        """
        if failure is Failure.NO_ADAPTER:
            self.failures, self.mode, self._has_heard = 0, self._wanted, False
            self._looks += 1
            times = 1 if self._looks <= MANY_LOOKS else RARE
            return Step(self._look_s * times, Remedy.NONE, self.mode)
        if failure is Failure.NO_PASSIVE:
            self.mode = self._wanted = "active"
            return Step(0.0, Remedy.NONE, self.mode)
        if failure is Failure.DEAF and is_in_use:
            return Step(0.0, Remedy.NONE, self.mode)
        self.failures += 1
        rung = self._rung()
        remedy = Remedy.NONE if is_in_use else _RUNGS[rung]
        is_other = rung == len(_RUNGS) - 1
        if failure is Failure.DEAF and not self._has_heard and self.mode == "passive":
            is_other = True  # BlueZ takes a monitor that the kernel then cannot serve
        self.mode = _other(self._wanted) if is_other else self._wanted
        wait_s = 0.0
        if failure is not Failure.DEAF:  # which took its time already
            wait_s = min(self._first_wait_s * 2 ** min(self.failures - 1, 16), LONGEST_WAIT_S)
        return Step(wait_s, remedy, self.mode)

    def heard(self) -> None:
        """Note that the scan works: only an advert proves it."""
        self.failures = self._looks = 0
        self._has_heard = True

    @property
    def is_exhausted(self) -> bool:
        """Whether a scan that once heard something fails on and on: all was tried, and tried again.

        Without an adapter nothing was: it is only looked for.
        """
        return self._has_heard and self.failures >= ALL_TRIED

    def patience_s(self, deaf_s: float) -> float:
        """Return how long a scan may hear nothing: longer where all was tried."""
        rounds = max(0, self.failures - len(_RUNGS) + 1)
        return max(deaf_s, min(deaf_s * (1 << min(rounds, 16)), LONGEST_PATIENCE_S))

    def _rung(self) -> int:
        place = self.failures - 1
        return place if place < len(_RUNGS) else 1 + (place - 1) % (len(_RUNGS) - 1)


ALL_TRIED: Final = 2 * len(_RUNGS) - 1
"""So many failures in a row, and each rung was climbed twice, but for the first, which is none. A
scan that is deaf from one moment to the next has come so far within half an hour."""


def _other(mode: ScanMode) -> ScanMode:
    return "active" if mode == "passive" else "passive"
