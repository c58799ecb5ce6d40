"""A light simulated board: the firmware's session and ring, without its sensors and process."""

import asyncio
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway import __version__
from gateway.simulate.faults import FaultPlan, LinkAction
from gateway.simulate.firmware import load_modules
from gateway.simulate.pty_port import PtyPort
from gateway.simulate.wire import Wire

STREAM = (
    "light",
    "Ih",
    (("number", "", 0, ""), ("temperature", "°C", -2, "temperature")),
)
"""The one stream of a light board: name, struct format, channels."""

_RECORD = struct.Struct("<BBIIh")
"""Length, stream, mono_ms, and the values of STREAM."""

_MAX_LINE = 400
"""Longest line a board takes, in bytes (P2)."""


def temperature_of(number: int) -> int:
    """Return the temperature of a sample in hundredths of a degree, from its number."""
    return 1800 + number * 37 % 800


class _Ring(Protocol):
    """`board.ring.Ring`."""

    count: int
    first: int
    lost: int

    def push(self, record: bytes, n: int) -> int: ...


class _Session(Protocol):
    """`board.session.Session`."""

    epoch: int
    joined: bool
    batches_resent: int

    def on_line(self, line: bytes, now_ms: int) -> None: ...
    def next_line(self, now_ms: int) -> bytes | None: ...
    def due_ms(self, now_ms: int) -> int: ...
    def bye(self, back_in_ms: int) -> None: ...
    def report(self, actuator: int) -> None: ...


@dataclass(frozen=True, slots=True)
class BoardCode:
    """The firmware's classes; loaded once for all boards."""

    make_ring: Callable[[int], _Ring]
    make_session: Callable[..., _Session]
    """Takes what HELLO says, the ring, the epoch, streams, actuators and commands."""


def load_board_code() -> BoardCode:
    """Load the firmware's ring and session.

    Raises:
        ConfigError: the firmware is missing.
    """
    session, ring = load_modules("board.session", "board.ring")
    return BoardCode(make_ring=ring.Ring, make_session=session.Session)


class Relay:
    """A switch, as `actuators/relay.py` of the firmware describes itself, without a pin."""

    key = "relay"

    def __init__(self) -> None:
        self.state = False
        self.settings = 0
        """How often it was set."""

    def describe(self) -> dict[str, object]:
        """Return what ACTUATOR says."""
        return {"k": self.key, "n": "Relay", "t": "switch", "state": self.state}

    def set(self, arguments: Mapping[str, bool]) -> Mapping[str, bool]:
        """Do the command `set`."""
        self.state = arguments[self.key]
        self.settings += 1
        return {self.key: self.state}


@dataclass(slots=True)
class Life:
    """What a board produced from one power on to the next; sample `seq` has number first + seq."""

    epoch: int
    first_number: int
    produced: int = 0
    acked: int = 0
    """Samples the gateway has declared safe: those with a smaller seq."""
    overflowed: int = 0
    """Samples the ring dropped, which the gateway publishes as gaps."""


