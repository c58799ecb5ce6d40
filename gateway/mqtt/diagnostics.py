"""What the gateway knows of a device's connection and losses, for `<device>/diagnostics`; pure."""

import json
from dataclasses import dataclass
from typing import Final

from gateway.clock import TimeFormat
from gateway.model import GapCause

PAUSE_S: Final = 60.0
"""The document of a device is renewed at most so often: it is retained, and shown by clocks."""
RSSI_STEP_DBM: Final = 6
"""A signal that changed less is the same one."""


@dataclass(frozen=True, slots=True)
class LastGap:
    """The newest loss of a device."""

    unix_s: float
    cause: GapCause
    count: int
    """How many samples are missing."""


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """One device."""

    online_since_unix_s: float | None
    """None while it is away."""
    lost: int
    """Samples published as gaps since the gateway's start."""
    last_gap: LastGap | None = None
    rssi: int | None = None
    """Signal strength in dBm; None where there is no radio."""

    def differs_from(self, told: "Diagnostics | None") -> bool:
        """Tell whether it is worth telling after `told` was."""
        if told is None:
            return True
        return (
            self.online_since_unix_s != told.online_since_unix_s
            or self.lost != told.lost
            or self.last_gap != told.last_gap
            or (self.rssi is None) is not (told.rssi is None)
            or abs((self.rssi or 0) - (told.rssi or 0)) >= RSSI_STEP_DBM
        )

    def payload(self) -> bytes:
        """Return it as JSON; what is None is left out, but for the online time."""
        time = TimeFormat()
        since_s, gap = self.online_since_unix_s, self.last_gap
        said: dict[str, object] = {
            "online_since": None if since_s is None else time.text(since_s),
            "lost": self.lost,
        }
        if gap is not None:
            said["last_gap"] = {
                "time": time.text(gap.unix_s),
                "cause": gap.cause.value,
                "count": gap.count,
            }
        if self.rssi is not None:
            said["rssi"] = self.rssi
        return json.dumps(said, separators=(",", ":")).encode()
