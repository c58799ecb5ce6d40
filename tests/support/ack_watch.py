"""Looks, in the moment in which a board reads that a sample is safe, at what made it so."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from gateway.simulate.faults.packets import PacketKind
from gateway.simulate.faults.relay import Direction, Passage

_FIRST_FAILURE = 0x80


class Key(NamedTuple):
    """The id of a sample."""

    device: str
    boot: int
    seq: int


class AckWatch:
    """Compares what boards are told with what the broker has confirmed and the disk holds.

    A second connection sees a row once it is committed, and SQLite shows a commit to others only
    after the WAL was synced. What was seen there once was safe from then on.
    """

    def __init__(self, database: Path) -> None:
        """`on_packet` is for a `BrokerProxy`: it sees a PUBACK just before the gateway can."""
        self.told: Counter[tuple[str, str]] = Counter()
        """How many samples of each device were told to be safe, by what made them so."""
        self.too_early: list[Key] = []
        """Told to be safe, and neither confirmed nor stored."""
        self._database = database
        self._confirmed: set[Key] = set()
        self._stored: set[Key] = set()
        self._on_their_way: dict[tuple[int, int | None], list[Key]] = {}
        self._changed = asyncio.Event()

    def on_packet(self, passage: Passage) -> None:
        """Note what the gateway publishes, and what the broker confirms to it."""
        packet = passage.packet
        key = (passage.connection, packet.packet_id)
        if packet.kind is PacketKind.PUBLISH and passage.direction is Direction.TO_BROKER:
            topic, payload = packet.publication(passage.protocol_level)
            self._on_their_way[key] = list(_keys(topic, payload))
        elif packet.kind is PacketKind.PUBACK and passage.direction is Direction.TO_CLIENT:
            keys = self._on_their_way.pop(key)
            if not passage.is_dropped and not _is_refusal(packet.raw):
                self._confirmed.update(keys)

    def on_acked(self, device: str, boot: int, seq: int) -> None:
        """Judge: the board has just read that this sample is safe."""
        key = Key(device, boot, seq)
        if key not in self._confirmed and key not in self._stored:
            self._stored.update(self._look(device))
        if key in self._confirmed:
            self.told[device, "broker"] += 1
        elif key in self._stored:
            self.told[device, "disk"] += 1
        else:
            self.too_early.append(key)
        self._changed.set()

    async def until(self, reached: Callable[[], object]) -> None:
        """Return once `reached` is true; it is asked whenever a board was told something.

        Raises:
            AssertionError: a board was told of a sample that nobody had.
        """
        while not reached():
            self._changed.clear()
            await self._changed.wait()
            assert not self.too_early, f"told to be safe too early: {self.too_early}"

    def _look(self, device: str) -> Iterator[Key]:
        if not self._database.is_file():
            return
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                return
            query = "SELECT boot, first_seq, last_seq FROM records WHERE device = ?"
            for boot, first_seq, last_seq in connection.execute(query, (device,)):
                for seq in range(first_seq, last_seq + 1):
                    yield Key(device, boot, seq)


def _keys(topic: str, payload: bytes) -> Iterator[Key]:
    kind = topic.rpartition("/")[2]
    if kind in {"state", "history"}:
        document = json.loads(payload)
        for sample in document if kind == "history" else [document]:
            device, boot, seq = sample["id"].split("/")
            yield Key(device, int(boot), int(seq))


def _is_refusal(puback: bytes) -> bool:
    """Tell whether a PUBACK has a reason code that says no (MQTT 5, 3.4.2.1)."""
    return len(puback) > 4 and puback[4] >= _FIRST_FAILURE
