"""A board whose samples are known to the moment, and what is published of them."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from struct import pack
from typing import NamedTuple

from gateway.drivers.board import BoardDriver
from gateway.model import Event, Readings
from gateway.mqtt.messages import Message
from gateway.protocol.messages import Channel, Hello, Read, Stream, encode
from gateway.protocol.messages import Message as BoardMessage
from tests.support.machine import Machine

NUMBERS = Stream(0, "counter", "I", (Channel("n", "", None, ""),))
TRANSIT_S = 0.002
"""Of a frame on a line where nothing waits."""


@dataclass
class DatedBoard:
    """Keeps its own time, and goes on while the machine is restarted."""

    machine: Machine
    rng: random.Random
    drift_ppm: float = 0.0
    device: str = "dev"
    epoch: int = 42
    taken: dict[str, float] = field(default_factory=dict)
    """When each sample was truly taken, UTC, by id."""
    _started_s: float = field(init=False)
    _next_seq: int = 0
    _acked: int = 0
    _ring: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started_s = self.machine.true_unix_s - 1000.0

    def take(self) -> None:
        """Take a sample now."""
        self.taken[f"{self.device}/{self.epoch}/{self._next_seq}"] = self.machine.true_unix_s
        self._ring.append(pack("<BBII", 10, 0, self._count_ms(), self._next_seq))
        self._next_seq += 1

    def join(self, driver: BoardDriver) -> None:
        """Present itself to a gateway that just started."""
        kept = len(self._ring)
        hello = Hello(
            1, self.device, self.epoch, self._next_seq, kept, self._acked, streams=1, nonce=7
        )
        for message in (hello, NUMBERS):
            self._say(driver, message)

    def send(self, driver: BoardDriver) -> list[Readings]:
        """Send what it keeps; return what the gateway makes of it, and forget it."""
        first_seq = self._next_seq - len(self._ring)
        ring, self._ring = self._ring, []
        read = Read(0, self.epoch, first_seq, self._count_ms(), 0, len(ring), b"".join(ring))
        self._acked = self._next_seq
        return [event for event in self._say(driver, read) if isinstance(event, Readings)]

    def _say(self, driver: BoardDriver, message: BoardMessage) -> list[Event]:
        frame = encode(message)
        self.machine.run(TRANSIT_S + self.rng.expovariate(1 / 0.005))
        events: list[Event] = []
        driver.receive(frame, self.machine.monotonic_s, events)
        return events

    def _count_ms(self) -> int:
        run_s = self.machine.true_unix_s - self._started_s
        return int(run_s * 1000 * (1 + self.drift_ppm * 1e-6))


class Told(NamedTuple):
    """A sample as a subscriber reads it."""

    id: str
    unix_s: float
    quality: str


def told(messages: Iterable[Message]) -> list[Told]:
    """Return the samples in messages, in order."""
    documents = []
    for message in messages:
        document = json.loads(message.payload)
        documents += document if isinstance(document, list) else [document]
    return [
        Told(each["id"], datetime.fromisoformat(each["time"]).timestamp(), each["time_quality"])
        for each in documents
    ]
