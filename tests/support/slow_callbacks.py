"""What asyncio's debug mode says of callbacks that held up the loop."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

PREEMPTED_S = 1.0
"""A command starts five processes, beside three other tests on two cores: asyncio measures the time
on the wall, and what took less than this was waiting for a core. The tests that run the same code
without company hold it to 100 ms."""

_COMPLAINT = re.compile(r"^(?:\S+ WARNING asyncio: )?Executing <.*> took ([0-9.]+) seconds$")

_KILLED_EARLY = "Close running child process: kill <"
"""What debug mode adds where the start of a program is cancelled, as it is meant to be."""

_END_OF_THREADS = "coro=<BaseEventLoop.shutdown_default_executor() "
"""asyncio.run joins a thread there, at its very end: nothing else is held up."""


class _Collector(logging.Handler):
    """Keeps asyncio's complaints about slow callbacks of ours."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if is_ours(text):
            self.found.append(text)


def is_ours(text: str) -> bool:
    """Tell whether a line of log says that something other than a test took over 100 ms.

    asyncio names the callback and who scheduled it, often itself; the limit is its own default.
    """
    is_slow = text.startswith("Executing ") and " took " in text
    return is_slow and "/tests/" not in text and _END_OF_THREADS not in text


def without_complaints(stderr: str) -> str:
    """Return what a command wrote besides asyncio's complaints, which debug mode adds.

    Raises:
        AssertionError: one of them cannot be explained by a busy machine.
    """
    kept = []
    for line in stderr.splitlines(keepends=True):
        complaint = _COMPLAINT.match(line)
        if complaint is not None:
            assert float(complaint[1]) < PREEMPTED_S, line
        elif _KILLED_EARLY not in line:
            kept.append(line)
    return "".join(kept)


@contextmanager
def slow_callbacks() -> Iterator[list[str]]:
    """Collect the complaints for the length of the block; there are none without debug mode."""
    collector = _Collector()
    logger = logging.getLogger("asyncio")
    logger.addHandler(collector)
    try:
        yield collector.found
    finally:
        logger.removeHandler(collector)
