"""The gateway's driver and the firmware's session, both real, on simulated wires.

Nothing sleeps and nothing waits: the clock is virtual and jumps to whatever is due next.
"""

import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gateway.clock import Clock
from gateway.commands.office import Office
from gateway.drivers.base import OnCommandEnd
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.model import Actuator, Event, Fault, Gap, Gone, Readings, Record, TakesCommands
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.requests import Order
from gateway.simulate.firmware import load_modules
from tests.support.command_office import (
    MemoryBroker,
    MemoryDirectory,
    MemoryJournal,
    board,
    make_office,
)

if TYPE_CHECKING:
    from gateway.commands.letter import End

_SESSION, _RING = load_modules("board.session", "board.ring")

CHANNELS = (("number", "", 0, ""), ("temperature", "°C", -2, "temperature"))
STREAM = ("climate", "Ih", CHANNELS)
RECORD_SIZE = 6 + 6
NEVER = float("inf")
PUMP = SimpleNamespace(describe=lambda: {"k": "pump", "n": "Pump", "t": "switch", "state": False})


@dataclass(frozen=True, slots=True)
class Faults:
    """What one direction of a wire does to lines."""

    loss: float = 0.0
    flips: float = 0.0
    """Share of lines with one flipped bit."""
    doubles: float = 0.0
    delay_s: tuple[float, float] = (0.0005, 0.0005)
    chunk: int | None = None
    """Bytes read at once; None = whatever was written."""


