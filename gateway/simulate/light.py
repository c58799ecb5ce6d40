"""Hundreds of light boards in one process, and a way to talk to it.

`run_light_boards` reads commands from its stdin, one a line, and answers each with one line of
JSON, in order:

    stats           {"boards":500,"joined":500,"produced":90,...}: see `Stats`
    boards          {"boards":[{"name":...,"path":...,"lives":[...]},...]}: see `Life`
    reset [NAME]    resets softly: the session starts anew, ring and epoch survive
    restart [NAME]  cuts the power for a moment: a new epoch, the ring is lost
    unplug [NAME]   takes the port away
    plug [NAME]     brings it back
    pause           takes no more samples; what waits is still delivered
    resume          takes samples again
    drain [SECONDS] pauses, and answers when nothing waits any more, at most 30 s (or SECONDS) later
    stop            ends

Without NAME a command is meant for all boards. Where nothing is said above the answer is that of
`stats`; a command that fails is answered with {"error":"..."}. Before all, once the ports are
there, it says {"ready":true,"boards":500,"folder":"..."}.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gateway.simulate.faults import FaultPlan
from gateway.simulate.light_board import LightBoard, load_board_code

_DRAIN_S = 30.0
"""How long `drain` waits when it is not told."""

_MAX_COMMAND = 1000
"""Longest command line in bytes; a longer one is no command."""


@dataclass(frozen=True, slots=True)
class LightSpec:
    """Which boards to simulate."""

    count: int
    folder: Path
    """Where their ports appear, as links NAME."""
    interval_s: float = 1.0
    """From sample to sample of one board; their phases are spread evenly."""
    prefix: str = "light"
    """Boards are named PREFIX-0000 and so on."""
    ring_bytes: int = 2048
    epoch: int = field(default_factory=lambda: int(time.time()) & 0xFFFF)
    """Of the first life; a new run must not repeat the last one's."""
    plan: FaultPlan = field(default_factory=FaultPlan)
    has_relays: bool = False
    """Whether each has a relay, to be told something."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The boards together: produced = acked + overflowed + cut + waiting."""

    boards: int
    joined: int
    """Boards the gateway has welcomed."""
    produced: int
    acked: int
    """Samples the gateway has declared safe."""
    overflowed: int
    """Samples lost to full rings; the gateway publishes them as gaps."""
    cut: int
    """Samples in the ring when the power was cut: the gateway may or may not have them."""
    waiting: int
    resent: int
    """Frames with samples sent again, since each board's last reset."""
    bytes_sent: int
    bytes_received: int
    bytes_dropped: int
    cpu_s: float
    """CPU time of this process."""


class LightBoards:
    """A number of light boards on the running loop."""

    def __init__(self, spec: LightSpec) -> None:
        """Make the boards, still unplugged.

        Raises:
            ConfigError: the firmware is missing.
        """
        code = load_board_code()
        names = (f"{spec.prefix}-{number:04d}" for number in range(spec.count))
        self.boards = {
            name: LightBoard(
                code,
                spec.folder / name,
                name,
                interval_s=spec.interval_s,
                ring_bytes=spec.ring_bytes,
                epoch=spec.epoch,
                plan=spec.plan,
                has_relay=spec.has_relays,
            )
            for name in names
        }

    async def open(self) -> None:
        """Switch all on and plug them in; `close` undoes it even where this failed.

        Raises:
            OSError: a port cannot be made.
        """
        for number, board in enumerate(self.boards.values(), 1):
            board.open(number / len(self.boards))
            await asyncio.sleep(0)  # some hundred ports take a tenth of a second

    def close(self) -> None:
        """Unplug all; idempotent."""
        for board in self.boards.values():
            board.close()

    async def run(self) -> None:
        """Be plugged in until cancelled."""
        try:
            await self.open()
            await asyncio.get_running_loop().create_future()
        finally:
            self.close()

    def produce(self, *, wanted: bool) -> None:
        """Let the boards take samples, or not."""
        for board in self.boards.values():
            board.is_producing = wanted

    async def drain(self, timeout_s: float = _DRAIN_S) -> None:
        """Take no more samples; return when all were acknowledged.

        Raises:
            TimeoutError: some were not in time.
        """
        boards = self.boards.values()
        is_drained = asyncio.Event()

        def look() -> None:
            if not any(board.waiting for board in boards):
                is_drained.set()

        self.produce(wanted=False)
        look()
        try:
            for board in boards:
                board.on_activity = look
            async with asyncio.timeout(timeout_s):
                await is_drained.wait()
        finally:
            for board in boards:
                board.on_activity = None

    def stats(self) -> Stats:
        """Add up all boards."""
        boards = self.boards.values()
        lives = [life for board in boards for life in board.lives]
        produced = sum(life.produced for life in lives)
        acked = sum(life.acked for life in lives)
        overflowed = sum(life.overflowed for life in lives)
        waiting = sum(board.waiting for board in boards)
        return Stats(
            boards=len(boards),
            joined=sum(board.is_joined for board in boards),
            produced=produced,
            acked=acked,
            overflowed=overflowed,
            cut=produced - acked - overflowed - waiting,
            waiting=waiting,
            resent=sum(board.batches_resent for board in boards),
            bytes_sent=sum(board.wire.status.bytes_sent for board in boards),
            bytes_received=sum(board.wire.status.bytes_received for board in boards),
            bytes_dropped=sum(board.wire.status.bytes_dropped for board in boards),
            cpu_s=round(time.process_time(), 3),
        )


