"""`edge-gateway` as a process of its own: what a person or a script sees of it."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, NamedTuple

from tests.support import nursery
from tests.support.slow_callbacks import without_complaints

TIMEOUT_S = 60.0
"""Far above what any command takes on a busy machine; a test must not hang."""


class Done(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str


def gateway(*words: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Done:
    """Run a command that ends by itself."""
    done = nursery.run(
        [sys.executable, "-m", "gateway", *words],
        stdin=stdin,
        environment={**os.environ, **(environment or {})},
        timeout_s=TIMEOUT_S,
    )
    return Done(done.returncode, done.stdout.decode(), without_complaints(done.stderr.decode()))


class Running:
    """A command that runs until it is stopped; what it prints is collected as it comes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.out = _Lines(process.stdout)
        self.err = _Lines(process.stderr)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self, number: signal.Signals = signal.SIGINT) -> Done:
        """Send a signal and wait for the end."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> Done:
        """Wait for the end."""
        code = self._process.wait(TIMEOUT_S)
        return Done(code, self.out.rest(), without_complaints(self.err.rest()))


@contextmanager
def running(*words: str, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run a command for the length of a with block; it is killed if the block did not end it."""
    with nursery.Popen(
        [sys.executable, "-m", "gateway", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    ) as process:
        command = Running(process)
        try:
            yield command
        finally:
            process.kill()
            process.wait(TIMEOUT_S)
            command.out.join()
            command.err.join()


class _Lines:
    """Reads a pipe in a thread, so that it never fills, and lets tests wait for a line."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._lines: deque[str] = deque()
        self._seen: list[str] = []
        self._is_ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def next(self, containing: str = "") -> str:
        """Wait for the next line that contains the text, and skip those before it."""
        with self._changed:
            while True:
                while self._lines:
                    line = self._lines.popleft()
                    if containing in line:
                        return line
                assert not self._is_ended, f"no line with {containing!r} in {self._seen}"
                assert self._changed.wait(TIMEOUT_S), f"no {containing!r} in {self._seen}"

    def rest(self) -> str:
        """Return all that was printed, once nothing more can come."""
        self.join()
        return "".join(line + "\n" for line in self._seen)

    def join(self) -> None:
        self._thread.join(TIMEOUT_S)

    def _collect(self) -> None:
        for line in self._pipe:
            self._note(line.decode(errors="replace").rstrip("\n"))
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def _note(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._seen.append(line)
            self._changed.notify_all()
