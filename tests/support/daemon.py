"""The daemon as a user runs it: a process of its own, with a configuration and a log."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support import nursery
from tests.support.slow_callbacks import is_ours

STOP_TIMEOUT_S = 10.0


class Daemon:
    """A running `edge-gateway run`."""

    def __init__(self, process: nursery.Child) -> None:
        self._process = process
        self._lines: list[str] = []
        self._has_logged = asyncio.Condition()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def log(self) -> str:
        """Return what it wrote so far."""
        return "".join(self._lines)

    def rss_bytes(self) -> int:
        """Return its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Return how many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def read_log(self) -> None:
        """Collect what it writes, until it ends."""
        async for line in self._process.stderr:
            async with self._has_logged:
                self._lines.append(line.decode(errors="replace"))
                self._has_logged.notify_all()

    async def wait_for_log(self, text: str) -> None:
        """Return once it has logged a line that holds `text`."""
        async with self._has_logged:
            await self._has_logged.wait_for(lambda: any(text in line for line in self._lines))

    async def stop(self) -> int:
        """Ask it to end, as systemd does; return its exit code.

        Raises:
            AssertionError: it does not, and was killed.
        """
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"SIGTERM did not end the daemon:\n{self.log()}") from None

    async def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        await self._process.wait()


def as_users_run_it() -> dict[str, str]:
    """Return the environment without asyncio's debug mode, where its cost is not to be measured."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}


@asynccontextmanager
async def running_daemon(  # noqa: PLR0913 - each says something about the run
    folder: Path,
    broker_port: int,
    patterns: str,
    *,
    more: str = "",
    mqtt: str = "",
    environment: Mapping[str, str] | None = None,
    wrap: Callable[[Sequence[str]], Sequence[str]] = list,
) -> AsyncIterator[Daemon]:
    """Run the daemon on the ports that match `patterns`, by default in this environment.

    `more` is further configuration, added to `[serial]`; without a section `[ble]` in it, the radio
    of the machine is left alone. `mqtt` is added to `[mqtt]`. Its gateway is called `test`. `wrap`
    may change the command; what it runs must stay one process. Ending the block ends it, and fails
    if it does not end well.
    """
    command = wrap(daemon_command(folder, broker_port, patterns, more, mqtt))
    process = await nursery.start_child(command, environment)
    daemon = Daemon(process)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.read_log())
        try:
            yield daemon
        except BaseException:
            await daemon.stop()
            print(daemon.log()[-8000:])  # noqa: T201 - pytest shows it with the failure
            raise
        if daemon.exit_code is None:
            exit_code = await daemon.stop()
            slow = [
                line
                for line in daemon.log().splitlines()
                if is_ours(line.partition("asyncio: ")[2])
            ]
            assert not slow, slow
            assert exit_code == 0, f"exit code {exit_code}: {daemon.log()[-8000:]}"


def daemon_command(
    folder: Path, broker_port: int, patterns: str, more: str = "", mqtt: str = ""
) -> list[str]:
    """Write a configuration into `folder`; return the command that runs the daemon by it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "gateway.toml"
    ble = "" if "[ble]" in more else "[ble]\nenabled = false\n"
    config.write_text(
        f'[gateway]\nname = "test"\nhealth_interval_s = 1.0\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker_port}\n{mqtt}'
        f'[log]\nlevel = "info"\n{ble}'
        f'[serial]\npatterns = ["{patterns}"]\nsettle_s = 0.0\n{more}\n'
    )
    return [sys.executable, "-m", "gateway", "run", "--config", str(config)]
