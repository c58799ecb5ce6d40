"""When a wire, a board or the broker fails, by the plan; pure, and the same for the same seed."""

import heapq
import random
from collections.abc import Iterator
from enum import Enum
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from gateway.simulate.faults.plan import FaultPlan

ActionT = TypeVar("ActionT")
EnumT = TypeVar("EnumT", bound=Enum)


class Planned(NamedTuple, Generic[ActionT]):
    """Something that happens at a moment."""

    at_s: float
    """Seconds since the start."""
    action: ActionT


class LinkAction(Enum):
    """What happens to the wire of a board, or to the board."""

    UNPLUG = "unplug"
    PLUG = "plug"
    STALL = "stall"
    RESUME = "resume"
    RESTART = "restart"
    KILL = "kill"


class BrokerAction(Enum):
    """What happens between the gateway and the broker."""

    CUT = "cut"
    """All connections end, and new ones are refused."""
    ACCEPT = "accept"
    STALL = "stall"
    RESUME = "resume"


class RadioAction(Enum):
    """What happens on the virtual radio."""

    DROP = "drop"
    """One link is lost."""
    MUTE = "mute"
    """One board says nothing any more."""
    UNMUTE = "unmute"
    SILENCE = "silence"
    """No advert is heard."""
    END_SILENCE = "end_silence"
    UNPLUG = "unplug"
    """The adapters of the gateways go away."""
    PLUG = "plug"


LinkEvent: TypeAlias = Planned[LinkAction]
BrokerEvent: TypeAlias = Planned[BrokerAction]
RadioEvent: TypeAlias = Planned[RadioAction]


def link_events(plan: FaultPlan, name: str = "") -> Iterator[LinkEvent]:
    """Yield what happens to a wire, in order, without end; nothing when it never fails.

    `name` tells the wires of one plan apart: each fails at other moments.
    """
    rates, seed = plan.link, f"{plan.seed} {name}"
    return _merged(
        _failures(seed, rates.unplug_every_s, rates.unplug_s, LinkAction.UNPLUG, LinkAction.PLUG),
        _failures(seed, rates.stall_every_s, rates.stall_s, LinkAction.STALL, LinkAction.RESUME),
        _failures(seed, rates.restart_every_s, 0.0, LinkAction.RESTART, None),
        _failures(seed, rates.kill_every_s, 0.0, LinkAction.KILL, None),
    )


def broker_events(plan: FaultPlan) -> Iterator[BrokerEvent]:
    """Yield what happens to all connections, in order, without end; nothing if nothing does."""
    rates, seed = plan.broker, f"{plan.seed} broker"
    return _merged(
        _failures(
            *(seed, rates.broker_cut_every_s, rates.broker_cut_s),
            *(BrokerAction.CUT, BrokerAction.ACCEPT),
        ),
        _failures(
            *(seed, rates.broker_stall_every_s, rates.broker_stall_s),
            *(BrokerAction.STALL, BrokerAction.RESUME),
        ),
    )


def radio_events(plan: FaultPlan) -> Iterator[RadioEvent]:
    """Yield what happens on the radio, in order, without end; nothing if nothing does."""
    rates, seed, act = plan.radio, f"{plan.seed} radio", RadioAction
    return _merged(
        _failures(seed, rates.radio_drop_every_s, 0.0, act.DROP, None),
        _failures(seed, rates.radio_mute_every_s, rates.radio_mute_s, act.MUTE, act.UNMUTE),
        _failures(
            seed, rates.radio_silence_every_s, rates.radio_silence_s, act.SILENCE, act.END_SILENCE
        ),
        _failures(seed, rates.radio_unplug_every_s, rates.radio_unplug_s, act.UNPLUG, act.PLUG),
    )


def chance(seed: str) -> random.Random:
    """Return a source of chance that is the same each time, and has no secrets to keep."""
    return random.Random(seed)  # noqa: S311 repeatable, no secret


def _failures(
    seed: str, every_s: float, last_s: float, begin: EnumT, end: EnumT | None
) -> Iterator[Planned[EnumT]]:
    if not every_s:
        return
    rng = chance(f"{seed} {begin.value}")
    at_s = 0.0
    while True:
        at_s += rng.uniform(0.5, 1.5) * every_s
        yield Planned(at_s, begin)
        at_s += last_s
        if end is not None:
            yield Planned(at_s, end)


def _merged(*streams: Iterator[Planned[ActionT]]) -> Iterator[Planned[ActionT]]:
    return heapq.merge(*streams, key=lambda planned: planned.at_s)
