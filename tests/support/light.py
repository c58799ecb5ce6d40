"""Hundreds of light boards in a process of their own, commanded through its stdin."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_PROGRAM = """
import asyncio, sys
from pathlib import Path
from gateway.simulate.light import LightSpec, run_light_boards
count, folder, interval_s, has_relays = sys.argv[1:]
spec = LightSpec(int(count), Path(folder), float(interval_s), has_relays=has_relays == "True")
asyncio.run(run_light_boards(spec))
"""


class LightProcess:
    """Answers commands: see `gateway.simulate.light`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, command: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Send a command and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(timeout_s):
            answer = await self.answer()
        assert "error" not in answer, answer
        return answer

    async def answer(self) -> dict[str, Any]:
        """Return the next line of JSON it says."""
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer


@asynccontextmanager
async def light_boards(
    folder: Path, count: int, interval_s: float, *, has_relays: bool = False
) -> AsyncIterator[LightProcess]:
    """Run `count` boards whose ports are in `folder`, each taking a sample every `interval_s`."""
    given = map(str, (count, folder, interval_s, has_relays))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, *given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 22,
    )
    boards = LightProcess(process)
    try:
        async with asyncio.timeout(20):
            assert (await boards.answer())["ready"]
        yield boards
    finally:
        assert process.stdin is not None
        process.stdin.close()  # it ends by itself when its stdin closes
        await process.wait()
