"""What asyncio's debug mode says of callbacks that held up the loop."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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
    return text.startswith("Executing ") and " took " in text and "/tests/" not in text


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
