"""What `flash` is doing, as bars in a terminal and as lines anywhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.flash.provision import Step


class Report:
    """Tells steps; a context manager, after which the terminal is as before."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(highlight=False) if console is None else console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last = ""

    def __enter__(self) -> Self:
        """Begin to show."""
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Show no more."""
        self._progress.stop()

    def step(self, step: Step) -> None:
        """Show how far a step is; a new one ends that before."""
        if not self._console.is_terminal:
            if step.name != self._last:
                self.say(step.name)
        elif step.name not in self._tasks:
            self._finish()
            self._tasks[step.name] = self._progress.add_task(step.name, total=step.total or None)
        if step.name in self._tasks and step.total:
            task = self._tasks[step.name]
            self._progress.update(task, completed=step.done, total=step.total)
        self._last = step.name

    def say(self, text: str) -> None:
        """Tell something, above the bars."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to questions."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def _finish(self) -> None:
        if self._last in self._tasks:
            task = self._tasks[self._last]
            self._progress.update(task, total=1, completed=1)
