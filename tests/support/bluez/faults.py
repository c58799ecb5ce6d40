"""What goes wrong, as a test tells it."""

import enum
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

from dbus_fast import DBusError


class Cure(enum.Enum):
    """What ends the deafness of an adapter that says it discovers."""

    NEW_SCAN = enum.auto()
    """StartDiscovery."""
    POWER_CYCLE = enum.auto()
    NEW_DAEMON = enum.auto()
    """Only that bluetoothd is started again."""


@dataclass
class Faults:
    """Consulted at each call; a test changes it at any moment."""

    deaf_until: Cure | None = None
    """Nothing that is on the air becomes a signal, until this happens."""
    unresolved: int = 0
    """So many connections are made whose services are never resolved."""
    has_monitors: bool = True
    """Without, there is no AdvertisementMonitorManager1, as before `--experimental` was dropped."""
    _refusals: defaultdict[str, deque[DBusError]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    _swallowed: Counter[str] = field(default_factory=Counter)

    def refuse(
        self, member: str, error: str, text: str = "as the test wants", times: int = 1
    ) -> None:
        """Have the next calls of a method answered with org.bluez.Error.`error`, and no effect."""
        self._refusals[member] += [DBusError(f"org.bluez.Error.{error}", text)] * times

    def swallow(self, member: str, times: int = 1) -> None:
        """Have the next calls of a method take effect without an answer, as in a bus that hangs."""
        self._swallowed[member] += times

    def check(self, member: str) -> None:
        """Raise DBusError if a call that is made now is to be refused."""
        if self._refusals[member]:
            raise self._refusals[member].popleft()

    def is_swallowed(self, member: str) -> bool:
        """Whether a call that is made now gets no answer."""
        if not self._swallowed[member]:
            return False
        self._swallowed[member] -= 1
        return True

    def cured_by(self, happened: Cure) -> None:
        """End a deafness that waited for this."""
        if self.deaf_until is happened:
            self.deaf_until = None
