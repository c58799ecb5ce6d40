"""How `sniff` prints entries: a line for people, or a JSON object for programs."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol

from gateway.cli.traffic import Entry, Kind, Origin
from gateway.cli.wording import shown
from gateway.clock import TimeFormat
from gateway.protocol import messages as m

_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_COLOURS: Mapping[tuple[Kind, Origin], str] = {
    (Kind.FRAME, Origin.BOARD): "\x1b[32m",
    (Kind.FRAME, Origin.GATEWAY): "\x1b[36m",
    (Kind.JSON, Origin.BOARD): "\x1b[33m",
    (Kind.JSON, Origin.GATEWAY): "\x1b[36m",
    (Kind.NOISE, Origin.BOARD): "\x1b[31m",
    (Kind.FAULT, Origin.BOARD): "\x1b[31m",
}
"""Green: from the board; cyan: from the gateway; yellow: JSON; red: faults; text has no colour."""
_ARROWS = {Origin.BOARD: ">", Origin.GATEWAY: "<"}
_NAME_WIDTH = 14


class When(NamedTuple):
    """When a line came; nothing is known of the plain bytes in a file."""

    unix_s: float | None = None
    since_start_s: float | None = None
    """Seconds since the capture began."""


class Printer(Protocol):
    """Prints entries somehow."""

    def print_entry(self, entry: Entry, when: When) -> None:
        """Print one entry."""


class PeoplePrinter:
    """One line an entry: time (or number), direction, what it is, what it says."""

    def __init__(self, *, in_colour: bool, with_raw: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._in_colour = in_colour
        self._with_raw = with_raw
        self._number = 0

    def print_entry(self, entry: Entry, when: When) -> None:
        """Print it, and below it the line as it was on the wire if that is wanted."""
        self._number += 1
        self.counts[entry.name if entry.kind is Kind.FAULT else entry.kind.value] += 1
        stamp = self._stamp(when)
        head = f"{_ARROWS[entry.origin]} {_title(entry):{_NAME_WIDTH}}"
        if self._in_colour:
            colour = _COLOURS.get((entry.kind, entry.origin), "")
            print(f"{_DIM}{stamp}{_RESET} {colour}{head}{_RESET} {entry.summary}")
        else:
            print(f"{stamp} {head} {entry.summary}")
        if self._with_raw and entry.line:
            raw = " " * (len(stamp) + 3) + shown(entry.line, len(entry.line) * 4)
            print(f"{_DIM}{raw}{_RESET}" if self._in_colour else raw)

    def _stamp(self, when: When) -> str:
        if when.unix_s is not None:
            return datetime.fromtimestamp(when.unix_s).astimezone().strftime("%H:%M:%S.%f")[:-3]
        if when.since_start_s is not None:
            return f"+{when.since_start_s:.3f}".rjust(12)
        return f"{self._number:>6}"

    def closing_line(self) -> str:
        """Return what was seen, as a count of each kind."""
        kinds = ", ".join(f"{name} {count}" for name, count in self.counts.most_common())
        lines = "line" if self._number == 1 else "lines"
        return f"{self._number} {lines}: {kinds}" if kinds else "nothing was said"


class JsonPrinter:
    """One JSON object an entry."""

    def __init__(self) -> None:
        self._times = TimeFormat()

    def print_entry(self, entry: Entry, when: When) -> None:
        """Print it; keys that do not apply are left out."""
        fields: dict[str, object] = {}
        if when.unix_s is not None:
            fields["time"] = self._times.text(when.unix_s)
        if when.since_start_s is not None:
            fields["t_s"] = when.since_start_s
        fields |= {"from": entry.origin.value, "kind": entry.kind.value, "name": entry.name}
        if entry.message is not None:
            fields["message"] = _message_fields(entry.message)
        if entry.readings:
            fields["readings"] = [
                {
                    "seq": reading.seq,
                    "stream": reading.stream,
                    "age_s": reading.age_s,
                    "values": reading.values,
                }
                for reading in entry.readings
            ]
        fields["summary"] = entry.summary
        fields["line"] = entry.line.decode("latin-1")
        print(json.dumps(fields, allow_nan=False, default=_plain))


def _plain(value: object) -> str:
    """Return what JSON has for a value of a message that it has not."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.name.lower()
    raise TypeError(f"{type(value)} in a message")


def _title(entry: Entry) -> str:
    return f"FAULT {entry.name}" if entry.kind is Kind.FAULT else entry.name


def _message_fields(message: m.Message) -> Mapping[str, object]:
    if isinstance(message, m.Read):
        fields = message._asdict()
        del fields["records"]  # they are in `readings`, and on the line
        return fields
    return dataclasses.asdict(message)
