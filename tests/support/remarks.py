"""What of a gateway's log explains a failed test: starts, damage, losses, and other trouble."""

import re

_MOST = 200

_TELLING = re.compile(
    r" (?:WARNING|ERROR|CRITICAL) |gateway\.store|connected to|looking for boards|"
    r"Traceback|^\S*Error\b"
)
"""The store tells of salvage and what waits; `looking for boards` begins each life."""


def remarks(log: str) -> str:
    """Return the last lines of a log that tell of such things."""
    lines = [line for line in log.splitlines() if _TELLING.search(line)]
    left_out = len(lines) - _MOST
    head = [f"({left_out} earlier lines left out)"] if left_out > 0 else []
    return "\n".join([*head, *lines[-_MOST:]])
