"""How often what goes wrong; the fields are the keys that users write, with their meaning."""

from dataclasses import dataclass, field
from enum import Enum

SEED = 1
"""The seed when none is given: the same faults each time."""


class Measure(Enum):
    """What the number of a key means."""

    SHARE = "share"
    """From 0 to 1."""
    SECONDS = "seconds"
    BYTES = "bytes"


def _rate(meaning: str, default: float = 0.0, measure: Measure = Measure.SECONDS) -> float:
    value: float = field(default=default, metadata={"meaning": meaning, "measure": measure})
    return value


def _share(meaning: str) -> float:
    return _rate(meaning, measure=Measure.SHARE)


@dataclass(frozen=True, slots=True)
class LineRates:
    """How often each damage is done to a line of a wire, as a share of the lines."""

    drop: float = _share("the line is lost")
    corrupt: float = _share("one bit of it is flipped, perhaps in the newline")
    duplicate: float = _share("it is sent once more")
    delay: float = _share("it comes late; what follows waits behind it, for a wire keeps the order")
    truncate: float = _share("its end is lost with the newline: the next line is glued to it")
    garbage: float = _share("random bytes come in front of it")
    delay_s: float = _rate("the longest delay", 0.2)


@dataclass(frozen=True, slots=True)
class LinkRates:
    """How often the wire or the board itself fails; 0 for never.

    The time from the end of one failure to the next is random, half to one and a half times the
    mean that is given.
    """

    unplug_every_s: float = _rate("the port goes away")
    unplug_s: float = _rate("for so long", 1.0)
    stall_every_s: float = _rate("nothing passes in either direction, while the port stays there")
    stall_s: float = _rate("for so long", 1.0)
    restart_every_s: float = _rate(
        "the board loses its power for a moment: what is not in its flash is gone"
    )
    kill_every_s: float = _rate(
        "a board with the firmware is reset amid whatever it does: its RTC memory stays"
    )


@dataclass(frozen=True, slots=True)
class BrokerRates:
    """What goes wrong between the gateway and the broker; times are random as in `LinkRates`."""

    broker_cut_every_s: float = _rate("all connections are reset")
    broker_cut_s: float = _rate("and refused for so long", 1.0)
    broker_cut_bytes: float = _rate(
        "a connection ends after about so many bytes, amid a packet", measure=Measure.BYTES
    )
    broker_stall_every_s: float = _rate("nothing passes, while the connections stay open")
    broker_stall_s: float = _rate("for so long", 1.0)
    broker_latency_s: float = _rate("everything takes so much longer, each way")
    puback_drop: float = _share(
        "this share of the PUBACKs never comes; the broker has the messages"
    )


@dataclass(frozen=True, slots=True)
class RadioRates:
    """What goes wrong on the virtual radio; times are random as in `LinkRates`."""

    advert_drop: float = _share("an advert is not heard")
    radio_drop_every_s: float = _rate("the link to one board is lost")
    radio_mute_every_s: float = _rate("one board takes what it is sent, and says nothing any more")
    radio_mute_s: float = _rate("for so long", 1.0)
    radio_silence_every_s: float = _rate("no advert is heard")
    radio_silence_s: float = _rate("for so long", 1.0)
    radio_unplug_every_s: float = _rate("the gateway's adapter goes away, with all links")
    radio_unplug_s: float = _rate("for so long", 1.0)
    radio_slow_s: float = _rate("each packet of a link takes so much longer, one after the other")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All that goes wrong, by the part that fails."""

    seed: int = SEED
    lines: LineRates = field(default_factory=LineRates)
    link: LinkRates = field(default_factory=LinkRates)
    broker: BrokerRates = field(default_factory=BrokerRates)
    radio: RadioRates = field(default_factory=RadioRates)


SECTIONS = {"lines": LineRates, "link": LinkRates, "broker": BrokerRates, "radio": RadioRates}
"""The parts of a plan, by the name of their field."""
