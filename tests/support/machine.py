"""A machine whose clocks the test turns: monotonic time, a wall clock that steps, boots."""

from gateway.clock import Clock

POWER_ON_UNIX_S = 0.0
"""What a machine without a battery-backed clock believes when it starts: 1970."""


class Machine:
    """Knows the true time; its own wall clock may be wrong by any amount."""

    def __init__(self, true_unix_s: float) -> None:
        """It is switched on at `true_unix_s`."""
        self.true_unix_s = true_unix_s
        self.boots = 0
        self.boot()

    def boot(self, off_s: float = 0.0) -> None:
        """Start (again), after `off_s` without power."""
        self.true_unix_s += off_s
        self.boots += 1
        self.monotonic_s = 3.0
        self.wall_unix_s = POWER_ON_UNIX_S
        self.is_synchronised = False

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.true_unix_s += seconds
        self.monotonic_s += seconds
        self.wall_unix_s += seconds

    def synchronise(self, error_s: float = 0.0) -> None:
        """Let a time server set the clock, wrong by `error_s`."""
        self.wall_unix_s = self.true_unix_s + error_s
        self.is_synchronised = True

    def lose_time_server(self) -> None:
        """Let the kernel stop to vouch for the clock, which goes on."""
        self.is_synchronised = False

    def set_by_hand(self, unix_s: float) -> None:
        """Set the clock as `date -s` does: the kernel then vouches for nothing."""
        self.wall_unix_s = unix_s
        self.is_synchronised = False

    def clock(self) -> Clock:
        """Return the clocks of the present boot, as a process sees them."""
        return Clock(
            monotonic_s=lambda: self.monotonic_s,
            unix_s=lambda: self.wall_unix_s,
            boot_id=f"boot-{self.boots}",
            is_synchronised=lambda: self.is_synchronised,
        )
