"""A real mosquitto on a loopback port of its own."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

START_TIMEOUT_S = 10.0
"""From the process to its first turn of the loop: 20 ms on an idle machine."""

STOP_TIMEOUT_S = 10.0
"""mosquitto ends at once on SIGTERM; with persistence it first writes its database."""

START_ATTEMPTS = 3
"""Another program may take the free port before mosquitto binds it."""

HOST = "127.0.0.1"


class BrokerError(Exception):
    """The broker did not come up; the text has the end of its log."""


class Broker:
    """mosquitto, started and stopped at will on the same port.

    The methods block for some ten milliseconds: call them in a thread (`asyncio.to_thread`) where
    the event loop must not notice. Without `persistence` a restart forgets retained messages and
    sessions; with it, `stop` and `start` keep them, and `kill` loses what was not written yet.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        persistence: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        """Prepare, without starting.

        `settings` are further lines of mosquitto.conf; each takes the place of those here that
        begin with the same word.
        """
        self.host = HOST
        self.port = 0
        self.log_path = folder / "mosquitto.log"
        self._program = program
        self._folder = folder
        self._persistence = persistence
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        program: Path,
        folder: Path,
        *,
        persistence: bool = False,
        settings: Sequence[str] = (),
    ) -> Iterator[Self]:
        """Run a broker for the length of a with block."""
        broker = cls(program, folder, persistence=persistence, settings=settings)
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()

    @property
    def pid(self) -> int:
        """The process, which must be running."""
        if self._process is None:
            raise BrokerError("the broker is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return once it accepts connections: the first time on a free port.

        Raises:
            BrokerError: it ended at once, or did not listen in time.
        """
        if self._process is not None:
            raise BrokerError("the broker is already running")
        keeps_port = self.port != 0
        for attempt in range(START_ATTEMPTS):
            if not keeps_port:
                self.port = free_port()
            try:
                self._start_once()
            except BrokerError:
                if keeps_port or attempt == START_ATTEMPTS - 1:
                    raise
            else:
                return

    def stop(self) -> None:
        """End it in order, as a service manager does; harmless if it is not running."""
        self._end("terminate")

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end("kill")

    def log(self) -> str:
        """Return what it wrote so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _start_once(self) -> None:
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text(self._configuration())
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.is_running:
            with contextlib.suppress(OSError):
                _be_let_go(self.port)
                return
            time.sleep(0.005)  # between two attempts to connect
        self._end("kill")
        raise BrokerError(f"mosquitto does not listen on port {self.port}:\n{self.log()[-2000:]}")

    def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if how == "kill":
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BrokerError(f"mosquitto ignored SIGTERM:\n{self.log()[-2000:]}") from None

    def _configuration(self) -> str:
        lines = [
            f"listener {self.port} {HOST}",
            "allow_anonymous true",
            "log_dest stderr",
            "log_type all",
            "set_tcp_nodelay true",
            "max_queued_messages 0",  # no limit: what it drops would look like our loss
            f"persistence {'true' if self._persistence else 'false'}",
            f"persistence_location {self._folder}/",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it changes to a user that cannot write here
        replaced = {line.split()[0] for line in self._settings}
        kept = [line for line in lines if line.split()[0] not in replaced]
        return "\n".join([*kept, *self._settings, ""])


def _be_let_go(port: int) -> None:
    """Connect, hang up, and wait until the broker has hung up too: then its main loop runs.

    A mere connection is the kernel's doing. mosquitto 2.0 listens, then installs its handler, logs
    that it is running, and only then sets `run = 1`: a SIGTERM just before that is forgotten.

    Raises:
        OSError: nobody listens, or does not answer within a second.
    """
    with socket.create_connection((HOST, port), 1.0) as probe:
        probe.shutdown(socket.SHUT_WR)
        probe.recv(1)


def free_port() -> int:
    """Return a loopback port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
