"""A child process that lives at most as long as this one."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

_log = logging.getLogger(__name__)

_KEPT_LINES = 20
"""Lines of stderr remembered for error messages."""

_MAX_LINE = 1000
"""Longer lines of stderr are cut, in bytes."""

_MAX_INPUT = 4096
"""Bytes that wait for a child that does not read, besides those its pipe holds."""

_KILL_TIMEOUT_S = 5.0
"""How long the kernel may take to end a killed process."""


class ChildProcess:
    """One run of one program: stdin is written, stdout handed on, stderr logged at DEBUG.

    It gets a process group of its own, so that Ctrl-C in a terminal does not reach it, and it is
    expected to exit when its stdin closes: then no end of this process leaves it behind.
    """

    def __init__(self, name: str, on_output: Callable[[bytes], None]) -> None:
        """`on_output` gets what the child prints, and b"" once nothing more will come."""
        self.ended = asyncio.Event()
        """Set when the process is gone and all of its output was handed on."""
        self._no_more_waiting = asyncio.Event()
        """Set when it has ended, or the kernel has not ended it in time."""
        self.input_dropped = 0
        """Bytes the child did not take in time."""
        self._name = name
        self._on_output = on_output
        self._transport: asyncio.SubprocessTransport | None = None
        self._stderr: deque[str] = deque(maxlen=_KEPT_LINES)
        self._stderr_tail = b""

    async def start(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the program, once.

        Raises:
            OSError: it cannot be executed.
        """
        self._transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Relay(self._on_data, self._on_ended),
            *arguments,
            env=None if environment is None else dict(environment),
            process_group=0,
        )

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return None if self._transport is None else self._transport.get_pid()

    @property
    def exit_code(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        return None if self._transport is None else self._transport.get_returncode()

    def write(self, data: bytes) -> None:
        """Send `data` to stdin; drop and count it when the child has stopped reading."""
        pipe = None if self._transport is None else self._transport.get_pipe_transport(0)
        if (
            not isinstance(pipe, asyncio.WriteTransport)
            or pipe.is_closing()
            or pipe.get_write_buffer_size() + len(data) > _MAX_INPUT
        ):
            self.input_dropped += len(data)
            return
        pipe.write(data)

    def kill(self) -> None:
        """End the process the hard way, if it still runs."""
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()

    async def stop(self, timeout_s: float) -> None:
        """Close stdin, kill the process when it is not gone after `timeout_s`; idempotent."""
        if self._transport is None:
            return
        stdin = self._transport.get_pipe_transport(0)
        if isinstance(stdin, asyncio.WriteTransport) and not stdin.is_closing():
            stdin.abort()  # close() would first wait until the child has read what is left
        # Not asyncio.timeout: on Python 3.11.2 it ends in CancelledError, not in TimeoutError, if
        # the task was cancelled before, and such tasks call this.
        loop = asyncio.get_running_loop()
        alarms = [
            loop.call_later(timeout_s, self.kill),
            loop.call_later(timeout_s + _KILL_TIMEOUT_S, self._no_more_waiting.set),
        ]
        try:
            await self._no_more_waiting.wait()
        finally:
            for alarm in alarms:
                alarm.cancel()
            if not self.ended.is_set():
                self.kill()
        self._transport.close()

    def last_words(self) -> str:
        """Return how it ended and the last lines of its stderr, for an error message."""
        lines = [*self._stderr, self._stderr_tail.decode(errors="replace")]
        text = " | ".join(line for line in lines if line.strip())
        code = self.exit_code
        state = "running" if code is None else f"exit code {code}"
        return f"{state}: {text}" if text else state

    def _on_data(self, descriptor: int, data: bytes) -> None:
        if descriptor == 1:
            self._on_output(data)
            return
        *lines, tail = (self._stderr_tail + data).split(b"\n")
        self._stderr_tail = tail[:_MAX_LINE]
        for line in lines:
            text = line[:_MAX_LINE].decode(errors="replace").rstrip()
            self._stderr.append(text)
            _log.debug("%s: %s", self._name, text)

    def _on_ended(self) -> None:
        if self._transport is not None:
            self._transport.close()  # whether `stop` still waits for it or was cancelled
        self.ended.set()
        self._no_more_waiting.set()
        self._on_output(b"")


class _Relay(asyncio.SubprocessProtocol):
    """Turns asyncio's callbacks into two."""

    def __init__(self, on_data: Callable[[int, bytes], None], on_ended: Callable[[], None]) -> None:
        self._on_data = on_data
        self._on_ended = on_ended

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._on_data(fd, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 the base class's signature
        self._on_ended()
