"""The drivers there are: one explicit table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.drivers import board
from gateway.drivers.board import BoardDriver
from gateway.drivers.csv_lines import CsvLines
from gateway.drivers.json_lines import JsonLines


@dataclass(frozen=True, slots=True)
class DriverEntry:
    """A kind of device, and the class that understands it."""

    summary: str
    """For people: what it reads."""
    driver: type[BoardDriver | JsonLines | CsvLines]


DRIVERS: Final[Mapping[str, DriverEntry]] = {
    board.DRIVER: DriverEntry("boards with our firmware: frames", BoardDriver),
    "json_lines": DriverEntry("boards that print a JSON object a line", JsonLines),
    "csv_lines": DriverEntry("boards that print CSV or key=value lines", CsvLines),
}
"""By the name that `Description.driver` carries. All of them are fed by `SerialLineDriver`."""
