"""board/session.py over a bad wire, against the model gateway; the clock is simulated."""

import heapq
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.firmware.model_gateway import ModelGateway
from tests.firmware.session_bench import board, record


@dataclass
class Wire:
    """Carries lines one way, in order, and mistreats them."""

    rng: random.Random
    loss: float = 0.0
    duplication: float = 0.0
    delay_ms: tuple[int, int] = (1, 1)
    _queue: list[tuple[int, int, bytes]] = field(default_factory=list)
    _count: int = 0
    _last_ms: int = 0

    def send(self, line: bytes, now_ms: int) -> None:
        for _ in range(2 if self.rng.random() < self.duplication else 1):
            chance = self.rng.random()
            if chance < self.loss / 2:
                continue
            if chance < self.loss:
                damaged = bytearray(line)
                damaged[self.rng.randrange(len(line) - 1)] ^= 1 << self.rng.randrange(8)
                line = bytes(damaged)
            self._last_ms = max(self._last_ms, now_ms + self.rng.randint(*self.delay_ms))
            self._count += 1
            heapq.heappush(self._queue, (self._last_ms, self._count, line))

    def arrived(self, now_ms: int) -> list[bytes]:
        lines = []
        while self._queue and self._queue[0][0] <= now_ms:
            lines.append(heapq.heappop(self._queue)[2])
        return lines

    def next_ms(self) -> int:
        return self._queue[0][0] if self._queue else 1 << 60


@dataclass
class World:
    """A board and a gateway with a wire each way."""

    session: Any
    gateway: ModelGateway
    up: Wire
    down: Wire

    def exchange(self, now_ms: int) -> int:
        """Let all happen that is due; return when the next thing is."""
        for line in self.up.arrived(now_ms):
            for answer in self.gateway.hear(line, now_ms):
                self.down.send(answer, now_ms)
        for answer in self.gateway.tick(now_ms):
            self.down.send(answer, now_ms)
        for line in self.down.arrived(now_ms):
            self.session.on_line(line, now_ms)
        for sent in iter(lambda: self.session.next_line(now_ms), None):
            self.up.send(sent, now_ms)
        due_ms: int = self.session.due_ms(now_ms)
        wake_ms = min(now_ms + due_ms, self.up.next_ms(), self.down.next_ms())
        return min(wake_ms, now_ms + 10) if self.gateway.safe_delay_ms else wake_ms

    def run(self, records: int, interval_ms: int) -> int:
        """Let the board take a record every interval; return when the gateway has all, in ms."""
        now_ms = pushed = 0
        while now_ms < 3_600_000:
            while pushed < records and pushed * interval_ms <= now_ms:
                self.session.ring.push(record(pushed), 12)
                pushed += 1
            wake_ms = self.exchange(now_ms)
            if pushed < records:
                wake_ms = min(wake_ms, pushed * interval_ms)
            elif self.gateway.received == records and not self.session.ring.count:
                break
            now_ms = max(wake_ms, now_ms + 1)
        return now_ms


WIRES: dict[str, dict[str, Any]] = {
    "clean": {},
    "20 % lost or damaged": {"loss": 0.2},
    "half lost or damaged": {"loss": 0.5},
    "slow": {"delay_ms": (100, 300)},
    "doubled": {"duplication": 0.3},
    "all at once": {"loss": 0.2, "duplication": 0.2, "delay_ms": (1, 150)},
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("safe_delay_ms", [0, 60, 500])
@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES.keys())
def test_every_record_arrives_once_and_in_order(
    wire: dict[str, Any], safe_delay_ms: int, seed: int
) -> None:
    rng = random.Random(seed)
    session = board(ring_bytes=65536)
    gateway = ModelGateway(safe_delay_ms=safe_delay_ms)

    World(session, gateway, Wire(rng, **wire), Wire(rng, **wire)).run(1000, 20)

    assert gateway.records == [record(number) for number in range(1000)]
    assert gateway.gaps == []
    assert session.bad_frames == 0


def test_a_clean_wire_sees_no_record_twice() -> None:
    rng = random.Random(1)
    session = board(ring_bytes=65536)
    gateway = ModelGateway(safe_delay_ms=500)

    World(session, gateway, Wire(rng), Wire(rng)).run(1000, 20)

    assert gateway.duplicates == 0
    assert session.batches_resent == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_a_small_ring_loses_is_a_gap(seed: int) -> None:
    rng = random.Random(seed)
    session = board(ring_bytes=400)
    gateway = ModelGateway(safe_delay_ms=60)
    wire: dict[str, Any] = {"loss": 0.4, "delay_ms": (1, 200)}

    World(session, gateway, Wire(rng, **wire), Wire(rng, **wire)).run(2000, 5)

    lost = {seq for first, last in gateway.gaps for seq in range(first, last + 1)}
    assert lost
    assert gateway.records == [record(number) for number in range(2000) if number not in lost]
    assert session.bad_frames == 0


def test_twenty_percent_loss_costs_little_time() -> None:
    rng = random.Random(4)
    session = board(ring_bytes=65536)
    wire: dict[str, Any] = {"loss": 0.2, "delay_ms": (1, 5)}

    world = World(session, ModelGateway(), Wire(rng, **wire), Wire(rng, **wire))

    took_ms = world.run(3000, 0)

    assert took_ms < 60_000, "seed 4"
