"""A rollout on the screen: a bar for each board; lines where there is no terminal."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.cli.wording import titled

SHOWN = 20
"""Boards with a bar of their own, those under way first."""

_WORDS = {"waiting": "waits", "sending": "is sent", "trial": "tries it", "done": "has it"}


class Screen(Protocol):
    """Where a rollout is shown."""

    def update(self, rollout: Mapping[str, Any]) -> None:
        """Show how it stands now."""


@contextmanager
def show() -> Iterator[Screen]:
    """Show a rollout for the length of a with block."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress)


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def update(self, rollout: Mapping[str, Any]) -> None:
        under_way = [each for each in rollout["devices"] if each["state"] in ("sending", "trial")]
        for board in [*under_way, *rollout["devices"]]:
            name, state = titled(board["device"], board["name"]), board["state"]
            if name not in self._bars:
                if len(self._bars) >= SHOWN:
                    continue
                self._bars[name] = self._progress.add_task(name, total=100, state="")
            is_done = state in ("trial", "done", "unchanged")
            words = board.get("reason") or _WORDS.get(state, state)
            self._progress.update(
                self._bars[name], completed=100 if is_done else board["percent"], state=words
            )


class _Lines:
    """Prints each change of state once."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}

    def update(self, rollout: Mapping[str, Any]) -> None:
        for board in rollout["devices"]:
            name, state = titled(board["device"], board["name"]), board["state"]
            if self._states.get(name) != state:
                self._states[name] = state
                why = f": {board['reason']}" if "reason" in board else ""
                print(f"{name}: {state}{why}", file=sys.stderr, flush=True)