async def run_light_boards(spec: LightSpec) -> None:
    """Simulate boards and obey the commands of this module's description.

    Ends on `stop`, and when stdin closes: a process that was started with a pipe does not outlive
    who holds the other end. Where stdin is a file or /dev/null it runs until it is cancelled.

    Raises:
        ConfigError: the firmware is missing.
        OSError: a port cannot be made.
    """
    boards = LightBoards(spec)
    try:
        await boards.open()
        await _say({"ready": True, "boards": spec.count, "folder": str(spec.folder)})
        async for line in _stdin_lines():
            words = line.split()
            if words == ["stop"]:
                break
            try:
                answer = await _obey(boards, words)
            except (LookupError, ValueError) as exc:
                answer = {"error": str(exc.args[0] if exc.args else exc)}
            except TimeoutError:
                answer = {"error": "not in time", **asdict(boards.stats())}
            await _say(answer)
    finally:
        boards.close()


async def _obey(boards: LightBoards, words: list[str]) -> Mapping[str, object]:
    match words:
        case ["stats"]:
            pass
        case ["boards"]:
            return {"boards": [_description(board) for board in boards.boards.values()]}
        case ["pause" | "resume" as wish]:
            boards.produce(wanted=wish == "resume")
        case ["drain"]:
            await boards.drain()
        case ["drain", seconds]:
            await boards.drain(float(seconds))
        case [verb, *names] if verb in _VERBS:
            for board in [boards.boards[name] for name in names or boards.boards]:
                _VERBS[verb](board)
        case _:
            raise ValueError(f"unknown command {' '.join(words)!r:.60}")
    return asdict(boards.stats())


_VERBS: Mapping[str, Callable[[LightBoard], None]] = {
    "reset": LightBoard.soft_reset,
    "restart": LightBoard.power_cycle,
    "unplug": lambda board: board.wire.unplug(),
    "plug": lambda board: board.wire.plug(),
}


def _description(board: LightBoard) -> Mapping[str, object]:
    return {
        "name": board.name,
        "path": str(board.path),
        "joined": board.is_joined,
        "resets": board.resets,
        "settings": 0 if board.relay is None else board.relay.settings,
        "lives": [asdict(life) for life in board.lives],
    }


async def _say(answer: Mapping[str, object]) -> None:
    text = json.dumps(answer, separators=(",", ":")) + "\n"
    await asyncio.to_thread(_print, text)  # a pipe that is full would stop all boards


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def _stdin_lines() -> AsyncIterator[str]:
    """Yield lines until the other end closes; for ever nothing where there is no other end."""
    descriptor = sys.stdin.fileno()
    rest = b""
    while True:
        await _readable(descriptor)
        piece = os.read(descriptor, _MAX_COMMAND)
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
        rest = rest[-_MAX_COMMAND:]


async def _readable(descriptor: int) -> None:
    """Return when there is something to read, or the end; never for a file or /dev/null."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except PermissionError:  # epoll takes no files
        await loop.create_future()
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
