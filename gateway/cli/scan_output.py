"""How `scan` shows who is on the air: a table in a terminal, a line for each piece of news."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.sightings import Kind, Sighting
from gateway.clock import TimeFormat

PROBLEMS: Final = {
    "needs_key": "needs its bind key: see [[ble.device]]",
    "wrong_key": "its bind key is wrong: see [[ble.device]]",
}

_REFRESH_PER_S = 4
_OLD_S = 30.0
"""Who was not heard for so long is shown dimmed."""


class Printer(Protocol):
    """Shows news somehow."""

    def print_news(self, sighting: Sighting, unix_s: float) -> None:
        """Show what is new of one device."""


class LinePrinter:
    """One line for each piece of news, for people."""

    def print_news(self, sighting: Sighting, unix_s: float) -> None:
        """Print it with the time and the signal."""
        stamp = datetime.fromtimestamp(unix_s).astimezone().strftime("%H:%M:%S.%f")[:-3]
        signal = f"{sighting.rssi_dbm} dBm"
        print(
            f"{stamp} {sighting.kind.value:7} {sighting.title:24} {signal:>8}  {says(sighting)}",
            flush=True,
        )


class JsonPrinter:
    """One JSON object for each piece of news."""

    def __init__(self) -> None:
        self._times = TimeFormat()

    def print_news(self, sighting: Sighting, unix_s: float) -> None:
        """Print it; keys that do not apply are left out."""
        fields: dict[str, object] = {
            "time": self._times.text(unix_s),
            "address": sighting.address,
            "kind": sighting.kind.value,
            "rssi": sighting.rssi_dbm,
            "adverts": sighting.adverts,
        }
        texts = {
            "device": sighting.device,
            "name": sighting.name,
            "model": sighting.model,
            "driver": sighting.driver,
            "problem": sighting.problem,
        }
        fields |= {key: text for key, text in texts.items() if text}
        if sighting.values:
            fields["values"] = sighting.values
        print(json.dumps(fields, ensure_ascii=False, allow_nan=False), flush=True)


class LiveView:
    """A table that is drawn in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, everybody: Sequence[Sighting], now_s: float, state: str) -> None:
        """Draw who is there; `state` is told above."""
        self._live.update(Group(Text(state, style="cyan"), _table(everybody, now_s)))


@contextmanager
def live_view() -> Iterator[LiveView]:
    """Own the terminal for the length of a with block; the last table stays on it."""
    with Live(console=Console(), refresh_per_second=_REFRESH_PER_S) as live:
        yield LiveView(live)


def says(sighting: Sighting) -> str:
    """Return the device's values, or what there is to say instead."""
    if sighting.problem:
        return PROBLEMS.get(sighting.problem, sighting.problem)
    parts = []
    for key, value in sighting.values.items():
        unit = sighting.units.get(key, "")
        parts.append(f"{key}={value}{unit and f' {unit}'}")
    values = " ".join(parts)
    if sighting.kind is Kind.BOARD:
        return f"{sighting.note}{values and f'; {values}'}"
    return values or sighting.note


def closing_line(everybody: Sequence[Sighting], strangers: int, *, with_strangers: bool) -> str:
    """Return how many were heard."""
    counts = Counter(sighting.kind for sighting in everybody)
    hint = "" if with_strangers or not strangers else " (--all shows them)"
    return (
        f"{_count(counts[Kind.BOARD], 'board')}, {_count(counts[Kind.SENSOR], 'sensor')}, "
        f"{strangers} unknown{hint}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _table(everybody: Sequence[Sighting], now_s: float) -> Table:
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0))
    table.add_column("device", no_wrap=True, max_width=24)
    table.add_column("what it says", ratio=1, min_width=24)
    for heading in ("signal", "age", "adverts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in everybody:
        age_s = max(0.0, now_s - each.heard_s)
        style = "dim" if each.kind is Kind.UNKNOWN or age_s > _OLD_S else "bold green"
        table.add_row(
            Text(each.title, style=style),
            Text(says(each), style="red" if each.problem else ""),
            f"{each.rssi_dbm} dBm",
            f"{age_s:.0f} s",
            str(each.adverts),
        )
    return table
