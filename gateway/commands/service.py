"""Commands on the event loop: when the office works, and who waits for an end."""

import asyncio
from contextlib import suppress
from math import inf
from typing import NoReturn

from gateway.clock import Clock
from gateway.commands.letter import End
from gateway.commands.office import Office
from gateway.progress import Progress
from gateway.protocol.fields import Json

CALL_EXPIRES_S = 10.0
"""How long a command of the gateway's own waits for its board, unless told otherwise."""


class Commands:
    """Has the office work when there is work; `run` it for as long as it is used."""

    def __init__(self, office: Office, clock: Clock, progress: Progress | None = None) -> None:
        self._stage = (progress or Progress()).stage("commands")
        self._office = office
        self._clock = clock
        self._has_work = asyncio.Event()
        office.on_work = self._has_work.set
        self.hear = office.hear
        """Takes a message of the broker."""
        self.begin_session = office.begin_session
        self.ready = office.ready
        self.left = office.left
        self.has_mail = office.has_mail
        self.replaced = office.replaced

    async def run(self) -> NoReturn:
        """Work, whenever something is due."""
        while True:
            self._has_work.clear()
            self._office.work()
            deadline_s = self._office.deadline_s
            delay_s = inf if deadline_s is None else deadline_s - self._clock.monotonic_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._stage.beat_s(max(delay_s, 0.001))):
                    await self._has_work.wait()

    async def call(
        self, device: str, name: str, arguments: Json = None, expires_s: float = CALL_EXPIRES_S
    ) -> End:
        """Have a board do something at most once, as any command; return its end."""
        ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        def on_end(end: End) -> None:
            if not ended.done():  # else whoever waited has gone
                ended.set_result(end)

        self._office.order(device, name, arguments, expires_s, on_end)
        return await ended

    def close(self) -> None:
        """Take no more."""
        self._office.close()
