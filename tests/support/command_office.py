"""What the office of commands has around it, without a loop, a disk or a broker."""

import itertools
import json
import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gateway.clock import Clock
from gateway.commands.office import Office, Road
from gateway.errors import StoreError
from gateway.model import Actuator, Description
from gateway.mqtt.incoming import Incoming
from gateway.status import Status
from gateway.store import journal
from gateway.store.state_changes import Change

BASE = "edge/test"
_Queued = tuple[float, Change, Callable[[StoreError | None], None] | None, float]
NEVER = float("inf")


@dataclass
class MemoryJournal:
    """The disk: SQLite in memory, and a queue of what is not on it yet."""

    now_s: Callable[[], float]
    commit_s: float = 0.0
    """How long a commit takes."""
    is_failing: bool = False
    commits: int = 0
    database: sqlite3.Connection = field(
        default_factory=lambda: sqlite3.connect(":memory:", isolation_level=None)
    )
    _queue: deque[_Queued] = field(default_factory=deque)

    def __post_init__(self) -> None:
        for statement in journal.VERSION_2:
            self.database.execute(statement)

    @property
    def due_s(self) -> float:
        if not self._queue:
            return NEVER
        patience_s = min(given_up_s for *_, given_up_s in self._queue)
        return patience_s if self.is_failing else min(self._queue[0][0], patience_s)

    def submit(
        self,
        change: Change,
        on_done: Callable[[StoreError | None], None] | None = None,
        patience_s: float | None = None,
    ) -> None:
        """Queue a change."""
        now_s = self.now_s()
        given_up_s = NEVER if patience_s is None else now_s + patience_s
        self._queue.append((now_s + self.commit_s, change, on_done, given_up_s))

    def work(self) -> None:
        """Commit what is due, in its order; give up what had to be on the disk by now."""
        while self._queue and self._queue[0][0] <= self.now_s() and not self.is_failing:
            _, change, on_done, _ = self._queue.popleft()
            self.commits += 1
            for sql, rows in change:
                self.database.executemany(sql, rows)
            if on_done is not None:
                on_done(None)
        late = [entry for entry in self._queue if entry[3] <= self.now_s()]
        for entry in late:
            self._queue.remove(entry)
            if entry[2] is not None:
                entry[2](StoreError("the disk is slow"))

    def crash(self, *, is_late: bool) -> None:
        """Lose what is not on the disk; if it is late, that which nobody was told of is."""
        while self._queue and is_late and not self.is_failing:
            for sql, rows in self._queue.popleft()[1]:
                self.database.executemany(sql, rows)
        self._queue.clear()

    def entries(self) -> list[journal.Entry]:
        """Read it."""
        return journal.load(lambda query: self.database.execute(query).fetchall())


@dataclass
class MemoryBroker:
    """Keeps messages until they are confirmed, and results that it has got."""

    results: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """By topic."""
    correlations: list[tuple[str, bytes | None]] = field(default_factory=list)
    remarks: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _open: dict[int, Incoming] = field(default_factory=dict)
    _confirmed: deque[int] = field(default_factory=deque)
    _sent: "deque[tuple[str, bytes, bytes | None, Callable[[bool], None]]]" = field(
        default_factory=deque
    )
    _packet_ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def publish(self, office: Office, topic: str, payload: object, **more: Any) -> None:  # noqa: ANN401  # any field of Incoming
        """Let a client publish below the base; bytes are taken as they are, else it is JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        packet_id = next(self._packet_ids)
        message = Incoming(
            f"{BASE}/{topic}",
            body,
            is_retained=False,
            is_again=False,
            packet_id=packet_id,
            done=partial(self._confirmed.append, packet_id),
        )
        self._open[packet_id] = message = replace(message, **more)
        office.hear(message)

    def redeliver(self, office: Office) -> None:
        """Deliver again what was not confirmed, as on a new connection in the old session."""
        for message in list(self._open.values()):
            office.hear(replace(message, is_again=True))

    @property
    def unconfirmed(self) -> int:
        return len(self._open)

    def send(
        self,
        topic: str,
        payload: bytes,
        *,
        correlation: bytes | None = None,
        on_done: Callable[[bool], None] = lambda _taken: None,
    ) -> None:
        """Take a result of the gateway's; it is on its way until `work`."""
        self._sent.append((topic, payload, correlation, on_done))

    def post(self, subtopic: str, payload: bytes) -> None:
        """Take a remark."""
        self.remarks.append((subtopic, json.loads(payload)))

    def work(self) -> None:
        """Let what is on its way arrive."""
        while self._sent:
            topic, payload, correlation, on_done = self._sent.popleft()
            self.results[topic].append(json.loads(payload))
            self.correlations.append((topic, correlation))
            on_done(True)

        while self._confirmed:
            self._open.pop(self._confirmed.popleft(), None)

    def crash(self) -> None:
        """Lose what is on its way, in both directions."""
        self._sent.clear()
        self._confirmed.clear()


@dataclass
class MemoryDevice:
    """A device that may be told something."""

    key: str
    description: Description
    is_enabled: bool = True
    predecessors: tuple[str, ...] = ()


class MemoryDirectory:
    """Who is there; levels are keys."""

    def __init__(self, *devices: MemoryDevice) -> None:
        self._devices = {device.key: device for device in devices}

    def add(self, device: MemoryDevice) -> None:
        self._devices[device.key] = device

    def find(self, name: str) -> MemoryDevice | None:
        return self._devices.get(name)

    get = find

    def remove(self, key: str) -> None:
        del self._devices[key]

    def heir(self, key: str) -> MemoryDevice | None:
        if key in self._devices:
            return None
        return next((each for each in self._devices.values() if key in each.predecessors), None)

    def who_is(self, name: str) -> str:
        return "; the lamp is lamp_2 in topics" if name == "lamp" else ""


def board(key: str, *actuators: Actuator) -> MemoryDevice:
    """Return a board with our firmware."""
    return MemoryDevice(key, Description(key, key, "board", actuators=actuators))


def make_office(  # noqa: PLR0913  # what is around it
    clock: Clock,
    store: MemoryJournal,
    broker: MemoryBroker,
    directory: MemoryDirectory,
    road: Road,
    *,
    is_loaded: bool = True,
) -> Office:
    """Make an office of a new run, which takes up what the journal has."""
    office = Office(
        base_topic=BASE,
        session=f"s{next(_RUNS)}",
        clock=clock,
        status=Status(),
        directory=directory,
        journal=store,
        outlet=broker,
        road=road,
        kept_topics=("homeassistant",),
    )
    if is_loaded:
        office.take(store.entries())
    return office


_RUNS = itertools.count(1)
