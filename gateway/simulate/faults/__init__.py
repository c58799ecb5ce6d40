"""What goes wrong on purpose, and repeatably: wires, the broker, the radio, processes, the disk.

    parse("drop=0.1,corrupt=0.05,unplug_every_s=30,unplug_s=2,broker_cut_every_s=20,seed=7")

What is decided here is pure: time comes in as an argument and chance from a seed, so the same plan
does the same damage at the same moments. README.md of `gateway.simulate` lists the keys.
"""

from gateway.simulate.faults.lines import LineFaults, WireCounts, WireFaults
from gateway.simulate.faults.plan import (
    BrokerRates,
    FaultPlan,
    LineRates,
    LinkRates,
    RadioRates,
)
from gateway.simulate.faults.schedule import (
    BrokerAction,
    LinkAction,
    LinkEvent,
    Planned,
    RadioAction,
    broker_events,
    link_events,
    radio_events,
)
from gateway.simulate.faults.text import KEYS, FaultKey, parse

__all__ = [
    "KEYS",
    "BrokerAction",
    "BrokerRates",
    "FaultKey",
    "FaultPlan",
    "LineFaults",
    "LineRates",
    "LinkAction",
    "LinkEvent",
    "LinkRates",
    "Planned",
    "RadioAction",
    "RadioRates",
    "WireCounts",
    "WireFaults",
    "broker_events",
    "link_events",
    "parse",
    "radio_events",
]
