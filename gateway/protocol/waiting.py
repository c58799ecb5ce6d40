"""What a board says beside its readings to all who listen: how much waits there (P23); pure."""

from typing import Final, NamedTuple

COMPANY: Final = 0xFFFF
"""Whose manufacturer data it is: the number for everybody's tests, as we have none of our own."""

MANY: Final = 255
"""So many samples wait, or more."""

_BYTES = 2
_CONNECTABLE, _SLEEPS = 0x01, 0x02


class Waiting(NamedTuple):
    """What such an advert says."""

    samples: int
    is_connectable: bool
    """Whether it can be connected to now."""
    is_brief: bool
    """Whether the board sleeps, and is there for moments only."""


def decode_waiting(data: bytes) -> Waiting | None:
    """Return what manufacturer data of `COMPANY` say; None where they are somebody else's."""
    if len(data) != _BYTES:
        return None
    samples, flags = data
    return Waiting(samples, bool(flags & _CONNECTABLE), bool(flags & _SLEEPS))
