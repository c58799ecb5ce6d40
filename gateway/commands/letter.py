"""A command on its way, from its receipt to its end; pure."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gateway.protocol.fields import Json
from gateway.protocol.session_events import Outcome
from gateway.requests.command import Transaction


class Stage(Enum):
    """Where a letter is."""

    RECEIVED = "received"
    """It is not on the disk yet, so nothing may be done with it."""
    WAITING = "waiting"
    """For its board, or for its turn."""
    NOTING = "noting"
    """That its board gets it is on its way to the disk."""
    HANDED = "handed"
    """The board's session has it."""
    ENDED = "ended"
    """Its end is on its way to the disk."""
    SETTLED = "settled"
    """Its end is on the disk."""


class ReplyTo(NamedTuple):
    """Where the sender wants the result besides the device's own topic, MQTT 5."""

    topic: str
    correlation: bytes | None = None


class End(NamedTuple):
    """What became of a command."""

    outcome: Outcome
    result: Json = None
    error: str = ""
    latency_s: float | None = None
    """From the receipt to the board's answer; None if there was none."""


@dataclass(slots=True, eq=False)
class Letter:
    """One command; compared by identity."""

    number: int
    """In the journal; later ones have greater numbers."""
    command_id: str
    device: str
    name: str
    arguments: Json
    received_s: float
    """Monotonic, as all times here."""
    expires_s: float
    level: str = ""
    """The device's name in topics when it came; empty for one of our own."""
    transaction: Transaction | None = None
    reply_to: ReplyTo | None = None
    is_plain: bool = False
    """Whether nobody listens for a result but at `reply_to`: it came as a plain `set`."""
    packet: str = ""
    """By which a repetition of a message without transaction is known; empty when it is not."""
    stage: Stage = Stage.RECEIVED
    life: str | None = None
    """The life of the board's memory for which the disk says it was handed over; None: for none."""
    was_sent: bool = False
    """Whether the board may have got it, in `life`."""
    end: End | None = None
