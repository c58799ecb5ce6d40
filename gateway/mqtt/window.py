"""How much may be on its way to the broker at once."""

import asyncio
from collections import deque


class Window:
    """Admits messages in the order in which they ask, while there is room.

    Whoever waits is served first come, first served: so neither a flood of records nor one of
    documents can starve the other. asyncio.Semaphore knows no sizes.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        """A message that is larger than `max_bytes` goes alone."""
        self.max_messages = max_messages
        self._max_bytes = max_bytes
        self.messages = 0
        """On their way now."""
        self._bytes = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._empty: asyncio.Future[None] | None = None

    async def admit(self, size_bytes: int) -> None:
        """Wait for room and take it."""
        if not self._waiting and self._fits(size_bytes):
            self.messages += 1
            self._bytes += size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, size_bytes)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size_bytes)  # it was admitted in the same turn of the loop
            else:
                if entry in self._waiting:  # unless it was passed over since
                    self._waiting.remove(entry)
                self._admit_waiting()
            raise

    def release(self, size_bytes: int) -> None:
        """Give the room of one message back."""
        self.messages -= 1
        self._bytes -= size_bytes
        if self._waiting:
            self._admit_waiting()
        if not self.messages and self._empty is not None:
            self._empty.set_result(None)
            self._empty = None

    @property
    def is_crowded(self) -> bool:
        """Whether somebody waits for room, and so for the broker."""
        return bool(self._waiting)

    async def wait_room(self) -> None:
        """Wait until a message would be admitted, without taking room."""
        if self._waiting or not self._fits(0):
            await self.admit(0)
            self.release(0)

    def wait_empty(self) -> asyncio.Future[None]:
        """Return what is done once nothing is on its way."""
        if self._empty is None:
            self._empty = asyncio.get_running_loop().create_future()
        empty = self._empty
        if not self.messages:
            empty.set_result(None)
            self._empty = None
        return empty

    def _fits(self, size_bytes: int) -> bool:
        return self.messages < self.max_messages and (
            not self.messages or self._bytes + size_bytes <= self._max_bytes
        )

    def _admit_waiting(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            turn, size_bytes = self._waiting.popleft()
            if not turn.done():  # else it is being cancelled
                self.messages += 1
                self._bytes += size_bytes
                turn.set_result(None)
