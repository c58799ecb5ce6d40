"""How long to wait before the next attempt."""

import random
from dataclasses import dataclass, field

_MAX_DOUBLINGS = 32
"""Beyond this the ceiling rules anyway; keeps 2**attempt small after years of failures."""


@dataclass(slots=True)
class Backoff:
    """Exponential backoff with full jitter; pure, so tests seed it.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    base_s: float = 0.5
    cap_s: float = 60.0
    rng: random.Random = field(default_factory=random.Random)
    attempt: int = 0

    def next_delay_s(self) -> float:
        """Return the next delay in seconds and count the attempt."""
        ceiling_s = min(self.cap_s, self.base_s * 2 ** min(self.attempt, _MAX_DOUBLINGS))
        self.attempt += 1
        return self.rng.uniform(0, ceiling_s)

    def reset(self) -> None:
        """Forget past failures; call on the first good data, not on connect."""
        self.attempt = 0