class LightBoard:
    """One board on one pty; works by callbacks of the running loop.

    The samples are numbered over all its lives, and their values follow from the number, so what
    arrives can be compared with what was produced.
    """

    def __init__(  # noqa: PLR0913 each says something about the board
        self,
        code: BoardCode,
        path: Path,
        name: str,
        *,
        interval_s: float,
        ring_bytes: int = 2048,
        epoch: int = 1,
        plan: FaultPlan | None = None,
        has_relay: bool = False,
    ) -> None:
        """Make a board that is still unplugged.

        Args:
            code: the firmware's classes.
            path: where its port appears.
            name: its id.
            interval_s: seconds from sample to sample.
            ring_bytes: memory for samples that are not safe; each takes 12 bytes.
            epoch: of its first life.
            plan: what goes wrong on its wire.
            has_relay: whether it has something to be told.
        """
        self.relay = Relay() if has_relay else None
        self.path = path
        self.name = name
        self.lives: list[Life] = []
        self.resets = 0
        """Soft resets so far."""
        self.is_producing = True
        """Whether it takes samples; without, it goes on delivering what it has."""
        self.on_activity: Callable[[], None] | None = None
        """Called after it took a sample, or something arrived."""
        self.wire = Wire(PtyPort(path), self._on_data, plan, {LinkAction.RESTART: self.power_cycle})
        self._code = code
        self._interval_s = interval_s
        self._ring_bytes = ring_bytes
        self._next_epoch = epoch
        self._number = 0
        self._reset_cause = "power_on"
        self._input = b""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def waiting(self) -> int:
        """Samples that are not acknowledged yet."""
        return self._ring.count

    @property
    def is_joined(self) -> bool:
        """Whether the gateway has welcomed it."""
        return self._session.joined

    @property
    def produced(self) -> int:
        """Samples taken over all its lives."""
        return self._number

    @property
    def batches_resent(self) -> int:
        """Frames with samples that were sent again, since the last reset."""
        return self._session.batches_resent

    def open(self, phase: float = 0.0) -> None:
        """Switch it on and plug it in; the first sample comes after `phase` (0..1) intervals."""
        self._loop = asyncio.get_running_loop()
        self.wire.open()
        self._power_on(phase)

    def close(self) -> None:
        """Unplug it and switch it off; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wire.close()

    def soft_reset(self) -> None:
        """Start the session anew; ring, epoch and clock survive, as in a board's RTC memory."""
        self.resets += 1
        self._reset_cause = "soft"
        self._start_session(self.lives[-1].epoch)
        self._pump()

    def power_cycle(self) -> None:
        """Lose all that is not acknowledged, and start in a new epoch."""
        self._reset_cause = "power_on"
        self._power_on(1.0)

    def _power_on(self, phase: float) -> None:
        self._boot_s = self._loop.time()
        self._sample_s = self._boot_s + phase * self._interval_s
        self._ring = self._code.make_ring(self._ring_bytes)
        self.lives.append(Life(self._next_epoch, self._number))
        self._start_session(self._next_epoch)
        self._pump()

    def _start_session(self, epoch: int) -> None:
        hello: dict[str, object] = {
            "id": self.name,
            "name": self.name,
            "fw": __version__,
            "plat": "light",
            "rst": self._reset_cause,
            "n": len(self.lives) << 16 | self.resets & 0xFFFF,
        }
        self._input = b""
        actuators = () if self.relay is None else (self.relay,)
        commands = {} if self.relay is None else {"set": self._set}
        self._session = self._code.make_session(
            hello, self._ring, epoch, (STREAM,), actuators, commands
        )

    def _set(self, arguments: Mapping[str, bool]) -> Mapping[str, bool]:
        """Do the command `set`, and have the session report the state, as the firmware does."""
        if self.relay is None:
            return {}
        try:
            return self.relay.set(arguments)
        finally:
            self._session.report(0)

    def _on_data(self, data: bytes) -> None:
        *lines, self._input = (self._input + data).split(b"\n")
        if len(self._input) > _MAX_LINE:
            self._input = b""
        session, now_ms = self._session, self._now_ms()
        for line in lines:
            session.on_line(line, now_ms)
        self._note()
        self._pump()
        if self.on_activity is not None:
            self.on_activity()

    def _on_timer(self) -> None:
        self._timer = None
        while self._sample_s <= self._loop.time():
            self._sample_s += self._interval_s
            if self.is_producing:
                self._take_sample()
        self._pump()
        if self.on_activity is not None:
            self.on_activity()

    def _take_sample(self) -> None:
        number = self._number
        record = _RECORD.pack(
            _RECORD.size, 0, self._now_ms() & 0xFFFFFFFF, number, temperature_of(number)
        )
        self._ring.push(record, len(record))
        self._number = number + 1
        self.lives[-1].produced += 1
        self.lives[-1].overflowed = self._ring.lost

    def _pump(self) -> None:
        """Send what is due, and come back when something will be."""
        session, now_ms = self._session, self._now_ms()
        lines = []
        while (line := session.next_line(now_ms)) is not None:
            lines.append(line)
        if lines:
            self.wire.send(b"".join(lines))
        due_s = min(self._sample_s, self._loop.time() + session.due_ms(now_ms) / 1000)
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return  # it comes early and looks again, which is cheaper than moving it
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._on_timer)

    def _note(self) -> None:
        """Remember what the session says, so that it outlives it."""
        life = self.lives[-1]
        life.epoch = self._session.epoch
        life.acked = self._ring.first - self._ring.lost
        life.overflowed = self._ring.lost
        self._next_epoch = (life.epoch + 1) & 0xFFFF

    def _now_ms(self) -> int:
        return int((self._loop.time() - self._boot_s) * 1000)
