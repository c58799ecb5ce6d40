"""The demo's table in a terminal."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Handler, LogRecord

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.logs import OneLine
from gateway.cli.overview import DeviceRow, Totals, totals_text, values_text

_KEPT_LOG_LINES = 5
_REFRESH_PER_S = 4
_NAME_WIDTH = 14
_VALUES_WIDTH = 24
"""All columns fit into a terminal of 80; no link among them: the demo names boards after theirs."""


class LogTail(Handler):
    """Keeps the last log lines, to be shown below the table instead of across it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(OneLine("%(levelname)s %(message)s"))
        self.lines: deque[str] = deque(maxlen=_KEPT_LOG_LINES)

    def emit(self, record: LogRecord) -> None:
        """Keep a line."""
        self.lines.append(self.format(record))


class LiveTable:
    """A table that is drawn in place."""

    def __init__(self, live: Live, log: LogTail) -> None:
        self._live = live
        self._log = log

    def show(self, rows: list[DeviceRow], totals: Totals, hint: str) -> None:
        """Draw the present state, and of the log what there is room for."""
        shown = Group(totals_text(totals), _table(rows), Text(hint, style="cyan"))
        console = self._live.console
        room = console.size.height - len(console.render_lines(shown))
        lines = list(self._log.lines)[-room:] if room > 0 else []
        log = Text("\n".join(lines), style="dim", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(shown, log) if lines else shown)


@contextmanager
def live_table(log: LogTail) -> Iterator[LiveTable]:
    """Own the terminal for the length of a with block; the last table stays on it."""
    console = Console()
    with Live(console=console, refresh_per_second=_REFRESH_PER_S) as live:
        yield LiveTable(live, log)


def _table(rows: list[DeviceRow]) -> Table:
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0))
    table.add_column("device", no_wrap=True, max_width=_NAME_WIDTH)
    table.add_column("newest values", ratio=1, min_width=_VALUES_WIDTH)
    for heading in ("per s", "received", "delivered", "lost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(row.name, style="bold green" if row.is_online else "dim"),
            Text(values_text(row.values)),
            f"{row.per_s:.1f}",
            str(row.received),
            str(row.delivered),
            Text(str(row.lost), style="red" if row.lost else ""),
        )
    return table