class Wire:
    """One direction; delays, damages and repeats, but never changes the order."""

    def __init__(self, faults: Faults, rng: random.Random) -> None:
        self.faults = faults
        self.is_cut = False
        self._rng = rng
        self._on_the_way: deque[tuple[float, bytes]] = deque()
        self._last_s = 0.0

    @property
    def due_s(self) -> float:
        return self._on_the_way[0][0] if self._on_the_way else NEVER

    def write(self, lines: bytes, now_s: float) -> None:
        for line in lines.splitlines(keepends=True):
            if self.is_cut or self._rng.random() < self.faults.loss:
                continue
            if self._rng.random() < self.faults.flips:
                damaged = bytearray(line)
                damaged[self._rng.randrange(len(line))] ^= 1 << self._rng.randrange(8)
                line = bytes(damaged)  # noqa: PLW2901  # what is sent is what was damaged
            times = 2 if self._rng.random() < self.faults.doubles else 1
            for _ in range(times):
                self._last_s = max(self._last_s, now_s + self._rng.uniform(*self.faults.delay_s))
                step = self.faults.chunk or len(line)
                for start in range(0, len(line), step):
                    self._on_the_way.append((self._last_s, line[start : start + step]))

    def tear(self) -> None:
        """Lose the second half of what is on the way, in the middle of a line."""
        whole = b"".join(chunk for _, chunk in self._on_the_way)
        self._on_the_way.clear()
        if whole:
            self._on_the_way.append((self._last_s, whole[: len(whole) // 2]))

    def read(self, now_s: float) -> list[bytes]:
        chunks: list[bytes] = []
        while self._on_the_way and self._on_the_way[0][0] <= now_s:
            chunks.append(self._on_the_way.popleft()[1])
        return chunks


class Board:
    """The firmware's session and ring, with a sensor that counts."""

    def __init__(self, epoch: int, ring_bytes: int, mono_ms: int) -> None:
        self.epoch = epoch
        self.ring = _RING.Ring(ring_bytes)
        self.produced: dict[int, list[tuple[int, float]]] = defaultdict(list)
        """Number and time of each record, by epoch."""
        self.executed: list[Any] = []
        self._mono_ms = mono_ms
        self._number = 0
        self._boots = 0
        self._unfinished = b""
        self.session: Any = None
        self.boot()

    def boot(self) -> None:
        """Start the session anew; the ring survives."""
        self._boots += 1
        info = {"id": "b1", "name": "Board", "fw": "1", "n": self._boots}
        commands = {"set": self._execute, "fail": self._fail}
        self.session = _SESSION.Session(
            info, self.ring, self.epoch, [STREAM], [PUMP], commands=commands
        )
        self._unfinished = b""

    def power_cycle(self) -> None:
        """Lose the ring, too."""
        self.epoch = (self.epoch + 1) & 0xFFFF
        self.ring = _RING.Ring(self.ring.size)
        self.boot()

    def now_ms(self, now_s: float) -> int:
        return (self._mono_ms + int(now_s * 1000)) & 0xFFFFFFFF

    def sample(self, now_s: float) -> None:
        self._number += 1
        record = pack("<BBIIh", RECORD_SIZE, 0, self.now_ms(now_s), self._number, -5)
        seq = self.ring.push(record, RECORD_SIZE)
        numbers = self.produced[self.epoch]
        assert seq == len(numbers)
        numbers.append((self._number, now_s))

    def feed(self, chunk: bytes, now_s: float) -> None:
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        for line in lines:
            self.session.on_line(line, self.now_ms(now_s))

    def _execute(self, arguments: Any) -> Any:  # noqa: ANN401  # any JSON
        self.executed.append(arguments)
        return {"was": arguments}

    def _fail(self, arguments: Any) -> Any:  # noqa: ANN401  # any JSON
        self.executed.append(arguments)
        raise ValueError("no such thing")


@dataclass
class World:
    """A board, two wires and a gateway."""

    seed: int
    up: Faults = field(default_factory=Faults)
    down: Faults = field(default_factory=Faults)
    ring_bytes: int = 8192
    epoch: int = 7
    mono_ms: int = 12_345
    period_s: float = 0.02
    safe_after_s: float = 0.001
    """How long the broker takes."""
    commit_s: float = 0.0
    """How long the disk takes to note something of a command."""

    def __post_init__(self) -> None:
        rng = self._rng = random.Random(self.seed)
        self.now_s = 1000.0
        self.to_gateway = Wire(self.up, rng)
        self.to_board = Wire(self.down, rng)
        self.board = Board(self.epoch, self.ring_bytes, self.mono_ms)
        self.book = DeliveryBook()
        self.events: list[Event] = []
        self.records: list[Record] = []
        self.ended: list[End] = []
        self.clock = Clock(
            lambda: self.now_s, lambda: 1_790_000_000 + self.now_s, "boot", lambda: True
        )
        self.journal = MemoryJournal(lambda: self.now_s, self.commit_s)
        self.broker = MemoryBroker()
        self.directory = MemoryDirectory(board("b1", Actuator("n", "N", "number")))
        self.office = self._make_office()
        self.unsafe: deque[tuple[float, Callable[[], None]]] = deque()
        self.plan: list[tuple[float, Callable[[], None]]] = []
        self._opened = 0
        self.driver = self._open()
        self._to_sample = 0
        self._next_sample_s = NEVER

    def _make_office(self) -> Office:
        return make_office(self.clock, self.journal, self.broker, self.directory, self._road)

    def _open(self) -> SerialLineDriver:
        self._opened += 1
        return SerialLineDriver(
            "port",
            "",
            LineFormat(),
            book=self.book,
            clock=self.clock,
            run=1,
            session_id=f"s{self._opened}",
        )

    def reopen(self) -> None:
        """Close the port and open it again; the process lives on."""
        self._accept(self.driver.close(self.now_s))
        self.to_gateway.tear()
        self.driver = self._open()

    def restart_gateway(self) -> None:
        """Kill the process: nothing that is not safe survives, nor what it knew."""
        self.unsafe.clear()
        self.journal.crash(is_late=self._rng.random() < 0.5)
        self.broker.crash()
        self.book = DeliveryBook()
        self.driver = self._open()
        self.office = self._make_office()
        self.broker.redeliver(self.office)

    def command(self, name: str, arguments: Any, ttl_s: float) -> None:  # noqa: ANN401  # any JSON
        """Have the gateway give the board a command of its own."""
        self.office.order("b1", name, arguments, ttl_s, self.ended.append)

    def _road(self, _link: str, order: Order, on_end: OnCommandEnd) -> bool:
        self.driver.command(order, self.now_s, on_end)
        return True

    def cut(self, *, is_cut: bool) -> None:
        self.to_gateway.is_cut = self.to_board.is_cut = is_cut

    def at(self, after_s: float, action: Callable[[], None]) -> None:
        self.plan.append((self.now_s + after_s, action))

    def run(self, samples: int, limit_s: float = 600.0) -> None:
        """Take so many samples, and go on until all of them are safe and acknowledged."""
        self._to_sample = samples
        self._next_sample_s = self.now_s
        end_s = self.now_s + limit_s
        while not self.is_done():
            assert self.now_s < end_s, f"seed {self.seed}: not done after {limit_s} s"
            self._step()

    def is_done(self) -> bool:
        return not (self._to_sample or self.plan or self.unsafe or self.board.ring.count)

    def go_on(self, for_s: float) -> None:
        end_s = self.now_s + for_s
        while self.now_s < end_s:
            self._step(end_s)

    def _step(self, latest_s: float = NEVER) -> None:
        board_due_s = self.now_s + self.board.session.due_ms(self.board.now_ms(self.now_s)) / 1000
        self.now_s = max(
            self.now_s,
            min(
                self.to_gateway.due_s,
                self.to_board.due_s,
                self._next_sample_s,
                self.driver.deadline_s or NEVER,
                board_due_s + 0.0005,  # its clock counts whole milliseconds
                self.unsafe[0][0] if self.unsafe else NEVER,
                min((when_s for when_s, _ in self.plan), default=NEVER),
                self.journal.due_s,
                self.office.deadline_s or NEVER,
                latest_s,
            ),
        )
        self._act()
        self._run_board()
        self._run_gateway()

    def _act(self) -> None:
        for when_s, action in list(self.plan):
            if when_s <= self.now_s:
                self.plan.remove((when_s, action))
                action()
        while self.unsafe and self.unsafe[0][0] <= self.now_s:
            self.unsafe.popleft()[1]()

    def _run_board(self) -> None:
        while self._to_sample and self._next_sample_s <= self.now_s:
            self.board.sample(self.now_s)
            self._to_sample -= 1
            self._next_sample_s += self.period_s
        if not self._to_sample:
            self._next_sample_s = NEVER
        for chunk in self.to_board.read(self.now_s):
            self.board.feed(chunk, self.now_s)
        while (line := self.board.session.next_line(self.board.now_ms(self.now_s))) is not None:
            self.to_gateway.write(line, self.now_s)

    def _run_gateway(self) -> None:
        chunks = self.to_gateway.read(self.now_s)
        for chunk in chunks:
            self._accept(self.driver.feed(chunk, self.now_s))
        deadline_s = self.driver.deadline_s
        if deadline_s is not None and deadline_s <= self.now_s:
            self._accept(self.driver.tick(self.now_s))
        self.journal.work()
        self.office.work()
        self.broker.work()
        self.to_board.write(self.driver.data_to_send(), self.now_s)

    def _accept(self, events: list[Event]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, Readings):
                self.records += event.records
                if event.on_safe is not None:
                    self.unsafe.append((self.now_s + self.safe_after_s, event.on_safe))
            elif isinstance(event, TakesCommands):
                self.office.ready("port", event.device, event.life)
            elif isinstance(event, Gone):
                self.office.left("port", event.device)

    def of(self, epoch: int) -> list[Record]:
        return [record for record in self.records if record.boot == epoch]

    def faults(self) -> set[str]:
        return {event.kind for event in self.events if isinstance(event, Fault)}


def check_in_order(world: World, epoch: int, records: list[Record]) -> int:
    """Check that records follow each other without a hole or repeat; return the next seq."""
    expected_seq = 0
    for record in records:
        if isinstance(record, Gap):
            assert record.first_seq == expected_seq, f"seed {world.seed}"
            expected_seq = record.last_seq + 1
            continue
        assert record.seq == expected_seq, f"seed {world.seed}"
        number, taken_s = world.board.produced[epoch][record.seq]
        assert record.values == {"number": number, "temperature": -0.05}
        assert -0.002 <= record.taken_s - taken_s < 1.2, f"seed {world.seed}"
        expected_seq += 1
    return expected_seq


def check_all_delivered(world: World, epoch: int) -> None:
    """Check that each record of the epoch came once, in order, as a sample or in a gap."""
    next_seq = check_in_order(world, epoch, world.of(epoch))
    assert next_seq == len(world.board.produced[epoch]), f"seed {world.seed}"
