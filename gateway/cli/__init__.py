"""The command `edge-gateway`: one module for each of its commands."""

import signal
from collections.abc import Sequence
from contextlib import suppress


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; usage errors exit at once.

    Ctrl-C before a command has begun ends the process without a word: a traceback of imports, which
    take seconds on a small machine, would tell nobody anything.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):  # not the main thread: Ctrl-C does not come here
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gateway.cli.commands import main as run  # noqa: PLC0415  # after the above

    return run(words)
