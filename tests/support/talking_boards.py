"""Boards of both kinds that keep their samples until they are told that these are safe."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from gateway.simulate.light_board import LightBoard, load_board_code
from gateway.simulate.text_boards import TextBoard
from tests.support.numbered_lines import NumberedLines

EPOCH = 7
RING_BYTES = 1 << 16
"""Room for 5,400 samples."""

MOST_WAITING = 2000
"""A framed board that keeps so many takes no more, so that none is lost however slow the machine is
that the gateway runs on. What is above is for the samples of a moment in which the loop stood."""


class TalkingBoards:
    """Some that speak our protocol (`framed-0` ...), and some that print lines (`printing-0` ...).

    Both have a value `number`: of a framed board's samples it is their seq, and it is beyond a
    million for those of the others.
    """

    def __init__(
        self, ports: Path, *, framed: int = 1, printing: int = 1, interval_s: float
    ) -> None:
        """So many of each, in a folder that is made here."""
        ports.mkdir()
        code = load_board_code()
        self.on_acked: Callable[[str, int, int], None] = lambda _device, _boot, _seq: None
        """Called with device, boot and seq in the turn in which a board reads that it is safe."""
        self.framed = {
            name: LightBoard(
                *(code, ports / name, name),
                interval_s=interval_s,
                ring_bytes=RING_BYTES,
                epoch=EPOCH,
            )
            for name in (f"framed-{number}" for number in range(framed))
        }
        self.printing = {
            name: NumberedLines(name, interval_s, first_number=(number + 1) * 1_000_000, boot=EPOCH)
            for number, name in enumerate(f"printing-{each}" for each in range(printing))
        }
        self._text = [TextBoard(ports / name, lines) for name, lines in self.printing.items()]
        self._are_wanted = True
        self._told = Counter[str]()
        self._was_told = asyncio.Event()
        self._heard = dict.fromkeys(self.framed, 0)
        for name, board in self.framed.items():
            board.on_activity = partial(self._on_activity, name, board)
        for name, lines in self.printing.items():
            lines.on_acked = partial(self._on_told, name)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have them plugged in for the length of the block."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(board.run()) for board in self._text]
            for number, board in enumerate(self.framed.values()):
                board.open(number / len(self.framed))
            try:
                yield
            finally:
                for board in self.framed.values():
                    board.close()
                for task in running:
                    task.cancel()

    @property
    def devices(self) -> list[str]:
        """The names of all."""
        return [*self.framed, *self.printing]

    async def until_told(self, more: int) -> None:
        """Return once each board was told of so many more samples."""
        enough = {name: self._told[name] + more for name in self.devices}
        while any(self._told[name] < enough[name] for name in self.devices):
            self._was_told.clear()
            await self._was_told.wait()

    def produce(self, *, wanted: bool) -> None:
        """Take samples, or not."""
        self._are_wanted = wanted
        for board in self.framed.values():
            self._throttle(board)
        for lines in self.printing.values():
            lines.is_producing = wanted

    def produced(self) -> dict[str, int]:
        """Return how many samples each took: their seqs are below."""
        framed = {name: board.produced for name, board in self.framed.items()}
        return framed | {name: lines.taken for name, lines in self.printing.items()}

    def waiting(self) -> int:
        """Return how many samples no board was told to be safe."""
        framed = sum(board.waiting for board in self.framed.values())
        return framed + sum(len(lines.waiting) for lines in self.printing.values())

    def number_of(self, device: str, seq: int) -> int:
        """Return the value that tells a sample from all others."""
        return seq if device in self.framed else self.printing[device].number_of(seq)

    def _on_activity(self, name: str, board: LightBoard) -> None:
        life = board.lives[-1]
        before, self._heard[name] = self._heard[name], life.acked
        for seq in range(before, life.acked):
            self._on_told(name, seq)
        self._throttle(board)

    def _throttle(self, board: LightBoard) -> None:
        board.is_producing = self._are_wanted and board.waiting < MOST_WAITING

    def _on_told(self, name: str, seq: int) -> None:
        self._told[name] += 1
        self._was_told.set()
        self.on_acked(name, EPOCH, seq)
