"""Whether the machine's clock is right, asked of systemd where the kernel may not be asked.

Our service may not call adjtimex(2), which could set the clock as well. systemd-timesyncd leaves a
file when it has set it; chrony and ntpd leave nothing that everybody can read, but there is
systemd-timedated, which asks the kernel. It is started for each question, and so asked rarely.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.clock import is_clock_synchronised, kernel_word
from gateway.progress import Progress

FIRST_ASK_S: Final = 15.0
RARE_ASK_S: Final = 900.0
"""From one question to the next: doubled from the first to the second; while it says yes, the
second."""
ANSWER_S: Final = 10.0

TIMEDATECTL: Final = ("timedatectl", "show", "--property=NTPSynchronized", "--value")


class TimeDate:
    """Somebody who vouches for the machine's clock; `run` it meanwhile."""

    def __init__(
        self,
        may_ask_kernel: Callable[[], bool] = lambda: kernel_word() is not None,
        is_told: Callable[[], bool] = is_clock_synchronised,
        command: Sequence[str] = TIMEDATECTL,
        progress: Progress | None = None,
    ) -> None:
        """`is_told` is the word of the kernel, or of systemd-timesyncd where that is refused."""
        self._may_ask_kernel = may_ask_kernel
        self._is_told = is_told
        self._command = command
        self._progress = progress or Progress()
        self._timedated = False

    def is_synchronised(self) -> bool:
        """Tell whether anybody vouches for it; cheap."""
        return self._is_told() or self._timedated

    async def run(self) -> None:
        """Ask systemd-timedated now and then, for ever, if the kernel may not be asked."""
        pause_s = FIRST_ASK_S
        with self._progress.stage("timedate") as stage:
            while not self._may_ask_kernel():
                stage.works("asking for the clock")
                if self._is_told():
                    self._timedated = False
                    pause_s = FIRST_ASK_S
                else:
                    self._timedated = await self._ask()
                    pause_s = RARE_ASK_S if self._timedated else min(2 * pause_s, RARE_ASK_S)
                await stage.rest(pause_s, asyncio.sleep)

    async def _ask(self) -> bool:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError:  # there is no such program here
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                said, _ = await process.communicate()
        except TimeoutError:
            said = b""
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return said.strip() == b"yes"
