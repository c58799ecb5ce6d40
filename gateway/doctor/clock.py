"""Is the machine's clock right?"""

from datetime import UTC, datetime

from gateway.doctor.case import Case
from gateway.doctor.finding import Tell, error, ok, warning

WHERE = "clock"
_SURELY_PAST_S = 1_735_689_600.0
"""2025-01-01: this program is younger, so a clock that says an earlier time is wrong."""
_MEND = "sudo timedatectl set-ntp true && timedatectl timesync-status"


def look(case: Case, tell: Tell) -> None:
    """Tell whether somebody vouches for the clock, and whether it can be right at all."""
    clock = case.machine.clock
    now_s = clock.unix_s()
    text = f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d %H:%M} UTC"
    if now_s < _SURELY_PAST_S:
        tell(
            error(
                WHERE,
                "the clock is years behind: certificates are not valid yet, and times are wrong",
                _MEND,
                expected="a time after 2025-01-01",
                got=text,
            )
        )
    elif clock.is_synchronised():
        tell(ok(WHERE, f"synchronised, {text}"))
    else:
        tell(
            warning(
                WHERE,
                "the clock is not synchronised: readings are flagged time_quality unsynced",
                _MEND,
                expected="kept by NTP or GPS (adjtimex)",
                got=f"nobody vouches for {text}",
            )
        )
