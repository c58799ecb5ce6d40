"""The command `edge-gateway`: one module for each of its commands."""

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; usage errors exit at once.

    Ctrl-C before a command has begun ends the process without a word: a traceback of imports, which
    take seconds on a small machine, would tell nobody anything.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):  # not the main thread: Ctrl-C does not come here
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Only now: Ctrl-C is seen to.
    from gateway.cli.imports import imported  # noqa: PLC0415

    run: Callable[[Sequence[str] | None], int] = imported("gateway.cli.commands").main
    return run(words)
