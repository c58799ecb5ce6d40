"""A real dbus-daemon on a socket of its own; no bus of the machine is ever touched."""

import contextlib
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

START_TIMEOUT_S = 10.0
"""From the process to its socket: 10 ms on an idle machine."""

STOP_TIMEOUT_S = 10.0
"""dbus-daemon ends at once on SIGTERM."""

ADDRESS_VARIABLE = "DBUS_SYSTEM_BUS_ADDRESS"
"""Where a process looks for the system bus before it takes the machine's."""

_CONFIGURATION = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


class BusError(Exception):
    """The bus did not come up; the text has what it said."""


class PrivateBus:
    """dbus-daemon, started and stopped at will on the same socket.

    The methods block for some ten milliseconds: call them in a thread (`asyncio.to_thread`) where
    the event loop must not notice.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        """Prepare, without starting; the folder's path must be short, as it becomes a socket's."""
        self.address = f"unix:path={folder / 'bus'}"
        self._program = program
        self._configuration = folder / "bus.conf"
        self._log_path = folder / "bus.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration.write_text(_CONFIGURATION.format(address=self.address))

    @classmethod
    @contextlib.contextmanager
    def running(cls, program: Path, folder: Path) -> Iterator[Self]:
        """Run a bus for the length of a with block."""
        bus = cls(program, folder)
        bus.start()
        try:
            yield bus
        finally:
            bus.stop()

    def start(self) -> None:
        """Start it and return once it listens.

        Raises:
            BusError: it ended at once, or did not listen in time.
        """
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._program, f"--config-file={self._configuration}"),
                    *("--nofork", "--nopidfile", "--nosyslog", "--print-address=1"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        printed = self._process.stdout
        assert printed is not None
        with printed:
            # It prints its address when it listens, and nothing if it ends.
            readable, _, _ = select.select([printed], [], [], START_TIMEOUT_S)
            listens = bool(readable) and printed.readline().startswith(b"unix:")
        if not listens:
            self.stop()
            raise BusError(f"dbus-daemon does not listen:\n{self._log_path.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it, as the shutdown of a machine does; harmless if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
